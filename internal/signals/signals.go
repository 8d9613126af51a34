// Package signals catches signals, forwards them, dies of them, and is the
// parent of a job.
//
// It is below os/signal. The Go runtime reserves some signals (SIGPROF, 32 to
// 34), uses SIGURG for its own purposes, merges queued signals, and prints a
// trace when a program dies of SIGSEGV or SIGQUIT. Here a handler in assembly
// counts signals one by one, and a process can die of any of them exactly as
// the kernel's default action has it.
//
// Three uses of what has been caught belong here: a Guard undoes what a command
// has begun and then ends it by the signal; a Forwarder gives the signals to a
// process of our own that decides; HoldForJob, ForwardToJob, WaitJob and EndAs
// are the parent of a restored job. A job is the pid of a child.
//
// What there is to undo, engines and checkpoints do not belong here. Signal 64
// belongs to package selfckpt on machines with BLCR and is left alone.
package signals

import (
	"os"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// maxSignal is the largest signal number (_NSIG).
const maxSignal = 64

// BlockAll blocks every signal but the exceptions for the calling thread and
// returns the mask to give to RestoreMask. The caller's goroutine must be locked to
// the thread.
func BlockAll(exceptions ...syscall.Signal) (old unix.Sigset_t, err error) {
	var all unix.Sigset_t
	for i := range all.Val {
		all.Val[i] = ^all.Val[i]
	}
	for _, sig := range exceptions {
		one := setOf(sig)
		for i := range all.Val {
			all.Val[i] &^= one.Val[i]
		}
	}
	err = unix.PthreadSigmask(unix.SIG_SETMASK, &all, &old)
	return old, err
}

// RestoreMask sets the calling thread's signal mask, as BlockAll returned it.
func RestoreMask(mask unix.Sigset_t) error {
	return unix.PthreadSigmask(unix.SIG_SETMASK, &mask, nil)
}

// raiseDefault sends sig to the calling thread with the kernel's default
// action. It returns when that does not end the process, for a stop signal
// after the process has been continued; the disposition then is the default.
func raiseDefault(sig syscall.Signal) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if sig != unix.SIGKILL && sig != unix.SIGSTOP { // they never have another
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
	// A caller that had it blocked keeps it blocked.
	if e := unix.PthreadSigmask(unix.SIG_SETMASK, &old, nil); err == nil {
		err = e
	}
	return err
}

func setOf(sig syscall.Signal) unix.Sigset_t {
	var set unix.Sigset_t
	bits := 8 * uint(unsafe.Sizeof(set.Val[0]))
	set.Val[(uint(sig)-1)/bits] |= 1 << ((uint(sig) - 1) % bits)
	return set
}

// DieOf ends the process by sig, so that its parent sees that signal, without a
// core file and without a word. Should the process survive, because the
// signal's default action is not to kill, it exits with the status by which
// shells name such a death, 128+sig.
func DieOf(sig syscall.Signal) {
	// The limit stops a core file; a core pattern that is a pipe looks at
	// dumpable only. Either may fail without harm to the status.
	_ = unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})
	_ = unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	_ = raiseDefault(sig)
	os.Exit(128 + int(sig))
}
