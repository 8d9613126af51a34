// Package show formats values for messages and reports that were not written by this
// program: names, lines of another program, sizes, signals.
//
// How a value is shown in a line for people belongs here. Sentences do not, nor does a
// format that a program reads. It imports nothing of this module.
package show

import (
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// Name returns a name (of a file, a user, a process) for a line: unchanged, or quoted
// like a Go string if it is empty, begins or ends with a blank, or contains a character
// that cannot be shown.
func Name(name string) string {
	quoted := strconv.Quote(name)
	if len(quoted) != len(name)+2 || name == "" || strings.Trim(name, " ") != name || strings.ContainsRune(name, utf8.RuneError) {
		return quoted
	}
	return name
}

// Text returns s with Go's escapes for all characters that cannot be shown or that
// control a terminal, including line feeds.
func Text(s string) string {
	var b strings.Builder
	for i, r := range s {
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(s[i:], "\ufffd"):
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case strconv.IsPrint(r):
			b.WriteRune(r)
		default:
			quoted := strconv.QuoteRune(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		}
	}
	return b.String()
}

// Size returns a number of bytes with a unit, "1.5 GiB", rounded to two or three
// digits. Below 1 KiB it is exact.
func Size[N int64 | uint64](n N) string {
	if n < 1<<10 {
		return fmt.Sprintf("%d B", n)
	}
	value, unit := float64(n)/(1<<10), 0
	const units = "KMGTPE"
	for ; value >= 999.5 && unit < len(units)-1; unit++ {
		value /= 1 << 10
	}
	if value < 9.95 {
		return fmt.Sprintf("%.1f %ciB", value, units[unit])
	}
	return fmt.Sprintf("%.0f %ciB", value, units[unit])
}

// Signal returns the name of a signal, as "SIGTERM", or "signal 34" for one without a name.
func Signal(signal syscall.Signal) string {
	if name := unix.SignalName(signal); name != "" {
		return name
	}
	return fmt.Sprintf("signal %d", int(signal))
}
