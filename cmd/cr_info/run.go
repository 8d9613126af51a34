package main

import (
	"errors"
	"fmt"
	"io"

	"blcr-cli/internal/cli"
	"blcr-cli/internal/show"
)

const name = "cr_info"

func versionLine() string { return fmt.Sprintf("%s version %s\n", name, cli.Version) }

// run is the command: args is its whole argument vector. It returns the exit
// status.
func run(args []string, stdout, stderr io.Writer) int {
	return cli.Run(name, "tell what is in a context", args, stdout, stderr,
		func(args []string, con *cli.Console) int {
			good, err := do(args, con)
			if err == nil {
				if good {
					return 0
				}
				return statusFailed
			}
			con.Errorf("%s: %s\n", name, message(err))
			if status(err) == statusUsage {
				con.Errorf("%s", usage)
			}
			return status(err)
		})
}

// do runs the command with these arguments. good says that every FILE is a complete
// context. An error does not concern a FILE.
func do(args []string, con *cli.Console) (good bool, err error) {
	s, err := parse(args, con)
	var text cli.Text
	switch {
	case errors.As(err, &text):
		return true, con.Print(string(text))
	case err != nil:
		return false, err
	}
	good = true
	separator := ""
	for _, file := range s.files {
		r := s.examine(file, con)
		found := r.found()
		if len(found) > 0 || r.checked != nil && len(r.checked.obstacles) > 0 {
			good = false
		}
		text := ""
		switch {
		case s.json:
			text = r.json()
		case s.verify || s.check:
			text = r.verdict()
			if r.checked != nil {
				text += r.checked.text(file)
			}
		case r.criu != nil || r.blcr != nil:
			text = separator + r.text(len(s.files) > 1)
			separator = "\n"
		}
		if text != "" {
			if err := con.Print(text); err != nil {
				return false, err
			}
		}
		for _, line := range found {
			con.Errorf("%s: %s: %s\n", name, show.Text(file), line)
		}
	}
	return good, nil
}
