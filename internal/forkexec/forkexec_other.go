//go:build !amd64

package forkexec

import "syscall"

// Start uses syscall.ForkExec: package selfckpt does not answer requests on this
// architecture.
func Start(path string, argv []string, attr *Attr) (pid int, err error) {
	return syscall.ForkExec(path, argv, &syscall.ProcAttr{
		Env: attr.Env, Files: attr.Files,
		Sys: &syscall.SysProcAttr{Setsid: attr.Setsid, Pdeathsig: attr.Pdeathsig},
	})
}
