package main

import (
	"testing"

	"blcr-cli/internal/completion"
	"blcr-cli/test/getopttest"
)

// command is what cr_info accepts, written out once more and not derived from the
// table, so that an option lost or added is noticed. The completions are made from
// this list: "make completions".
var command = getopttest.Command{
	Command: completion.Command{
		Name:    "cr_info",
		Operand: completion.Context,
		Many:    true,
		Options: []completion.Option{
			{Names: "--json", Help: "print JSON, a line for each FILE"},
			{Names: "-q --quiet", Help: "say nothing on stderr"},
			{Names: "-h --help", Help: "print a summary of the options"},
			{Names: "--version", Help: "print the version"},
		},
	},
	Table: options,
	Usage: usage,
	First: "Usage: cr_info [options] FILE...",
}

func TestDocuments(t *testing.T) { getopttest.Documents(t, command) }

func TestAgainstGlibc(t *testing.T) {
	getopttest.AgainstGlibc(t, options, getopttest.Lines(t), 1)
}

func TestExactUnseen(t *testing.T) {
	getopttest.ExactUnseen(t, options, getopttest.Lines(t), 1)
}
