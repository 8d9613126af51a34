package getopttest

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"blcr-cli/internal/cli/getopt"
	"blcr-cli/internal/completion"
)

// update has the completions written in place of being compared:
// "make completions".
var update = flag.Bool("update", false, "write the completions that the option tables give")

// Command is everything that says which options a command has. The list that is
// the description for completions is written by hand and not derived from the
// table, so that an option lost or added is noticed.
type Command struct {
	completion.Command
	Table getopt.Table
	// Words is for a command that does not use getopt: its table is only names.
	Words bool
	Usage string
	First string // the usage text's first line, which is BLCR's
	// Unlisted are options that the usage text keeps to itself, and Foreign
	// what it has that looks like one.
	Unlisted []string
	Foreign  []string
}

// Documents checks, in a directory of cmd, that table, list, usage text, manual
// page and completions have the same options.
func Documents(t *testing.T, c Command) {
	t.Run("table", c.testTable)
	t.Run("usage", c.testUsage)
	t.Run("manual", c.testManual)
	t.Run("completions", c.testCompletions)
}

func (c Command) testTable(t *testing.T) {
	if err := c.Table.Check(); err != nil && !c.Words {
		t.Fatal(err)
	}
	if err := c.Command.Check(); err != nil {
		t.Fatal(err)
	}
	listed := map[string]completion.Option{}
	for _, o := range c.Options {
		if _, ok := listed[o.Names]; ok {
			t.Errorf("%s: in the list twice", o.Names)
		}
		listed[o.Names] = o
	}
	for _, o := range c.Table {
		names := strings.Join(o.Names(), " ")
		want, ok := listed[names]
		delete(listed, names)
		if !ok {
			t.Errorf("%s: not in the list, or not with these synonyms", names)
			continue
		}
		arg := getopt.RequiredArgument
		switch {
		case want.Value.IsNone():
			arg = getopt.NoArgument
		case want.Value.IsOptional():
			arg = getopt.OptionalArgument
		}
		if o.Arg != arg {
			t.Errorf("%s: Arg is %d, by the list %d", names, o.Arg, arg)
		}
		if o.Exact != want.Ours {
			t.Errorf("%s: Exact is %t; it is to be so for options that BLCR does not have, and the list says %t", names, o.Exact, want.Ours)
		}
	}
	for names := range listed {
		t.Errorf("%s: not in the table", names)
	}
}

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
		o, _ := c.Table.Lookup(e.names[len(e.names)-1])
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
		missing[strings.Join(o.Names(), " ")] = true
	}
	for _, e := range listed {
		// getopt has -? of its own.
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
	if _, ok := c.Table.Lookup(name); !ok && name != "-?" {
		t.Errorf("%s: mentioned, but no option", name)
	}
}

func (c Command) testCompletions(t *testing.T) {
	for file, want := range map[string]string{
		"bash/" + c.Name:           c.Bash(),
		"zsh/_" + c.Name:           c.Zsh(),
		"fish/" + c.Name + ".fish": c.Fish(),
	} {
		file = filepath.Join("../../completions", file)
		if *update {
			if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		got, err := os.ReadFile(file)
		if err != nil || string(got) != want {
			t.Errorf("%s is not what the list of options gives: make completions (%v)", file, err)
		}
	}
}
