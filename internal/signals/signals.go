// Package signals catches signals, forwards them, dies of them, and is the
// parent of a job.
//
// It is below os/signal. The Go runtime reserves some signals (SIGPROF, 32 to
// 34), uses SIGURG for its own purposes, merges queued signals, and prints a
// trace when a program dies of SIGSEGV or SIGQUIT. Here a handler in assembly
// counts signals one by one, and a process can die of any of them exactly as
// the kernel's default action has it.
//
// Three uses of caught signals belong here:
//
//   - Guard: a command undoes what it has begun, then dies of the signal.
//   - Forwarder: a command passes the signals on to another process of ours,
//     which decides what they end.
//   - HoldForJob, ForwardToJob, Wait, EndAs: cr_restart as the parent of a
//     restored job, which is the pid of a child.
//
// Which signals are passed on, which end a process and which stop it is in this
// file: forwarded, fatal and stops.
//
// What there is to undo, what a job is made from, and engines do not belong
// here. Signal 64 is answered by package selfckpt and is left alone.
package signals

import (
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/entry"
)

const (
	maxSignal = 64 // the largest signal number, the kernel's _NSIG

	checkpointSignal = syscall.Signal(64) // BLCR's; package selfckpt answers it
	reservedSignal   = syscall.Signal(33) // glibc's own; a restart uses it to interrupt itself

	// firstQueued is the first real-time signal. The kernel keeps at most one
	// of each lower signal pending, and all of the others.
	firstQueued = 32
)

// stops tells whether sig is one by which a terminal stops its jobs.
func stops(sig syscall.Signal) bool {
	return sig == unix.SIGTSTP || sig == unix.SIGTTIN || sig == unix.SIGTTOU
}

// forwarded tells whether sig is passed on to a job. KILL and STOP cannot be
// caught, CHLD is about the job, and 64 is BLCR's.
func forwarded(sig syscall.Signal) bool {
	switch sig {
	case unix.SIGKILL, unix.SIGSTOP, unix.SIGCHLD, checkpointSignal:
		return false
	}
	return true
}

// fatal tells whether sig ends a program by default and is for this process to
// catch. SIGSEGV and the other faults are included for the case that another
// process sends them; a real fault still goes to the runtime.
func fatal(sig syscall.Signal) bool {
	switch sig {
	case unix.SIGCONT, unix.SIGURG, unix.SIGWINCH, reservedSignal:
		return false
	}
	return forwarded(sig) && !stops(sig)
}

// Forwarded returns the signals that are passed on to a job.
func Forwarded() []syscall.Signal { return all(forwarded) }

// all returns the signals of a kind.
func all(kind func(syscall.Signal) bool) (sigs []syscall.Signal) {
	for sig := syscall.Signal(1); sig <= maxSignal; sig++ {
		if kind(sig) {
			sigs = append(sigs, sig)
		}
	}
	return sigs
}

// catch catches the signals of a kind from now on. A signal that is ignored
// stays ignored: nohup depends on it.
func catch(kind func(syscall.Signal) bool) {
	for _, sig := range all(kind) {
		if !signal.Ignored(sig) {
			_ = Catch(sig)
		}
	}
}

// uncatch gives the signals that catch has caught their default action.
func uncatch(kind func(syscall.Signal) bool) {
	for _, sig := range all(kind) {
		if !signal.Ignored(sig) {
			_ = Default(sig)
		}
	}
}

// KeepIgnored tells the Go runtime to ignore the signals that this process was started
// to ignore. They are ignored already: package entry keeps the runtime from installing
// handlers for them. It must be called before anything else here. It leaves SIGCHLD alone, since with SIGCHLD ignored the
// kernel discards the exit status of children.
func KeepIgnored() {
	for _, sig := range all(entry.Ignored) {
		if sig != unix.SIGCHLD && sig != checkpointSignal {
			signal.Ignore(sig)
		}
	}
}

// BlockAll blocks every signal except the given ones for the calling thread and
// returns the previous mask, for RestoreMask. The caller's goroutine must be
// locked to the thread. The error is an errno.
func BlockAll(exceptions ...syscall.Signal) (old unix.Sigset_t, err error) {
	var set unix.Sigset_t
	for i := range set.Val {
		set.Val[i] = ^set.Val[i]
	}
	for _, sig := range exceptions {
		one := setOf(sig)
		for i := range set.Val {
			set.Val[i] &^= one.Val[i]
		}
	}
	err = unix.PthreadSigmask(unix.SIG_SETMASK, &set, &old)
	return old, err
}

// RestoreMask sets the calling thread's signal mask to one that BlockAll
// returned.
func RestoreMask(mask unix.Sigset_t) error {
	return unix.PthreadSigmask(unix.SIG_SETMASK, &mask, nil)
}

// setOf returns the set that contains only sig.
func setOf(sig syscall.Signal) unix.Sigset_t {
	var set unix.Sigset_t
	bits := 8 * uint(unsafe.Sizeof(set.Val[0]))
	set.Val[(uint(sig)-1)/bits] |= 1 << ((uint(sig) - 1) % bits)
	return set
}

// raiseDefault sends sig to the calling thread with the kernel's default action.
// It returns if that does not end the process; for a stop signal, after the
// process has been continued. The disposition is then the default.
func raiseDefault(sig syscall.Signal) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if sig != unix.SIGKILL && sig != unix.SIGSTOP { // their disposition cannot be set
		if err := Default(sig); err != nil {
			return err
		}
	}
	one := setOf(sig)
	var old unix.Sigset_t
	if err := unix.PthreadSigmask(unix.SIG_UNBLOCK, &one, &old); err != nil {
		return err
	}
	err := unix.Tgkill(os.Getpid(), unix.Gettid(), sig)
	if e := RestoreMask(old); err == nil {
		err = e
	}
	return err
}

// DieOf ends the process by sig, so that its parent sees that signal, without a
// core file and without output. If the default action of sig does not end the
// process, it exits with 128+sig, the status that shells give such a death.
func DieOf(sig syscall.Signal) {
	// The limit prevents a core file; a core pattern that is a pipe only
	// respects dumpable. Both may fail; the wait status is the same.
	_ = unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})
	_ = unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	_ = raiseDefault(sig)
	os.Exit(128 + int(sig))
}
