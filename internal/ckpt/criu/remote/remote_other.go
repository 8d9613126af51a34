//go:build !amd64

package remote

// Supported says that Call does not work on this processor: it needs the registers, and the
// instruction for a system call.
const Supported = false

func call(Thread, uintptr, []uint64) (result int64, ok bool) { return 0, false }

func dispatches(Thread) bool { return false }
