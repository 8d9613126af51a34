package ctrlsim

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Stranger is a checkpoint request of somebody outside the program.
type Stranger struct {
	When   string // "before" or "after" an operation, or "at" a time
	Op     string // a key of the text form
	Nth    int    // its how-manieth time, from 1
	At     time.Duration
	Scope  string // see strangerScopes
	Signal int    // what those who are saved get, 0 for none
}

// The scopes of a stranger's request, by their numbers; the target is the program,
// or the group or session that it is in.
var strangerScopes = []string{"process", "group", "session", "tree"}

// The operations at which a stranger can come.
var strangerOps = append([]string{"chkpt-reap", "chkpt-log", "chkpt-fwd", "rstrt-reap", "rstrt-log"}, answerOps...)

// parseStranger reads "before OP@N", "after OP@N" or "at TIME", and options.
func parseStranger(s string) (Stranger, error) {
	st := Stranger{Nth: 1, Scope: "tree"}
	f := strings.Fields(s)
	if len(f)%2 != 0 || len(f) == 0 {
		return st, fmt.Errorf("want before OP@N, after OP@N or at TIME, then pairs of an option and its value")
	}
	var err error
	switch st.When = f[0]; st.When {
	case "at":
		st.At, err = parseTime(f[1])
	case "before", "after":
		op, nth, ok := strings.Cut(f[1], "@")
		if st.Op = op; !slices.Contains(strangerOps, op) {
			return st, fmt.Errorf("no such operation: %q", op)
		}
		if ok {
			if st.Nth, err = strconv.Atoi(nth); err != nil || st.Nth < 1 {
				return st, fmt.Errorf("bad count %q", nth)
			}
		}
	default:
		return st, fmt.Errorf("want before, after or at, not %q", f[0])
	}
	for f = f[2:]; len(f) > 0 && err == nil; f = f[2:] {
		switch f[0] {
		case "signal":
			var sig syscall.Signal
			sig, err = ParseSignal(f[1])
			st.Signal = int(sig)
		case "scope":
			if st.Scope = f[1]; !slices.Contains(strangerScopes, st.Scope) {
				return st, fmt.Errorf("no such scope: %q", st.Scope)
			}
		default:
			return st, fmt.Errorf("no such option: %q", f[0])
		}
	}
	return st, err
}
