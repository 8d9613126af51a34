// Package sigopt is the options by which both commands choose the signal that
// the processes get: -S N, and a name for each of the usual ones. Of all of
// them the last one given counts.
package sigopt

import (
	"errors"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/getopt"
	"blcr-cli/internal/strtol"
)

// max is the largest signal number that -S takes.
const max = 64

// named is the options without an argument. The "early" ones are BLCR's for
// debuggers: they stop or end the processes before their callbacks run.
var named = []struct {
	name   string
	signal int32
}{
	{"run", 0},
	{"stop", int32(unix.SIGSTOP)},
	{"term", int32(unix.SIGTERM)},
	{"abort", int32(unix.SIGABRT)},
	{"kill", int32(unix.SIGKILL)},
	{"cont", int32(unix.SIGCONT)},
	{"early-stop", -int32(unix.SIGSTOP)},
	{"early-abrt", -int32(unix.SIGABRT)},
}

// What is wrong with the argument of -S. ErrRange is BLCR's message.
var (
	ErrNotANumber = errors.New("signal is not a number")
	//lint:ignore ST1005 to the byte
	ErrRange = errors.New("Valid signal numbers are from 1 to 64, inclusive.")
)

// Options returns the table rows, with IDs from first on. Synonyms gives
// options a second name.
func Options(first int, synonyms map[string]string) getopt.Table {
	table := getopt.Table{{ID: first, Short: 'S', Long: []string{"signal"}, Arg: getopt.RequiredArgument}}
	for i, n := range named {
		long := []string{n.name}
		if synonym, ok := synonyms[n.name]; ok {
			long = append(long, synonym)
		}
		table = append(table, getopt.Option{ID: first + 1 + i, Long: long})
	}
	return table
}

// Parse returns the signal that an option of Options(first, …) stands for; mine
// is false for any other option. An error is ErrNotANumber or ErrRange.
func Parse(first int, m getopt.Match) (signal int32, mine bool, err error) {
	i := m.ID - first
	if i < 0 || i > len(named) {
		return 0, false, nil
	}
	if i > 0 {
		return named[i-1].signal, true, nil
	}
	n, ok := strtol.Int(m.Arg)
	if !ok {
		return 0, true, ErrNotANumber
	}
	if n < 1 || n > max {
		return 0, true, ErrRange
	}
	return n, true, nil
}
