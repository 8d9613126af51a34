package cli

import "math"

// Numbers: integers off command lines as BLCR's tools do, by C's
// strtol. It knows no option and no range but int's.

// ParseInt reads s as `int n = strtol(s, &end, 10)` does in C, and reports whether
// it was a number as a whole: leading white space and one sign are allowed,
// anything behind the digits is not. "011" is 11, "0x9" is no number. A value
// out of long's range is clamped to it; what does not fit an int loses its
// upper bits, as the assignment does on machines with a 64-bit long.
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

// appendDigit returns 10*value±digit, clamped to long's range.
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
