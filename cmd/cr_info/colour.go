package main

import (
	"io"
	"os"

	"github.com/mattn/go-isatty"

	"blcr-cli/internal/cli"
)

// colour says whether words are coloured: on terminals, unless the environment forbids it.
type colour bool

func colourOf(stdout io.Writer) colour {
	fd, ok := stdout.(cli.FD)
	term := os.Getenv("TERM")
	return colour(ok && os.Getenv("NO_COLOR") == "" && term != "" && term != "dumb" && isatty.IsTerminal(uintptr(fd)))
}

// good and bad return text in green and in red.
func (c colour) good(text string) string { return c.with("32", text) }
func (c colour) bad(text string) string  { return c.with("31", text) }

func (c colour) with(code, text string) string {
	if !c {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// state returns the word for the state of a context in its colour.
func (c colour) state(word string) string {
	if word == "complete" {
		return c.good(word)
	}
	return c.bad(word)
}
