package main

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"blcr-cli/internal/getopt"
	"blcr-cli/internal/getopt/getopttest"
)

// This file holds together what says which options there are: the table, the
// usage text, the manual page, and BLCR's own list.

const (
	no       = getopt.NoArgument
	required = getopt.RequiredArgument
	optional = getopt.OptionalArgument
)

// blcrOptions is what BLCR's cr_checkpoint accepts, written out once more and
// not derived from the table, so that an option lost or added is noticed. The
// names in one string are synonyms.
var blcrOptions = map[string]getopt.Arg{
	"-v --verbose": no,
	"-q --quiet":   no,
	"-h --help":    no,
	"--version":    no,

	"-T --tree":          no,
	"-p --pid --process": no,
	"-g --pgid --group":  no,
	"-s --sid --session": no,

	"-c --cwd":  no,
	"-d --dir":  required,
	"-f --file": required,
	"-F --fd":   required,

	"--atomic":    no,
	"--backup":    optional,
	"--clobber":   no,
	"--noclobber": no,

	"-S --signal":  required,
	"--run":        no,
	"--stop":       no,
	"--term":       no,
	"--abort":      no,
	"--kill":       no,
	"--cont":       no,
	"--early-stop": no,
	"--early-abrt": no,

	"--sync":   no,
	"--nosync": no,

	"--save-exe":     no,
	"--save-private": no,
	"--save-shared":  no,
	"--save-all":     no,
	"--save-none":    no,

	"--ptraced-error": no,
	"--ptraced-skip":  no,
	"--ptraced-allow": no,
	"--ptracer-error": no,
	"--ptracer-skip":  no,

	"--kmsg-none":    no,
	"--kmsg-error":   no,
	"--kmsg-warning": no,

	"-t --time": required,
}

// ourOptions are those that BLCR does not have.
var ourOptions = map[string]getopt.Arg{
	"--compress": optional,
}

// unlisted are options that BLCR's usage text keeps to itself, and so does ours.
var unlisted = []string{"--early-stop", "--early-abrt"}

func TestTable(t *testing.T) {
	if err := options.Check(); err != nil {
		t.Fatal(err)
	}
	missing := map[string]bool{}
	for _, list := range []map[string]getopt.Arg{blcrOptions, ourOptions} {
		for names := range list {
			missing[names] = true
		}
	}
	for _, o := range options {
		list := blcrOptions
		if o.Exact {
			list = ourOptions
		}
		names := strings.Join(o.Names(), " ")
		delete(missing, names)
		switch arg, ok := list[names]; {
		case !ok:
			t.Errorf("%s: not an option of BLCR, or ours, or not with these synonyms", names)
		case arg != o.Arg:
			t.Errorf("%s: Arg is %d, want %d", names, o.Arg, arg)
		}
	}
	for names := range missing {
		t.Errorf("%s: not in the table", names)
	}
}

func TestAgainstGlibc(t *testing.T) {
	getopttest.AgainstGlibc(t, options, getopttest.Lines(t), 1)
}

func TestExactUnseen(t *testing.T) {
	getopttest.ExactUnseen(t, options, getopttest.Lines(t), 1)
}

func TestUsageForm(t *testing.T) {
	first, _, _ := strings.Cut(usage, "\n")
	if want := "Usage: cr_checkpoint [options] ID"; first != want {
		t.Errorf("first line %q, want %q", first, want)
	}
	for line := range strings.Lines(usage) {
		if n := len(strings.TrimSuffix(line, "\n")); n > 80 {
			t.Errorf("%d columns: %q", n, line)
		}
		if strings.ContainsFunc(line, func(r rune) bool { return r != '\n' && (r < ' ' || r > '~') }) {
			t.Errorf("not plain ASCII: %q", line)
		}
	}
	if !strings.HasSuffix(usage, ".\n") {
		t.Error("does not end with a line")
	}
}

func TestUsageOptions(t *testing.T) {
	var listed []entry
	for line := range strings.Lines(usage) {
		if strings.HasPrefix(line, "  ") && strings.HasPrefix(strings.TrimSpace(line), "-") {
			// The description begins after two spaces.
			column, _, _ := strings.Cut(strings.TrimSpace(line), "  ")
			listed = append(listed, entry{nameInUsage.FindAllString(column, -1), column})
		}
	}
	compareEntries(t, listed, unlisted)
	// -f <file> and --file=<file>, [=<name>] for an argument that may be left out.
	for _, e := range listed {
		o, _ := options.Lookup(e.names[len(e.names)-1])
		got := no
		switch {
		case strings.Contains(e.text, "[=<"):
			got = optional
		case strings.Contains(e.text, "<"):
			got = required
		}
		if got != o.Arg {
			t.Errorf("%s: the text shows Arg %d, the table has %d", e.text, got, o.Arg)
		}
	}
	for _, m := range mentionInUsage.FindAllStringSubmatch(usage, -1) {
		checkMention(t, m[1])
	}
}

func TestManOptions(t *testing.T) {
	page, err := os.ReadFile("../../man/cr_checkpoint.1")
	if err != nil {
		t.Fatal(err)
	}
	var listed []entry
	for line := range strings.Lines(string(page)) {
		names := manFlags(line)
		if strings.HasPrefix(line, ".It Fl ") {
			listed = append(listed, entry{names, strings.TrimSpace(line)})
		}
		for _, name := range names {
			checkMention(t, name)
		}
	}
	compareEntries(t, listed, nil)
}

var (
	nameInUsage    = regexp.MustCompile(`--[a-z-]+|-[A-Za-z?]`)
	mentionInUsage = regexp.MustCompile(`(?m)(?:^|[\s(])(--[a-z][a-z-]*|-[A-Za-z?])(?:$|[^A-Za-z-])`)
)

// manFlags returns the options that a line of mdoc(7) shows with Fl macros.
func manFlags(line string) []string {
	if !strings.HasPrefix(line, ".") {
		return nil
	}
	var names []string
	words := strings.Fields(line[1:])
	for i, word := range words {
		if word == "Fl" && i+1 < len(words) {
			names = append(names, "-"+strings.NewReplacer(`\&`, "", `\-`, "-").Replace(words[i+1]))
		}
	}
	return names
}

// entry is one option in a list of options, as documented.
type entry struct {
	names []string
	text  string
}

// compareEntries checks that the list has the table's rows, each once and with
// all of its names, apart from those that may be missing.
func compareEntries(t *testing.T, listed []entry, mayMiss []string) {
	t.Helper()
	missing := map[string]bool{}
	for _, o := range options {
		missing[strings.Join(o.Names(), " ")] = true
	}
	for _, e := range listed {
		// getopt has -? of its own.
		names := slices.DeleteFunc(slices.Clone(e.names), func(s string) bool { return s == "-?" })
		joined := strings.Join(names, " ")
		if !missing[joined] {
			t.Errorf("%s: no row of the table, or listed twice", e.text)
		}
		delete(missing, joined)
	}
	for names := range missing {
		if !slices.Contains(mayMiss, names) {
			t.Errorf("%s: not documented", names)
		}
	}
}

func checkMention(t *testing.T, name string) {
	t.Helper()
	if _, ok := options.Lookup(name); !ok && name != "-?" {
		t.Errorf("%s: mentioned, but no option", name)
	}
}
