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
	"blcr-cli/internal/ckpt/kernel/selfckpt"
	"blcr-cli/internal/cli"
	"blcr-cli/internal/entry"
	"blcr-cli/internal/signals"
)

const name = "cr_restart"

func versionLine() string { return name + " version " + cli.Version + "\n" }

// run is the command: args is its whole argument vector. It returns the exit
// status, unless the job died of a signal, of which this process then dies too.
func run(args []string, stdout, stderr io.Writer) int {
	// The job inherits descriptors and limits from this process.
	entry.HideClosed()
	entry.RestoreLimit()
	return cli.Run(name, "bring saved processes back to life", args, stdout, stderr, restart)
}

// restart runs the command with these arguments and returns the exit status.
func restart(args []string, con *cli.Console) int {
	w := &work{con: con, over: func() {}, claim: &atwork.Claim{}}
	// This comes last, also after a hook for a failure.
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

	// log is what the engine has logged about the request. It is printed before the
	// message if a later step fails.
	log []string

	// over ends the request. From then on another process's checkpoint may save this
	// process.
	over func()

	// held says that signals are queued for the job.
	held bool

	// forJob are the signals that the hook after a success ignores: all that are for the job,
	// if a command of ours waits for that hook. Of one that ends every process of the job's
	// session the hook would die, and this process leave the job to itself.
	forJob []syscall.Signal

	// claim keeps other requests off: until the job runs, or has all of its memory.
	claim *atwork.Claim
}

// fail runs the hook for a failure, prints the message, and returns the exit status, that
// of --failure-status if there is one. If
// the hook itself fails, its status is returned and nothing is printed.
func (w *work) fail(f *failure) int {
	run := runHookShielded
	if w.held {
		run = func(command string) int { return runHook(command) }
	}
	if status := run(w.hooks.onFailure[f.class]); status != 0 {
		return status
	}
	w.con.Details(w.log)
	w.con.Errorf("%s\n", f.message)
	w.con.Details(f.details)
	return w.statusOf(f)
}

// statusOf returns the exit status for a failure.
func (w *work) statusOf(f *failure) int {
	if w.status != nil {
		return *w.status
	}
	return f.status
}

// do restores the job, waits for it, and returns its exit status.
func (w *work) do() (status int, err error) {
	// The context is opened first, since it determines the engine. An error of opening
	// it is reported after those of the engine, because BLCR's cr_restart looks for the
	// module first.
	if w.engine.Expected().Asks {
		// To open it may take long. A restored copy of this process opens it again.
		selfckpt.SaveAsIs()
	}
	openErr := w.open()
	if openErr == nil && !w.request.Closed && w.source != sourceDir {
		w.engine.Require(int(w.request.FD))
	}
	if !w.engine.Expected().Asks {
		selfckpt.Omit()
	}
	engine, err := w.engine.Open()
	if err != nil {
		return 0, connectFailure(err)
	}
	w.over = func() { engine.Close() }
	if openErr != nil {
		return 0, openErr
	}
	if w.request.Lazy && !w.engine.Expected().Lazy {
		return 0, lazyFailure()
	}
	if w.request.KeepStdio && !w.engine.Expected().KeepsStdio {
		return 0, keepStdioFailure()
	}
	if again := isAgain(); engine.Collides(&w.request) && !again {
		return 0, w.again()
	}
	pid, err := w.bringBack(engine)
	if err != nil {
		return 0, err
	}
	if status := runHook(w.hooks.onSuccess, w.forJob...); status != 0 {
		return status, nil
	}
	// From here on a checkpoint of this process includes the job.
	w.over()
	w.over = func() {}
	if w.kmsg == cli.KmsgWarning {
		w.con.Details(w.log)
	}
	w.log = nil
	if pid == 0 {
		// The job is a child of init, so this process cannot wait for it.
		return 0, nil
	}
	signals.ForwardToJob(pid)
	inPlace := w.awaitMemory(engine)
	end, err := signals.Wait(pid)
	if w.request.AtEnd != nil {
		w.request.AtEnd()
	}
	if err != nil {
		return 0, waitJobFailure(pid, err)
	}
	// What is left of the job may need its memory still.
	var lost *failure
	if err := inPlace(); err != nil {
		lost = memoryFailure(err)
		w.con.Errorf("%s\n", lost.message)
		w.con.Details(lost.details)
	}
	// This process may be a restored copy, which CRIU has not released completely.
	engines.AwaitDetached()
	if lost != nil && end == 0 {
		// The root has not been killed, but others have.
		return w.statusOf(lost), nil
	}
	return signals.EndAs(end), nil
}

// awaitMemory waits for the memory of a job that was restarted lazily, while the job
// runs. It returns a function that waits for that, too. A checkpoint of the job meanwhile
// waits.
func (w *work) awaitMemory(engine ckpt.Engine) func() error {
	if !w.request.Lazy {
		return func() error { return nil }
	}
	end := make(chan error, 1)
	go func() {
		err := engine.InPlace()
		w.claim.Close()
		end <- err
	}()
	return func() error { return <-end }
}

// bringBack issues the request and returns the pid of the restored root. Until the job
// runs, a signal ends the restart and this process; after that signals are for the job.
func (w *work) bringBack(engine ckpt.Engine) (pid int, err error) {
	ctx, interrupt := context.WithCancel(context.Background())
	defer interrupt()
	if w.engine.Expected().Claims {
		// Another request must not save this process while it makes the job.
		w.claim = atwork.New(os.Getpid(), int(w.request.FD))
		defer func() {
			if !w.request.Lazy || err != nil {
				w.claim.Close()
			}
		}()
	}
	guard := signals.NewGuard()
	if guard.WatchCaller() {
		w.forJob = signals.Forwarded()
	}
	line := w.con.Progress("restoring", engine.Progress)
	w.request.Measure = line != nil
	idle := make(chan struct{}) // closed when everything of the restart has ended
	guard.Create(func() func() {
		return func() {
			line.Stop()
			interrupt()
			<-idle
		}
	})
	signals.HoldStops()
	event := blcrevents.Begin(ctx, blcrevents.Restart, int(w.request.FD), os.LookupEnv, w.tellEvents)
	// The line is erased before the job can write to the terminal.
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
	// Neither the job nor a later checkpoint of this process may depend on the context.
	if !w.request.Closed {
		unix.Close(int(w.request.FD))
	}
	close(idle)
	if err != nil {
		if !w.held {
			// If a signal has interrupted the restart, the program dies of it here.
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

// tellEvents prints what has become of the events, if the environment asks for it: -v is
// --version here.
func (w *work) tellEvents(line string) {
	if blcrevents.Verbose(os.LookupEnv) {
		w.con.Errorf("%s\n", line)
	}
}

// open opens the context, close-on-exec: if the context is a pipe, the job must not
// keep it open.
func (w *work) open() error {
	if w.source == sourceFd {
		// The engine reports a bad descriptor.
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
	} else if w.generations() {
		return w.openNewest()
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
