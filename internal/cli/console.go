package cli

import (
	"fmt"
	"io"
	"syscall"

	"blcr-cli/internal/entry"
)

// The console is what the commands print and where: results on stdout, everything
// else on stderr, nothing there after -q, more after -v, and details with BLCR's
// "- " in front. On success nothing goes to stderr unless it was asked for.

// Kmsg says when the lines that an engine logged of a request are shown.
type Kmsg int

// The levels of --kmsg-none, --kmsg-error and --kmsg-warning. The zero value is
// BLCR's default.
const (
	KmsgError   Kmsg = iota // when the request fails
	KmsgWarning             // always
	KmsgNone                // never
)

// Console is a command's two streams. The zero Level says errors and no more.
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

// Print writes a result to stdout. An error is an *[OutputError]; it is EBADF where
// the caller has closed stdout, in place of which the Go runtime opens /dev/null.
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

// Notef prints what only a verbose command says.
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

// Progress shows how far something has come that takes long, if stderr is a
// terminal and unless quiet. The caller stops it before anything else is said.
func (c *Console) Progress(what string, meter Meter) *ProgressLine {
	fd, ok := c.Stderr.(FD)
	if !ok || c.Level < 0 {
		return nil
	}
	return startProgress(int(fd), what, meter)
}
