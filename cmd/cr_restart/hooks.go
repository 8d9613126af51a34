package main

import (
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/entry"
	"blcr-cli/internal/forkexec"
	"blcr-cli/internal/signals"
)

// class is a class of failures. Each has a hook of its own.
type class int

const (
	failArgs class = iota // bad arguments, or a context that cannot be opened
	failTemp              // may succeed later
	failEnv               // can be fixed by hand
	failPerm              // everything else
	classes
)

// classOf returns the class of a restart that failed with errno. The first line of each
// class has the numbers of BLCR's cr_restart, the second one those that we add.
func classOf(errno syscall.Errno) class {
	switch errno {
	case syscall.ENOMEM, syscall.EBUSY,
		syscall.EAGAIN, syscall.EADDRINUSE:
		return failTemp
	case syscall.EACCES, syscall.EPERM, syscall.ENOENT, syscall.EEXIST, syscall.EISDIR, syscall.ENOTDIR,
		syscall.ELOOP, syscall.ENXIO, syscall.EROFS, syscall.ETXTBSY, syscall.EADDRNOTAVAIL:
		return failEnv
	}
	return failPerm
}

// hooks are the commands of the --run-on options; "" for none.
type hooks struct {
	onSuccess string
	onFailure [classes]string
}

// runHook runs a command in the shell, waits for it, and returns its exit status. The
// status is 255 if a signal killed the command or if it could not be run, and 0 if
// command is "". The command is started with the signals ignored that are named.
func runHook(command string, ignored ...syscall.Signal) int {
	if command == "" {
		return 0
	}
	argv := []string{"sh", "-c", command}
	// A request by BLCR's module may arrive meanwhile.
	pid, err := forkexec.Start("/bin/sh", argv, &forkexec.Attr{Env: os.Environ(), Files: standardFiles(), Ignored: ignored})
	if err != nil {
		return 255
	}
	status, err := signals.Wait(pid)
	if err != nil || !status.Exited() {
		return 255
	}
	return status.ExitStatus()
}

// runHookShielded runs a command as runHook does, and like system(3) protects the
// caller from SIGINT and SIGQUIT meanwhile. It is for use before signals are held for
// the job.
func runHookShielded(command string) int {
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGQUIT} {
		if !signal.Ignored(sig) && signals.Catch(sig) == nil { // an ignored signal stays ignored in the command
			defer signals.Default(sig)
		}
	}
	return runHook(command)
}

// standardFiles returns the three standard descriptors for a child. One that is closed
// here is closed in the child.
func standardFiles() []uintptr {
	files := entry.Standard()
	for i, fd := range files {
		if _, err := unix.FcntlInt(fd, unix.F_GETFD, 0); err != nil {
			files[i] = ^uintptr(0)
		}
	}
	return files
}
