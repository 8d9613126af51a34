package main

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"blcr-cli/internal/cli/getopt"
	"blcr-cli/internal/completion"
	"blcr-cli/test/getopttest"
)

// command is what cr_run accepts, written out once more and not derived from the
// table, so that an option lost or added is noticed. The completions are made from
// this list: "make completions".
var command = getopttest.Command{
	Command: completion.Command{
		Name:    "cr_run",
		Operand: completion.Program,
		Options: []completion.Option{
			{Names: "-? --help", Help: "print a summary of the options"},
			{Names: "--version", Help: "print the version"},
			{Names: "--run", Help: "let checkpoints save the program (default)"},
			{Names: "--omit", Help: "let checkpoints leave the program out"},
			{Names: "--", Help: "end the options"},
		},
	},
	Table: table(),
	Words: true,
	Usage: usage,
	First: ": program [args...]", // behind the command's name
}

// table is the options as rows, those that do the same being synonyms.
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

func TestDocuments(t *testing.T) { getopttest.Documents(t, command) }
