package hints

import (
	"fmt"
	"os"
	"slices"

	"blcr-cli/internal/proc"
)

// Tracer returns a name for the process that traces this one, "" if there is none.
func Tracer(pid int) string {
	tracer, err := proc.Tracer(pid)
	if err != nil || tracer == 0 {
		return ""
	}
	// /proc shows the thread that traces.
	if leader, err := proc.Leader(tracer); err == nil {
		tracer = leader
	}
	return Process(tracer)
}

// Holder says what uses a number that a new process was to get as its pid: a process, a
// zombie, a thread, a session or a process group; "" if it is free by now.
func Holder(id int) string {
	leader, err := proc.Leader(id)
	if err != nil {
		return sessionOrGroup(id)
	}
	if leader != id {
		return fmt.Sprintf("%d is a thread of %s%s", id, Process(leader), ofOther(leader))
	}
	p, err := proc.Read(id)
	if err != nil {
		return ""
	}
	if p.Dead() {
		parent := "its parent"
		if p.PPid != 0 {
			parent += ", " + Process(p.PPid) + ","
		}
		return fmt.Sprintf("%s%s has ended, and keeps its pid until %s has taken notice", Process(id), ofOther(id), parent)
	}
	return fmt.Sprintf("it is that of %s%s", Process(id), ofOther(id))
}

// sessionOrGroup is Holder for a number that no process or thread has: a session or a
// process group still uses the number of a leader that has ended.
func sessionOrGroup(id int) string {
	table, err := proc.All()
	if err != nil {
		return ""
	}
	for _, kind := range []struct {
		name   string
		number func(*proc.Process) int
	}{{"session", func(p *proc.Process) int { return p.Sid }}, {"process group", func(p *proc.Process) int { return p.Pgid }}} {
		var members []int
		for pid, p := range table {
			if kind.number(p) == id {
				members = append(members, pid)
			}
		}
		if len(members) > 0 {
			return fmt.Sprintf("it is the number of the %s of %s", kind.name, Process(slices.Min(members)))
		}
	}
	return ""
}

// ofOther returns the user of a process if it is another than the caller's: " of user
// alice".
func ofOther(pid int) string {
	uid, err := proc.Owner(pid)
	if err != nil || uid == os.Geteuid() {
		return ""
	}
	return " of " + User(uid)
}

// Permission says why the caller may not save a process, and which user may; "" if the
// process cannot be examined.
func Permission(pid int) string {
	uid, err := proc.Owner(pid)
	if err != nil {
		return ""
	}
	owner := User(uid)
	switch uid {
	case os.Geteuid():
		return fmt.Sprintf("%s has more rights than %s has, as a set-user-ID program has: only root may save it", Process(pid), owner)
	case 0:
		return fmt.Sprintf("%s belongs to root: run cr_checkpoint as root", Process(pid))
	}
	return fmt.Sprintf("%s belongs to %s: run cr_checkpoint as %s or as root", Process(pid), owner, owner)
}
