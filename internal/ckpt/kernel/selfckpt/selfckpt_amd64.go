// Package selfckpt answers the requests of BLCR's module to this process itself
// to take part in a checkpoint. Such a request is signal 64; the answer is
// "save me" (CR_OP_HAND_CHKPT) or "omit me" (CR_OP_HAND_ABORT).
//
// The Go runtime installs its own handler for that signal and drops it; the
// module would then wait for the answer for ever. So importing this package
// installs a handler in assembly, which needs neither a goroutine nor a Go
// stack. The package imports nothing and its path sorts before the standard
// library's, which makes it the first that the runtime initialises.
//
// The handler gives every request the same answer. A process that has to look at
// a request first, or to make it wait, starts the callback thread: a thread that
// the Go runtime does not know, written in assembly as well, which registers
// with the module for phase 1. The module signals it before the threads of
// phase 2, which are all others, and signals those only when it has answered. So
// it can wait for the end of a critical section without stopping the thread that
// is in it.
//
// Nothing else in the program may touch signal 64: neither os/signal nor
// sigaction. This package makes no request; package kernel does.
//
// Mirrors: libcr's cri_omit_sig_handler and thread_main, the functions my_cb of
// cr_checkpoint and cr_restart; "Being checkpointed oneself" in BLCR's kernel
// interface.
package selfckpt

import "unsafe"

// The answers of phase 2, which every thread but the callback thread gives.
const (
	omit         = iota // omit me
	saveDefaults        // save me, with the default signal dispositions
	saveAsIs            // save me
)

//lint:file-ignore U1000 some variables are read by selfckpt_amd64.s only

// Shared with the assembly.
var (
	answer uint32 // of phase 2
	policy Policy // of the callback thread
	fd     int32  // its control descriptor
	state  uint32 // its state; a futex
	held   uint32 // 1: requests are held; a futex
	job    uint32 // pid of cr_restart's job, 0 for none
)

// limit is a struct timespec: how long a request is held under CheckpointPolicy.
// Without it, two cr_checkpoints that are each in the scope of the other's
// request would wait for each other for ever.
var limit = [2]int64{30, 0}

// stack is the callback thread's. A signal frame holds all vector registers,
// 11 KiB where there is AMX.
var stack [32 << 10]byte

// childStack is the stack of a child between fork and exec. It is not used in this
// process.
var childStack [32 << 10]byte

// ChildStack returns the end of the stack that a child of a fork has to run on
// until it calls exec. The handler recognizes it, and answers "omit me" whatever
// the answer of this process is: the restored copy of such a child would start
// its program once more.
func ChildStack() uintptr {
	return uintptr(unsafe.Pointer(&childStack)) + unsafe.Sizeof(childStack)
}

// Save changes the answer to "save me", for the rest of the process's life. It
// is for a process that can be saved: one that only waits and holds no descriptor
// but those that it inherited. When it is saved, every signal with a handler gets
// its default action back, except 64.
func Save() { answer = saveDefaults }

// SaveAsIs is Save for a process that needs its handlers afterwards. Omit undoes
// it.
func SaveAsIs() { answer = saveAsIs }

// Omit changes the answer back to "omit me".
func Omit() { answer = omit }

// StartCallbackThread starts the callback thread. The descriptor is one of the
// control file, on which the version has been agreed upon; the thread owns it
// from then on. It returns the errno of clone, 0 for none; State tells what
// becomes of the thread. To be called once.
func StartCallbackThread(descriptor int32, p Policy) (errno uintptr) {
	fd, policy = descriptor, p
	state = Starting
	if errno = start(); errno != 0 {
		state = Ended
	}
	return errno
}

// State points to the state of the callback thread, a futex that is woken when
// it is no longer Starting.
func State() *uint32 { return &state }

// Hold holds requests from now on: the callback thread leaves them unanswered. A
// request that has passed it already, or does not have to pass it, as in a child
// of this process, is answered with "omit me".
func Hold() {
	held = 1
	answer = omit
}

// Adopt sets the job, to be called before Release.
func Adopt(pid int) { job = uint32(pid) }

// Release has the callback thread answer the requests held, and later ones at
// once.
func Release() {
	if state == Registered {
		// Where the callback thread has answered "omit me" the module omits the
		// process whatever its other threads answer.
		answer = saveAsIs
	}
	held = 0
	wake(&held)
}

// install sets the disposition of signal 64. It returns an errno, 0 for none.
func install() uintptr

// start creates the callback thread. It returns an errno, 0 for none.
func start() uintptr

// wake wakes all waiters of a futex.
//
//go:noescape
func wake(futex *uint32)

// Errno is why the handler could not be installed, 0 when it is in place.
var Errno = install()
