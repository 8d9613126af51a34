package cli

import (
	"fmt"
	"io"
)

// The console is what the commands say and to whom: results on stdout,
// everything else on stderr, nothing after -q, more after -v, and the engine's
// log lines with BLCR's "- " in front.
//
// The texts are the commands'; the rules are here: on success not a byte goes
// to stderr unless it was asked for.

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
