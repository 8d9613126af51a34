package entry

// A cr_checkpoint consists of two processes: one makes the checkpoint, the worker, and
// the one that was started waits for it. With BLCR's module they separate at the
// program's entry point, before the Go runtime is started (worker_amd64.s). So the
// runtime is started once, in the worker. The process that waits has one thread and the
// descriptors with which it was started, and the module can save it.
//
// This is done in a program that was started by the name of cr_checkpoint, where the
// control file may be opened and CR_ENGINE does not name another engine.

// Written by the entry point.
var (
	worker uint32 // 1: this process is the worker
	ended  uint32 // wait status of a worker that a signal has killed
	caught uint64 // bit N-1: signal N was caught, and sent to the worker
)

// IsWorker reports whether this process was made at the entry point as the worker of its
// parent.
func IsWorker() bool { return worker != 0 }

// WorkerEnd returns the wait status of the worker if a signal has killed it, and the
// signals that were sent to the worker, bit N-1 for signal N. ok is false in every other
// process: one whose worker ends otherwise ends with the same status.
func WorkerEnd() (status uint32, signals uint64, ok bool) { return ended, caught, ended != 0 }
