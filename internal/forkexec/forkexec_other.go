//go:build !amd64

package forkexec

import (
	"syscall"
	"time"
)

// Start uses syscall.ForkExec: package selfckpt does not answer requests on this
// architecture.
func Start(path string, argv []string, attr *Attr) (pid int, err error) {
	path, argv = Ignoring(path, argv, attr.Ignored)
	pid, err = syscall.ForkExec(path, argv, &syscall.ProcAttr{
		Env: attr.Env, Files: attr.Files,
		Sys: &syscall.SysProcAttr{Setsid: attr.Setsid, Pdeathsig: attr.Pdeathsig},
	})
	if err == nil && attr.Forked != nil {
		if err = attr.Forked(pid); err != nil {
			_ = syscall.Kill(pid, syscall.SIGKILL)
			_, _ = syscall.Wait4(pid, nil, 0, nil)
		}
	}
	return pid, err
}

// Keep is not implemented on this architecture: it always returns ENOSYS.
func Keep(fd int, limit time.Duration) error { return syscall.ENOSYS }
