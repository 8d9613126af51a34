package main

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"blcr-cli/internal/cli/getopt"
	"blcr-cli/test/getopttest"
)

func TestDocuments(t *testing.T) { getopttest.Documents(t, command) }

var command = getopttest.Command{
	Name:  "cr_run",
	Table: table(),
	Words: true,
	Usage: usage,
	First: ": program [args...]", // after the command's name
	BLCR:  []string{"-? --help", "--version", "--run", "--omit", "--"},
}

// table returns the options as rows. Options with the same meaning are synonyms.
func table() getopt.Table {
	rows := map[option]getopt.Option{}
	for _, word := range slices.Sorted(maps.Keys(options)) {
		o := rows[options[word]]
		if long, ok := strings.CutPrefix(word, "--"); ok {
			o.Long = append(o.Long, long)
		} else {
			o.Short = word[1]
		}
		rows[options[word]] = o
	}
	return slices.Collect(maps.Values(rows))
}
