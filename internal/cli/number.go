package cli

import "math"

// Integers on command lines are parsed as BLCR's tools do, by C's strtol. The only
// range checked here is that of int.

// ParseInt parses s as `int n = strtol(s, &end, 10)` does in C, and reports whether all
// of it was a number: leading white space and one sign are allowed, anything after the
// digits is not. "011" is 11, and "0x9" is not a number. A value out of the range of
// long is clamped to it. A value that does not fit into an int loses its upper bits, as
// in the assignment on a machine with a 64-bit long.
func ParseInt(s string) (n int32, ok bool) {
	i := 0
	for i < len(s) && isSpace(s[i]) {
		i++
	}
	negative := false
	if i < len(s) && (s[i] == '-' || s[i] == '+') {
		negative = s[i] == '-'
		i++
	}
	if i == len(s) {
		return 0, false
	}
	var value int64
	for ; i < len(s); i++ {
		digit := int64(s[i]) - '0'
		if digit < 0 || digit > 9 {
			return 0, false
		}
		value = appendDigit(value, digit, negative)
	}
	return int32(value), true
}

// appendDigit returns 10*value±digit, clamped to the range of long.
func appendDigit(value, digit int64, negative bool) int64 {
	if negative {
		if value < (math.MinInt64+digit)/10 {
			return math.MinInt64
		}
		return 10*value - digit
	}
	if value > (math.MaxInt64-digit)/10 {
		return math.MaxInt64
	}
	return 10*value + digit
}

// isSpace is C's isspace in the C locale.
func isSpace(c byte) bool {
	return c == ' ' || '\t' <= c && c <= '\r'
}
