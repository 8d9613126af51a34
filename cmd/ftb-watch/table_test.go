package main

import (
	"testing"

	urfave "github.com/urfave/cli/v2"

	"blcr-cli/internal/cli/getopt"
	"blcr-cli/test/getopttest"
)

// The usage text, the manual page and the completions have the command's options.
func TestDocuments(t *testing.T) {
	var table getopt.Table
	for i, f := range flags() {
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
	getopttest.Documents(t, getopttest.Command{
		Name: name, Table: table, Usage: usage, First: "Usage: ftb-watch [options] [MASK]",
	})
}
