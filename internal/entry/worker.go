package entry

import "syscall"

// A cr_checkpoint consists of two processes: one makes the checkpoint, the worker, and
// the one that was started waits for it. They separate at the program's entry point,
// before the Go runtime is started (worker_amd64.s). So the runtime is started once, in
// the worker. The process that waits has one thread and the descriptors with which it was
// started, and BLCR's module can save it.
//
// This is done in a program that was started by the name of cr_checkpoint.

// Written by the entry point.
var (
	worker uint32 // 1: this process is the worker
	ended  uint32 // wait status of a worker that a signal has killed, or that ended with 2
	errno  uint32 // of waiting for it
	caught uint64 // bit N-1: signal N was caught, and sent to the worker
)

// IsWorker reports whether this process was made at the entry point as the worker of its
// parent.
func IsWorker() bool { return worker != 0 }

func init() {
	if IsWorker() {
		// 0 is the value of the process that waits. The runtime has started its monitor.
		_, _, _ = syscall.RawSyscall(syscall.SYS_PRCTL, syscall.PR_SET_TIMERSLACK, 0, 0)
	}
}

// WorkerEnd is how the worker of this process has ended.
type WorkerEnd struct {
	Status uint32        // its wait status; 0 if waiting has failed
	Errno  syscall.Errno // if not 0, waiting has failed
	Caught uint64        // the signals that were sent to it, bit N-1 for signal N
}

// Ended returns how the worker has ended if a signal has killed it, if its status is 2, as of
// one that the Go runtime has ended, or if waiting for it has failed. It returns nil in every
// other process: one whose worker has exited does so itself, with the same status, before the
// Go runtime is started.
func Ended() *WorkerEnd {
	if ended == 0 && errno == 0 {
		return nil
	}
	return &WorkerEnd{Status: ended, Errno: syscall.Errno(errno), Caught: caught}
}
