package cli

import (
	"errors"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/cli/getopt"
)

// The signal options are the options by which both commands choose the signal that
// the processes get: -S N, and a name for each of the usual ones. Of all of
// them the last one given counts.

// maxSignal is the largest signal number that -S takes.
const maxSignal = 64

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

// What is wrong with the argument of -S. ErrSignalRange is BLCR's message.
var (
	ErrSignalNotANumber = errors.New("signal is not a number")
	//lint:ignore ST1005 to the byte
	ErrSignalRange = errors.New("Valid signal numbers are from 1 to 64, inclusive.")
)

// SignalOptions returns the table rows, with IDs from first on. Synonyms gives
// options a second name.
func SignalOptions(first int, synonyms map[string]string) getopt.Table {
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

// ParseSignal returns the signal that an option of SignalOptions(first, …) stands for; mine
// is false for any other option. An error is ErrSignalNotANumber or ErrSignalRange.
func ParseSignal(first int, m getopt.Match) (signal int32, mine bool, err error) {
	i := m.ID - first
	if i < 0 || i > len(named) {
		return 0, false, nil
	}
	if i > 0 {
		return named[i-1].signal, true, nil
	}
	n, ok := ParseInt(m.Arg)
	if !ok {
		return 0, true, ErrSignalNotANumber
	}
	if n < 1 || n > maxSignal {
		return 0, true, ErrSignalRange
	}
	return n, true, nil
}
