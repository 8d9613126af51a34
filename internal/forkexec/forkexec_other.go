//go:build !amd64

package forkexec

import "syscall"

// Start is syscall.ForkExec: package selfckpt answers no request on this
// architecture.
func Start(path string, argv []string, attr *Attr) (pid int, err error) {
	return syscall.ForkExec(path, argv, &syscall.ProcAttr{
		Env: attr.Env, Files: attr.Files,
		Sys: &syscall.SysProcAttr{Setsid: attr.Setsid, Pdeathsig: attr.Pdeathsig},
	})
}
