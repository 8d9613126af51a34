package main

import (
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/ckpt/criu"
	"blcr-cli/internal/ckpt/kernel/selfckpt"
	"blcr-cli/internal/cli"
	"blcr-cli/internal/entry"
	"blcr-cli/internal/forkexec"
	"blcr-cli/internal/signals"
)

// Cr_checkpoint is two processes. The one that was started only waits; it is
// saved along with its caller if it is in the scope of the checkpoint, so that
// after a restart the caller still has something to wait for. The other one,
// the worker, makes the checkpoint and is left out of it.

// workerVar tells a worker, by being there, that it is one.
const workerVar = criu.WorkerVar

// isWorker reports whether this process is the worker.
func isWorker() bool {
	_, ok := os.LookupEnv(workerVar)
	return ok
}

// delegate has a worker do what this process was started for, and returns its
// exit status; done is false if no worker can be had, for want of /proc for one,
// and this process has to do it alone. It opens nothing and keeps to raw waiting:
// the module can save no process that holds a poller or the like.
func (s *settings) delegate(con *cli.Console) (status int, done bool) {
	forward := signals.NewForwarder()
	if s.mustLeave() {
		return s.delegateOutside(con, forward), true
	}
	// Before the worker can ask for anything.
	selfckpt.Save()
	pid, err := startWorker()
	switch errnoOf(err) {
	case 0:
	case unix.EAGAIN, unix.ENOMEM:
		con.Errorf("fork() failed: %s\n", ckpt.Strerror(errnoOf(err)))
		return 1, true
	default:
		// The signals stay caught, for the guard of the work.
		selfckpt.Omit()
		return 0, false
	}
	forward.To(pid)
	end, err := waitWorker(pid)
	switch {
	case err == unix.ECHILD:
		// We are the restored copy. Whoever waits for us goes on as he did
		// when the original ended.
		return 0, true
	case err != nil:
		con.Errorf("wait() failed: %s\n", ckpt.Strerror(errnoOf(err)))
		return 1, true
	}
	return ended(con, forward, end), true
}

// ended returns the exit status that the worker's end makes ours.
func ended(con *cli.Console, forward *signals.Forwarder, end unix.WaitStatus) int {
	if !end.Signaled() {
		return end.ExitStatus()
	}
	sig := end.Signal()
	if forward.Await(sig) {
		// It was meant for both of us.
		signals.DieOf(sig)
	}
	con.Errorf("child killed by signal %d (%s)\n", int(sig), signals.Strsignal(sig))
	return 1
}

// startWorker starts the worker.
func startWorker() (pid int, err error) {
	return startSelf([]string{workerVar + "=1"}, &forkexec.Attr{})
}

// startSelf starts this program once more, with the same arguments and the same
// open descriptors.
func startSelf(env []string, attr *forkexec.Attr) (pid int, err error) {
	// By its own name, which becomes the child's comm.
	path, err := os.Executable()
	if err == nil {
		_, err = os.Stat(path)
	}
	if err != nil {
		path = "/proc/self/exe"
	}
	// One processor is all that it can use, and it starts sooner.
	env = append(env, "GOMAXPROCS=1")
	for _, v := range os.Environ() {
		// The first of a name is the one that counts.
		if name, _, _ := strings.Cut(v, "="); !slices.ContainsFunc(env, func(s string) bool { return strings.HasPrefix(s, name+"=") }) {
			env = append(env, v)
		}
	}
	attr.Env, attr.Files, attr.Answers = env, entry.Standard(), true
	return forkexec.Start(path, os.Args, attr)
}

func waitWorker(pid int) (unix.WaitStatus, error) {
	for {
		var status unix.WaitStatus
		_, err := unix.Wait4(pid, &status, 0, nil)
		if err == unix.EINTR {
			continue
		}
		return status, err
	}
}
