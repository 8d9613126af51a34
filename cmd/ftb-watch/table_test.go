package main

import (
	"testing"

	"blcr-cli/test/getopttest"
)

// The usage text, the manual page and the completions have the command's options.
func TestDocuments(t *testing.T) {
	getopttest.Documents(t, getopttest.Command{
		Name: name, Table: getopttest.Flags(flags()), Usage: usage, First: "Usage: ftb-watch [options] [MASK]",
	})
}
