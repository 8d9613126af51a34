package main

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// This file holds together what says which options there are: the table, the
// usage text, the manual page, and a list of its own.

// wantOptions is what cr_run accepts, written out once more and not derived from
// the table, so that an option lost or added is noticed. Those in one string are
// synonyms.
var wantOptions = []string{"-? --help", "--version", "--run", "--omit", "--"}

func TestTable(t *testing.T) {
	var names []string
	for _, synonyms := range wantOptions {
		words := strings.Fields(synonyms)
		for _, word := range words {
			if options[word] == 0 || options[word] != options[words[0]] {
				t.Errorf("%s: not in the table, or not with these synonyms", synonyms)
			}
		}
		names = append(names, words...)
	}
	if len(options) != len(names) {
		t.Errorf("the table has %d options, the list %d", len(options), len(names))
	}
}

func TestUsageForm(t *testing.T) {
	// Behind the command's name; it is BLCR's first line.
	first, _, _ := strings.Cut(usage, "\n")
	if want := ": program [args...]"; first != want {
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
	var listed []string
	for line := range strings.Lines(usage) {
		if strings.HasPrefix(line, "  ") {
			// The description begins after two spaces.
			column, _, _ := strings.Cut(strings.TrimSpace(line), "  ")
			listed = append(listed, strings.ReplaceAll(column, ",", ""))
		}
	}
	compare(t, listed)
	for _, m := range regexp.MustCompile(`(?:^|[\s(])(-[-a-z?]*)`).FindAllStringSubmatch(usage, -1) {
		if options[m[1]] == 0 {
			t.Errorf("%s: mentioned, but no option", m[1])
		}
	}
}

func TestManOptions(t *testing.T) {
	page, err := os.ReadFile("../../man/cr_run.1")
	if err != nil {
		t.Fatal(err)
	}
	var listed []string
	for line := range strings.Lines(string(page)) {
		names := manFlags(line)
		if strings.HasPrefix(line, ".It Fl ") {
			listed = append(listed, strings.Join(names, " "))
		}
		for _, name := range names {
			if options[name] == 0 {
				t.Errorf("%s: mentioned, but no option", name)
			}
		}
	}
	compare(t, listed)
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

// compare checks that a text lists all options, each once and with its synonyms.
func compare(t *testing.T, listed []string) {
	t.Helper()
	want := slices.Sorted(slices.Values(wantOptions))
	if slices.Sort(listed); !slices.Equal(listed, want) {
		t.Errorf("the text has %q, want %q", listed, want)
	}
}
