//go:build !amd64

package kernel

import "syscall"

// supported says that this architecture lacks the assembly of fork's child and of
// the signal handler in package selfckpt. Open then reports the engine as missing.
const supported = false

func fork(*forkArgs) (int, syscall.Errno) { return 0, syscall.ENOSYS }
