package criu

import (
	"os"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt/criu/binary"
	"blcr-cli/internal/proc"
)

// AwaitDetached returns when no criu holds any thread of this process. It
// is for a process that ends as soon as it has been restored: criu lets go of
// one thread after the other, and fails if one that it still holds has ended
// with the others. It leaves no descriptor open.
func AwaitDetached() {
	const milliseconds = 10000
	for range milliseconds {
		if !held() {
			return
		}
		_, _ = unix.Poll(nil, 1)
	}
}

func held() bool {
	for _, tid := range proc.Threads(os.Getpid()) {
		if tracer, err := proc.Tracer(tid); err == nil && tracer != 0 && binary.Runs(tracer) {
			return true
		}
	}
	return false
}
