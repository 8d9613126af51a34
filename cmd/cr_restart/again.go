package main

import (
	"os"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/entry"
	"blcr-cli/internal/reexec"
)

// againVar says that this process has executed its program again. Once is enough.
const againVar = "_BLCR_CLI_AGAIN"

// isAgain reports whether the process has executed its program again. What it starts does
// not learn that.
func isAgain() bool {
	_, is := os.LookupEnv(againVar)
	os.Unsetenv(againVar)
	return is
}

// again executes the program again, with the same arguments and descriptors: it keeps its pid,
// and its threads get other numbers. It returns only if that fails.
func (w *work) again() error {
	if w.source == sourceFd {
		if _, err := unix.FcntlInt(uintptr(w.request.FD), unix.F_SETFD, 0); err != nil {
			return err
		}
	}
	os.Setenv(againVar, "1")
	entry.RestoreSignals()
	entry.DiscardPreemption()
	return restartFailure(ckpt.SystemError("exec", os.Args[0], reexec.Again()))
}
