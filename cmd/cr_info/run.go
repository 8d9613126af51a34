package main

import (
	"errors"
	"fmt"
	"io"
	"syscall"

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
			result, err := do(args, con)
			if err == nil {
				return result
			}
			con.Errorf("%s: %s\n", name, message(err))
			if status(err) == statusUsage {
				con.Errorf("%s", usage)
			}
			return max(result, status(err))
		})
}

// do runs the command with these arguments. result is the exit status; with an error, which
// does not concern a FILE, the least one.
func do(args []string, con *cli.Console) (result int, err error) {
	s, err := parse(args, con)
	var text cli.Text
	switch {
	case errors.As(err, &text):
		return 0, con.Print(string(text))
	case err != nil:
		return 0, err
	case s.diff:
		return s.compare(con)
	}
	separator := ""
	for _, file := range s.files {
		names, directory := members(file)
		if directory && !s.json && !s.verify && !s.check {
			good, err := s.list(file, names, separator, con)
			if err != nil {
				return 0, err
			}
			if separator = "\n"; !good {
				result = statusFailed
			}
			continue
		}
		newest := directory
		for _, name := range names {
			r := s.examine(name, con)
			if directory && r.err == syscall.ENOENT { // renamed or removed in between
				continue
			}
			found := r.found()
			if len(found) > 0 || r.checked != nil && len(r.checked.obstacles) > 0 {
				result = statusFailed
			}
			r.newest = newest && len(found) == 0
			newest = newest && !r.newest
			text := ""
			switch {
			case s.json:
				text = r.json()
			case s.verify || s.check:
				text = r.verdict()
				if r.checked != nil {
					text += r.checked.text(name)
				}
			case r.criu != nil || r.blcr != nil:
				text = separator + r.text(len(s.files) > 1, s.colour)
				separator = "\n"
			}
			if text != "" {
				if err := con.Print(text); err != nil {
					return 0, err
				}
			}
			complain(con, name, found)
		}
	}
	return result, nil
}

// complain prints what is wrong with a context.
func complain(con *cli.Console, file string, found []string) {
	for _, line := range found {
		con.Errorf("%s: %s: %s\n", name, show.Text(file), line)
	}
}
