//go:build linux && amd64

package ctrlsim

import (
	"fmt"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// strangers makes the requests that come at the nth time of an operation. When
// it returns they have asked everybody.
func (s *supervisor) strangers(when, op string, nth int) {
	for _, st := range s.sc.Strangers {
		if st.When == when && st.Op == op && st.Nth == nth {
			s.strange(st)
		}
	}
}

// strangersAt makes those that come at a time, counted from the exec.
func (s *supervisor) strangersAt(exec time.Duration) {
	for _, st := range s.sc.Strangers {
		if st.When != "at" || st.At == Never {
			continue
		}
		s.wg.Go(func() {
			if s.sleep(max(exec+st.At-monotonic(), 1)) {
				s.strange(st)
			}
		})
	}
}

// strange makes a request as this process, which is outside the program. Its
// outcome is a line of the transcript; its context goes nowhere.
func (s *supervisor) strange(st Stranger) {
	a := chkptArgs{
		scope:  int32(slices.Index(strangerScopes, st.Scope)),
		signal: int32(st.Signal),
	}
	target, err := targetOf(a, s.main)
	name := "PID" // it changes from run to run
	if err == nil && target != s.main {
		name = fmt.Sprint(target)
	}
	over := func(result int64, saved, omitted int) {
		line := fmt.Sprintf("STRANGER {scope=%d target=%s}", a.scope, name)
		if result != noAnswer {
			line += " = " + resultString(result)
		}
		if result == 0 {
			line += fmt.Sprintf(" saved=%d omitted=%d", saved, omitted)
		}
		s.log("%s", line)
	}
	if err != nil {
		over(failed(unix.ESRCH), 0, 0)
		return
	}
	a.target = int32(target)
	r := &request{f: &file{closed: make(chan struct{})}} // nobody has a descriptor of it
	k, errno := s.newAsk(r, os.Getpid(), fmt.Sprintf("/stranger/context.%d", target), a)
	if errno != 0 {
		over(failed(errno), 0, 0)
		return
	}
	k.over = over
	s.wg.Go(func() { s.drive(k, 0, func() (int64, bool) { return 0, true }) })
}
