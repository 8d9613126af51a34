//go:build !amd64

package kernel

import "syscall"

// supported says that this architecture lacks the assembly: fork's child, and
// the signal handler of package reply. Open then reports the engine as missing.
const supported = false

func fork(*spawnArgs) (int, syscall.Errno) { return 0, syscall.ENOSYS }
