package completions_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"blcr-cli/internal/cli/getopt"
	"blcr-cli/test/completions"
)

// Changes of a file cause an error, or another argument. The tests of cr_checkpoint
// check that its own files are correct and complete.
func TestOptions(t *testing.T) {
	for _, c := range []struct {
		shell, old, new string
		name            string // of the option whose argument changes
		want            string // of the error; "" for none
	}{
		{"bash", " --sync ", " ", "--sync", ""},
		{"bash", " --sync ", " --sync --sync ", "", "--sync is proposed twice"},
		{"bash", " --backup= ", " ", "--backup", ""},
		{"bash", " --backup ", " ", "", "--backup= is not proposed behind"},
		{"bash", "--signal | ", "", "--signal", ""},
		{"bash", "--dir | --file", "--dir | --sync | --file", "--sync", ""},
		{"bash", "--dir | --file", "--dir | --nosuch | --file", "", "--nosuch takes the next word"},
		{"bash", "[!dfFSt]", "[!dfFS]", "", "the letters"},
		{"bash", "%%[dfFSt]", "%%[dfFS]", "", "has dfFSt and dfFS"},
		{"bash", "-f | --file | --backup", "-f | --file | --nosuch", "", "--nosuch is mentioned"},
		{"zsh", "'--sync[", "'--nosuch[", "--sync", ""},
		{"zsh", "'--sync[", "'--nosync[", "", "--nosync is proposed twice"},
		{"zsh", "{-t+,--time=}", "{-t,--time=}", "", "in one place only"},
		{"zsh", "seconds]:seconds: ", "seconds]", "", "in one place only"},
		{"zsh", "{-t+,--time=}", "{t+,--time=}", "", "no option"},
		{"zsh", "'--compress=-[", "'--compress=[", "--compress", ""},
		{"zsh", "(-T --tree)", "(-x --tree)", "", "-x is excluded"},
		{"zsh", "(-T --tree)", "(-T --trees)", "", "--trees is "},
		{"fish", "-l sync ", "-l nosuch ", "--sync", ""},
		{"fish", "-l sync ", "-l nosync ", "", "--nosync is proposed twice"},
		{"fish", "-l sync ", "-x -l sync ", "", "long options"},
		{"fish", "-s S -l", "-s t -l", "", "-t is proposed twice"},
		{"fish", "--signal --time;", "--time;", "", "long options"},
		{"fish", "[^dfFSt]", "[^dfFS]", "", "has dfFS and dfFSt"},
		{"fish", "[^dfFSt]*[dfFSt]", "[^dfFS]*[dfFS]", "", "letters"},
		{"fish", "-l backup -F", "-l backup -r -F", "", "long options"},
		{"fish", "-l backup -F", "-l backup", "--backup", ""},
	} {
		text, err := os.ReadFile(filepath.Join(root, completions.File(c.shell, "cr_checkpoint")))
		if err != nil {
			t.Fatal(err)
		}
		was, err := completions.Options(c.shell, string(text))
		if err != nil {
			t.Errorf("%s: %v", c.shell, err)
		}
		changed := strings.Replace(string(text), c.old, c.new, 1)
		if changed == string(text) {
			t.Errorf("%s: no %q", c.shell, c.old)
			continue
		}
		options, err := completions.Options(c.shell, changed)
		switch {
		case c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s, %q for %q: %v, want %q", c.shell, c.new, c.old, err, c.want)
		case c.want == "" && number(was, c.name) == number(options, c.name):
			t.Errorf("%s, %q for %q: no difference", c.shell, c.new, c.old)
		}
	}
}

// number is the option's Arg, or -1 if there is none.
func number(options map[string]getopt.Arg, name string) int {
	if arg, ok := options[name]; ok {
		return int(arg)
	}
	return -1
}
