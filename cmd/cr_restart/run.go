package main

import (
	"context"
	"errors"
	"io"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/atwork"
	"blcr-cli/internal/blcrevents"
	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/ckpt/engines"
	"blcr-cli/internal/cli"
	"blcr-cli/internal/entry"
	"blcr-cli/internal/signals"
)

const name = "cr_restart"

func versionLine() string { return name + " version " + cli.Version + "\n" }

// run is the command: args is its whole argument vector. It returns the exit
// status, unless the job died of a signal, of which this process then dies too.
func run(args []string, stdout, stderr io.Writer) int {
	// The job inherits what this process has.
	entry.HideClosed()
	entry.RestoreLimit()
	return cli.Run(name, "bring saved processes back to life", args, stdout, stderr, restart)
}

// restart does what the arguments ask for and returns the exit status.
func restart(args []string, con *cli.Console) int {
	w := &work{con: con, over: func() {}}
	// At the very end, after a hook for a failure, too.
	defer func() { w.over() }()
	err := w.parse(args, con)
	if end, ok := err.(*ending); ok {
		io.WriteString(con.Stdout, end.stdout)
		return 0
	}
	if err != nil {
		return w.fail(asFailure(err))
	}
	status, err := w.do()
	if err != nil {
		return w.fail(asFailure(err))
	}
	return status
}

// work is one restart in progress.
type work struct {
	settings
	con *cli.Console

	// log is what the engine has logged about the request. It is shown before
	// the message if anything fails from then on.
	log []string

	// over says that the request is over: from then on a checkpoint by another
	// process may have this one in its scope.
	over func()

	// held says that signals are kept for the job.
	held bool
}

// fail runs the hook for a failure, says what failed, and returns the exit
// status. A hook that fails itself has the last word.
func (w *work) fail(f *failure) int {
	run := runHookShielded
	if w.held {
		run = runHook
	}
	if status := run(w.hooks.onFailure[f.class]); status != 0 {
		return status
	}
	w.con.Details(w.log)
	w.con.Errorf("%s\n", f.message)
	w.con.Details(f.details)
	return f.status
}

// do brings the job back, waits for it, and returns its exit status.
func (w *work) do() (status int, err error) {
	// The context says which engine it needs. Only then is there something to
	// complain about: BLCR's cr_restart looks for the module first.
	openErr := w.open()
	if openErr == nil && !w.request.Closed && w.source != sourceDir {
		w.engine.Require(int(w.request.FD))
	}
	engine, err := w.engine.Open()
	if err != nil {
		return 0, connectFailure(err)
	}
	w.over = func() { engine.Close() }
	if openErr != nil {
		return 0, openErr
	}
	pid, err := w.bringBack(engine)
	if err != nil {
		return 0, err
	}
	if status := runHook(w.hooks.onSuccess); status != 0 {
		return status, nil
	}
	// From here on a checkpoint of this process takes the job along.
	w.over()
	w.over = func() {}
	if w.kmsg == cli.KmsgWarning {
		w.con.Details(w.log)
	}
	w.log = nil
	if pid == 0 {
		// The job is init's child, and not ours to wait for.
		return 0, nil
	}
	signals.ForwardToJob(pid)
	end, err := signals.Wait(pid)
	if err != nil {
		return 0, waitJobFailure(pid, err)
	}
	// This process may have been saved and restored meanwhile.
	engines.AwaitDetached()
	return signals.EndAs(end), nil
}

// bringBack issues the request and returns the restored root's pid. Until the job
// runs a signal ends the restart and this process; from then on it is the job's.
func (w *work) bringBack(engine ckpt.Engine) (pid int, err error) {
	ctx, interrupt := context.WithCancel(context.Background())
	defer interrupt()
	// Others must not save this process while it makes the job.
	claim := atwork.New(int(w.request.FD))
	defer claim.Close()
	guard := signals.NewGuard()
	line := w.con.Progress("restoring", engine.Progress)
	w.request.Measure = line != nil
	idle := make(chan struct{}) // closed when nothing of the restart is left
	guard.Create(func() func() {
		return func() {
			line.Stop()
			interrupt()
			<-idle
		}
	})
	signals.HoldStops()
	event := blcrevents.Begin(ctx, blcrevents.Restart, int(w.request.FD), os.LookupEnv, func(string) {})
	// What the job writes to the terminal is not ours to erase.
	w.request.Resume = line.Stop
	w.request.Made = func() bool {
		if !guard.TryFinish() {
			return false
		}
		signals.HoldForJob()
		w.held = true
		return true
	}
	pid, err = engine.Restart(ctx, &w.request)
	line.Stop()
	w.log = engine.Log()
	// The job must not depend on the context, nor a later checkpoint of ours.
	if !w.request.Closed {
		unix.Close(int(w.request.FD))
	}
	close(idle)
	if err != nil {
		if !w.held {
			// A signal that has begun to end the program ends it here.
			guard.Disarm()
			signals.FreeStops()
		}
		if ckpt.StepOf(err) == ckpt.StepOutcome && ckpt.ErrnoOf(err) == syscall.EINTR {
			event.Forget()
		}
		event.End(ckpt.ErrnoOf(err))
		return 0, restartFailure(err)
	}
	event.End(0)
	return pid, nil
}

// open opens the context. It is not to be inherited by the job, so that a job
// that is restored while the context is a pipe does not keep that open.
func (w *work) open() error {
	if w.source == sourceFd {
		// A bad descriptor is the engine's to report.
		fd := int(w.request.FD)
		w.request.Closed = !entry.Inherited(fd)
		if entry.Closed(fd) {
			unix.Close(fd)
		}
		if !w.request.Closed {
			unix.CloseOnExec(fd)
		}
		return nil
	}
	flags := unix.O_RDONLY | unix.O_CLOEXEC | unix.O_LARGEFILE
	if w.source == sourceDir {
		w.request.Dir = w.file
		flags |= unix.O_DIRECTORY
	}
	for {
		fd, err := unix.Open(w.file, flags, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return openFailure(w.file, err)
		}
		w.request.FD = int32(fd)
		return nil
	}
}
