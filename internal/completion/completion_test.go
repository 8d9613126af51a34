package completion

import (
	"strings"
	"testing"
)

// example has what the commands do not need together, or not yet: any number of
// operands, and a value with proposals that may be left out.
var example = Command{
	Name:    "ex-ample",
	Operand: Context,
	Many:    true,
	Options: []Option{
		{Names: "-f --file", Value: Context, NoOperand: true, Help: "a file"},
		{Names: "--compress", Ours: true, Help: "compressed", Value: Words("method",
			Word{Text: "zstd", Help: "fast"}, Word{Text: "none"}).OrNone()},
	},
}

func TestExample(t *testing.T) {
	if err := example.Check(); err != nil {
		t.Fatal(err)
	}
	for shell, c := range map[string]struct {
		text string
		want []string
	}{
		"bash": {example.Bash(), []string{
			"complete -F _ex_ample ex-ample\n", "--compress --compress=' --", "compgen -W 'zstd none' -- ",
		}},
		"zsh": {example.Zsh(), []string{
			"#compdef ex-ample\n", `'--compress=-[compressed]::method:((zstd\:"fast" none))'`, "'*:context:_files", "'(-f --file *)'{-f+,--file=}'",
		}},
		"fish": {example.Fish(), []string{
			`complete -c ex-ample -l compress -k -a 'zstd\t"fast" none' -d 'compressed'`, "complete -c ex-ample -n __ex_ample_operand",
		}},
	} {
		for _, want := range c.want {
			if !strings.Contains(c.text, want) {
				t.Errorf("%s: no %q in\n%s", shell, want, c.text)
			}
		}
	}
}

func TestCheck(t *testing.T) {
	for _, o := range []Option{
		{Names: "--x"},
		{Help: "x"},
		{Names: "--x", Help: "it's"},
		{Names: "--x", Help: "x", Value: Text("a: b")},
		{Names: "--x", Help: "x", Value: Words("x", Word{Text: "$x"})},
		{Names: "-x --xx", Help: "x", Value: File.OrNone()},
	} {
		if err := (Command{Options: []Option{o}}).Check(); err == nil {
			t.Errorf("%+v: no error", o)
		}
	}
}
