package ctrlsim

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// BLCR's own error numbers, blcr_errcodes.h.
var crErrnos = map[string]int{
	"CR_ETEMPFAIL":  2354,
	"CR_EPERMFAIL":  2355,
	"CR_ENOSUPPORT": 2356,
	"CR_EVERSION":   2357,
	"CR_EOMITTED":   2358,
	"CR_EBADARCH":   2359,
	"CR_EPTRACED":   2360,
	"CR_EPTRACER":   2361,
	"CR_ERSTRTABRT": 2362,
	"CR_ERESTARTED": 2363,
	"CR_ENOTCB":     2364,
	"CR_ENOINIT":    2365,
}

const (
	crEVersion   = 2357
	crEOmitted   = 2358
	crEBadArch   = 2359
	crERestarted = 2363
)

// maxErrno is above every errno of Linux.
const maxErrno = 134

// ParseErrno turns the name of an errno, BLCR's own included, into its number.
func ParseErrno(s string) (int, error) {
	if n, ok := crErrnos[s]; ok {
		return n, nil
	}
	for n := 1; n < maxErrno && s != ""; n++ {
		if unix.ErrnoName(unix.Errno(n)) == s {
			return n, nil
		}
	}
	return 0, fmt.Errorf("no errno is called %q", s)
}

// ErrnoName is the name of errno n, or its number if it has none.
func ErrnoName(n int) string {
	for name, k := range crErrnos {
		if k == n {
			return name
		}
	}
	if n > 0 && n < maxErrno {
		if s := unix.ErrnoName(unix.Errno(n)); s != "" {
			return s
		}
	}
	return strconv.Itoa(n)
}

// parseResult reads a RESULT of the scenario format: errors are negative.
func parseResult(s string) (int, error) {
	if n, err := strconv.Atoi(s); err == nil {
		return n, nil
	}
	n, err := ParseErrno(strings.TrimPrefix(s, "-"))
	return -n, err
}

// resultString is how the transcript shows the result of a call.
func resultString(v int64) string {
	if v < 0 {
		return "-" + ErrnoName(int(-v))
	}
	return strconv.FormatInt(v, 10)
}
