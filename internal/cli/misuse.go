package cli

import (
	"fmt"

	"blcr-cli/internal/show"
)

// A Misuse is a fault of a command line in one sentence, without a line feed. BLCR's
// commands print their usage text and do not name the fault.
type Misuse string

func (m Misuse) Error() string { return string(m) }

// MisuseLine is the last line for an error of a command line, below the usage text. The
// error is a Misuse, or a *getopt.Error.
func MisuseLine(err error) string { return "- " + show.Text(err.Error()) }

// NotANumber is the fault of an option, named as typed in full, whose argument has to be
// a number: such as "a number of seconds".
func NotANumber(option, what, arg string) Misuse {
	return Misuse(fmt.Sprintf("option '%s' needs %s, not '%s'", option, what, arg))
}
