// Package show makes words of a message or a report out of what was not written
// by this program: names, lines of another program, numbers of bytes.
//
// What belongs here is how a value stands in a line for people. What does not
// belong here is any sentence, and any format that a program reads again. It
// imports nothing of this module.
package show

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Name returns a name (of a file, a user, a process) as it stands in a line: as
// it is, or quoted like a string of Go's if it is empty, begins or ends with a
// blank, or has a character in it that cannot be shown.
func Name(name string) string {
	quoted := strconv.Quote(name)
	if len(quoted) != len(name)+2 || name == "" || strings.Trim(name, " ") != name || strings.ContainsRune(name, utf8.RuneError) {
		return quoted
	}
	return name
}

// Text returns s with Go's escape for every character that cannot be shown or
// that a terminal acts upon, the end of a line included.
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
