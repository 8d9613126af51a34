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

// class is a class of failures that has a hook of its own.
type class int

const (
	failArgs class = iota // bad arguments, or a context that cannot be opened
	failTemp              // may be gone by itself later
	failEnv               // can be mended by hand
	failPerm              // everything else
	classes
)

// classOf is the class of a restart that failed with errno. The first numbers of
// each class are those of BLCR's cr_restart; the others are alike.
func classOf(errno syscall.Errno) class {
	switch errno {
	case syscall.ENOMEM, syscall.EBUSY,
		syscall.EADDRINUSE:
		return failTemp
	case syscall.EACCES, syscall.EPERM, syscall.ENOENT, syscall.EEXIST, syscall.EISDIR, syscall.ENOTDIR,
		syscall.ELOOP, syscall.ENXIO, syscall.EROFS, syscall.ETXTBSY, syscall.EADDRNOTAVAIL:
		return failEnv
	}
	return failPerm
}

// hooks are the commands of the --run-on options. An empty one is none.
type hooks struct {
	onSuccess string
	onFailure [classes]string
}

// runHook runs a command by the shell, waits for it, and returns its exit
// status; 255 for one that a signal killed or that could not be run, and 0
// where there is none.
func runHook(command string) int {
	if command == "" {
		return 0
	}
	argv := []string{"sh", "-c", command}
	// While a request may come.
	pid, err := forkexec.Start("/bin/sh", argv, &forkexec.Attr{Env: os.Environ(), Files: standardFiles()})
	if err != nil {
		return 255
	}
	status, err := signals.Wait(pid)
	if err != nil || !status.Exited() {
		return 255
	}
	return status.ExitStatus()
}

// runHookShielded is runHook with what system(3) does for its caller: the keys
// that interrupt the command do not interrupt us. Only for a time when signals
// have not been held for the job.
func runHookShielded(command string) int {
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGQUIT} {
		if !signal.Ignored(sig) && signals.Catch(sig) == nil { // ignored, the command inherits it
			defer signals.Default(sig)
		}
	}
	return runHook(command)
}

// standardFiles is the three standard descriptors for a child; one that is
// closed here is closed there.
func standardFiles() []uintptr {
	files := entry.Standard()
	for i, fd := range files {
		if _, err := unix.FcntlInt(fd, unix.F_GETFD, 0); err != nil {
			files[i] = ^uintptr(0)
		}
	}
	return files
}
