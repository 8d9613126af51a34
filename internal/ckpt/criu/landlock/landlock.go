// Package landlock finds threads that have confined themselves by Landlock, which CRIU
// restores without their confinement. Linux shows that nowhere. But inside of a Landlock
// domain a thread may not look at processes outside of it, whatever their users are. So
// the thread itself is made to look, by one call of kcmp(2) through ptrace(2), at a
// process of ours that it might look at otherwise.
//
// Only threads with no_new_privs are asked, as Landlock demands that of all without
// CAP_SYS_ADMIN, and only in a checkpoint: the registers of such a thread are changed for
// some microseconds. If this process is killed just then, that job is lost.
//
// What belongs here is the question. What a request does with the answer does not.
package landlock

import (
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt/criu/remote"
	"blcr-cli/internal/proc"
)

// Kernel reports whether this kernel has Landlock.
func Kernel() bool {
	const version = 1 // LANDLOCK_CREATE_RULESET_VERSION
	_, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, version)
	return errno == 0
}

// answer is what a thread is found to be.
type answer int

const (
	unknown answer = iota
	free
	confined
)

// limit is how long all threads together are asked. One that waits uninterruptibly does
// not answer.
const limit = 2 * time.Second

// Confined returns the first of these processes with a thread that is confined, 0 if none
// is known to be. A thread is unknown, and passed over, if it is in other namespaces than
// this process, stopped, in 32-bit code, under another security label, or if it has a
// filter of system calls that this process may not suspend. The processes run on.
func Confined(pids []int) (pid int) {
	if !remote.Supported || !Kernel() {
		return 0
	}
	remote.Run(func() (late int) {
		pid, _, late = find(pids, time.Now().Add(limit))
		return late
	})
	return pid
}

// find is Confined on a thread of its own. It also returns how many threads have answered,
// and one that did not in time, if there is one, which that thread of ours may still trace.
func find(pids []int, deadline time.Time) (in, answers, late int) {
	w := make(witnesses)
	defer w.end()
	for _, pid := range pids {
		for _, tid := range proc.Threads(pid) {
			set, filtered := proc.Confined(tid)
			if !set || !plain(pid, tid) {
				continue
			}
			witness := w.forIDs(proc.RealIDs(tid))
			if witness == 0 {
				continue
			}
			switch ask(pid, tid, witness, filtered, deadline) {
			case confined:
				return pid, answers + 1, 0
			case free:
				answers++
			}
			if time.Now().After(deadline) {
				return 0, answers, tid
			}
		}
	}
	return 0, answers, 0
}

// ask has a thread compare the witness with itself.
func ask(pid, tid, witness int, filtered bool, deadline time.Time) answer {
	t := remote.Thread{PID: pid, TID: tid, Filtered: filtered, Deadline: deadline}
	switch result, ok := remote.Call(t, unix.SYS_KCMP, uint64(witness), uint64(witness), kcmpVM); {
	case !ok:
		return unknown
	case result >= 0:
		return free
	case result == -int64(unix.EPERM):
		return confined
	}
	return unknown
}

// kinds are the namespaces by which a witness might be hidden from a thread, or be
// another process for it. In another mount namespace a job might find in /proc what it is
// not to find there.
var kinds = []string{"user", "pid", "mnt"}

// plain reports whether an answer of a thread would mean something.
func plain(pid, tid int) bool {
	ours := proc.Namespaces(unix.Getpid(), kinds)
	if slices.Contains(ours, 0) || !slices.Equal(ours, proc.Namespaces(tid, kinds)) {
		return false
	}
	const label = "attr/current" // AppArmor and SELinux confine as well
	mine, _ := proc.Setting(unix.Getpid(), label)
	if its, _ := proc.Setting(tid, label); its != mine {
		return false
	}
	t, err := proc.Thread(pid, tid)
	return err == nil && (t.State == 'R' || t.State == 'S' || t.State == 'D')
}
