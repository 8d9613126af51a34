package getopttest

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	urfave "github.com/urfave/cli/v2"

	"blcr-cli/internal/cli/getopt"
	"blcr-cli/test/completions"
)

// Command is all lists of a command's options.
type Command struct {
	Name  string
	Table getopt.Table
	// BLCR are the options that the command shares with BLCR's, each with all of its
	// names, and followed by "=" for an argument, "[=]" for an optional one. It is
	// written by hand and not derived from the table, so that a lost or added option is
	// noticed. It is nil for a command that BLCR does not have.
	BLCR []string
	// Words is for a command that does not use getopt: its table is only names.
	Words bool
	Usage string
	First string // the usage text's first line, which is BLCR's
	// Unlisted are options that the usage text does not mention, and Foreign what it
	// contains that looks like an option.
	Unlisted []string
	Foreign  []string
}

// Flags is the table of options that are urfave's flags.
func Flags(flags []urfave.Flag) (table getopt.Table) {
	for i, f := range flags {
		names := f.Names()
		o := getopt.Option{ID: 1 + i, Long: names[:1], Arg: getopt.RequiredArgument}
		if len(names) > 1 {
			o.Short = names[1][0]
		}
		if _, is := f.(*urfave.BoolFlag); is {
			o.Arg = getopt.NoArgument
		}
		table = append(table, o)
	}
	return table
}

// Documents checks, in a directory of cmd, that table, BLCR's options, usage
// text, manual page and completions have the same options.
func Documents(t *testing.T, c Command) {
	t.Run("table", c.testTable)
	t.Run("usage", c.testUsage)
	t.Run("manual", c.testManual)
	t.Run("completions", c.testCompletions)
}

// testTable checks the table by itself and against BLCR's options. Rows that are
// not among those have to be Exact: otherwise they could make an abbreviation
// ambiguous that works with BLCR.
func (c Command) testTable(t *testing.T) {
	if err := Check(c.Table); err != nil && !c.Words {
		t.Fatal(err)
	}
	if c.BLCR == nil {
		return
	}
	var got []string
	for _, o := range c.Table {
		if !o.Exact {
			got = append(got, strings.Join(Names(o), " ")+argument[o.Arg])
		}
	}
	for _, o := range got {
		if !slices.Contains(c.BLCR, o) {
			t.Errorf("%s: not an option of BLCR's like this, and not Exact", o)
		}
	}
	for _, o := range c.BLCR {
		if !slices.Contains(got, o) {
			t.Errorf("%s: not in the table like this", o)
		}
	}
}

var argument = map[getopt.Arg]string{getopt.NoArgument: "", getopt.RequiredArgument: "=", getopt.OptionalArgument: "[=]"}

var (
	nameInUsage    = regexp.MustCompile(`--[a-z-]*|-[A-Za-z?]`)
	mentionInUsage = regexp.MustCompile(`(?m)(?:^|[\s(])(--[a-z][a-z-]*|-[A-Za-z?])(?:$|[^A-Za-z-])`)
)

func (c Command) testUsage(t *testing.T) {
	if first, _, _ := strings.Cut(c.Usage, "\n"); first != c.First {
		t.Errorf("first line %q, want %q", first, c.First)
	}
	if !strings.HasSuffix(c.Usage, ".\n") {
		t.Error("does not end with a line")
	}
	var listed []entry
	for line := range strings.Lines(c.Usage) {
		if n := len(strings.TrimSuffix(line, "\n")); n > 80 {
			t.Errorf("%d columns: %q", n, line)
		}
		if strings.ContainsFunc(line, func(r rune) bool { return r != '\n' && (r < ' ' || r > '~') }) {
			t.Errorf("not plain ASCII: %q", line)
		}
		if strings.HasPrefix(line, "  ") && strings.HasPrefix(strings.TrimSpace(line), "-") {
			// The description begins after two spaces.
			column, _, _ := strings.Cut(strings.TrimSpace(line), "  ")
			listed = append(listed, entry{nameInUsage.FindAllString(column, -1), column})
		}
	}
	c.compareEntries(t, listed, c.Unlisted)
	// -f <file> and --file=<file>, [=<name>] for an argument that may be left out.
	for _, e := range listed {
		o, _ := Lookup(c.Table, e.names[len(e.names)-1])
		got := getopt.NoArgument
		switch {
		case strings.Contains(e.text, "[=<"):
			got = getopt.OptionalArgument
		case strings.Contains(e.text, "<"):
			got = getopt.RequiredArgument
		}
		if got != o.Arg {
			t.Errorf("%s: the text shows Arg %d, the table has %d", e.text, got, o.Arg)
		}
	}
	text := c.Usage
	for _, foreign := range c.Foreign {
		text = strings.ReplaceAll(text, foreign, "")
	}
	for _, m := range mentionInUsage.FindAllStringSubmatch(text, -1) {
		c.checkMention(t, m[1])
	}
}

func (c Command) testManual(t *testing.T) {
	page, err := os.ReadFile("../../man/" + c.Name + ".1")
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
			c.checkMention(t, name)
		}
	}
	c.compareEntries(t, listed, nil)
}

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
func (c Command) compareEntries(t *testing.T, listed []entry, mayMiss []string) {
	t.Helper()
	missing := map[string]bool{}
	for _, o := range c.Table {
		missing[strings.Join(Names(o), " ")] = true
	}
	for _, e := range listed {
		// getopt itself handles -?.
		names := slices.DeleteFunc(slices.Clone(e.names), func(s string) bool { return s == "-?" && !c.Words })
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

func (c Command) checkMention(t *testing.T, name string) {
	t.Helper()
	if _, ok := Lookup(c.Table, name); !ok && name != "-?" {
		t.Errorf("%s: mentioned, but no option", name)
	}
}

// testCompletions checks that each shell proposes all options and no others, with the
// argument of the table.
func (c Command) testCompletions(t *testing.T) {
	want := map[string]getopt.Arg{}
	for _, o := range c.Table {
		for _, name := range Names(o) {
			// These two are not completed.
			if name != "-?" && name != "--" {
				want[name] = o.Arg
			}
		}
	}
	for _, shell := range completions.Shells {
		file := completions.File(shell, c.Name)
		text, err := os.ReadFile(filepath.Join("../../completions", file))
		if err != nil {
			t.Error(err)
			continue
		}
		got, err := completions.Options(shell, string(text))
		if err != nil {
			t.Errorf("%s: %v", file, err)
		}
		for _, name := range slices.Sorted(maps.Keys(want)) {
			if arg, ok := got[name]; !ok {
				t.Errorf("%s: no %s", file, name)
			} else if arg != want[name] {
				t.Errorf("%s: %s has Arg %d, in the table %d", file, name, arg, want[name])
			}
		}
		for name := range got {
			if _, ok := want[name]; !ok {
				t.Errorf("%s: %s is no option", file, name)
			}
		}
	}
}
