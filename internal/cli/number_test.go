package cli

import "testing"

func TestInt(t *testing.T) {
	for _, test := range []struct {
		in   string
		want int32
		ok   bool
	}{
		{"0", 0, true},
		{"12", 12, true},
		{"011", 11, true},
		{"  7", 7, true},
		{"\t\n\v\f\r 7", 7, true},
		{"-5", -5, true},
		{"+5", 5, true},
		{" -0", 0, true},
		{"2147483647", 2147483647, true},
		{"2147483648", -2147483648, true},
		{"4294967297", 1, true},
		{"9223372036854775807", -1, true},  // LONG_MAX
		{"9223372036854775808", -1, true},  // clamped to LONG_MAX
		{"99999999999999999999", -1, true}, // clamped as well
		{"-9223372036854775808", 0, true},
		{"-9223372036854775809", 0, true}, // LONG_MIN
		{"-99999999999999999999", 0, true},
		{"", 0, false},
		{" ", 0, false},
		{"+", 0, false},
		{"-", 0, false},
		{"--5", 0, false},
		{"- 5", 0, false},
		{"5 ", 0, false},
		{"0x9", 0, false},
		{"9x", 0, false},
		{"x", 0, false},
		{"1e3", 0, false},
		{"\xa05", 0, false},
	} {
		n, ok := ParseInt(test.in)
		if n != test.want || ok != test.ok {
			t.Errorf("ParseInt(%q) = %d, %t; want %d, %t", test.in, n, ok, test.want, test.ok)
		}
	}
}
