package cli

import (
	"fmt"
	"io"
	"syscall"

	"github.com/mattn/go-isatty"

	"blcr-cli/internal/entry"
)

// The console determines what a command prints and where: results on stdout, everything
// else on stderr. -q suppresses stderr and -v adds to it. Details begin with "- ", as
// in BLCR. On success nothing is printed on stderr unless it was requested.

// Kmsg selects when the lines that an engine has logged about a request are printed.
type Kmsg int

// The levels of --kmsg-none, --kmsg-error and --kmsg-warning. The zero value is
// BLCR's default.
const (
	KmsgError   Kmsg = iota // when the request fails
	KmsgWarning             // always
	KmsgNone                // never
)

// Console is the two output streams of a command. With the zero Level errors are
// printed and nothing else.
type Console struct {
	Stdout io.Writer
	Stderr io.Writer

	// Level is -1 after -q; each -v adds one.
	Level int
}

// OutputError is an error of writing to stdout.
type OutputError struct{ Err error }

func (e *OutputError) Error() string { return "standard output: " + e.Err.Error() }
func (e *OutputError) Unwrap() error { return e.Err }

// Print writes a result to stdout. An error is an *[OutputError]. It is EBADF if the
// caller has closed stdout; the Go runtime has then opened /dev/null in its place.
func (c *Console) Print(text string) error {
	if entry.Closed(1) {
		return &OutputError{syscall.EBADF}
	}
	if _, err := io.WriteString(c.Stdout, text); err != nil {
		return &OutputError{err}
	}
	return nil
}

// Errorf prints an error or warning, unless quiet.
func (c *Console) Errorf(format string, args ...any) {
	if c.Level >= 0 {
		fmt.Fprintf(c.Stderr, format, args...)
	}
}

// Notef prints a message that only a verbose command prints.
func (c *Console) Notef(format string, args ...any) {
	if c.Level > 0 {
		fmt.Fprintf(c.Stderr, format, args...)
	}
}

// Details prints lines with the prefix that marks them as details of the
// message before or after them, unless quiet.
func (c *Console) Details(lines []string) {
	for _, line := range lines {
		c.Errorf("- %s\n", line)
	}
}

// Terminal reports whether errors are printed, and on a terminal.
func (c *Console) Terminal() bool {
	fd, ok := c.Stderr.(FD)
	return ok && c.Level >= 0 && isatty.IsTerminal(uintptr(fd))
}

// Progress shows the progress of a long operation, if stderr is a terminal and the
// command is not quiet. The caller stops it before it prints anything else.
func (c *Console) Progress(what string, meter Meter) *ProgressLine {
	fd, ok := c.Stderr.(FD)
	if !ok || c.Level < 0 {
		return nil
	}
	return startProgress(int(fd), what, meter)
}
