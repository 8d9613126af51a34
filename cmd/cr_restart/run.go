package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/blcrevents"
	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/ckpt/criu"
	"blcr-cli/internal/ckpt/engines"
	"blcr-cli/internal/cli"
	"blcr-cli/internal/ctxfile"
	"blcr-cli/internal/entry"
	"blcr-cli/internal/signals"
)

const name = "cr_restart"

func versionLine() string { return fmt.Sprintf("%s version %s\n", name, cli.Version) }

// run is the command: args is its whole argument vector. It returns the exit
// status, unless the job died of a signal, of which this process then dies too.
func run(args []string, stdout, stderr io.Writer) int {
	if criu.IsHelper() {
		// A signal to the whole process group is not for a helper.
		signals.KeepIgnored()
		return criu.Helper()
	}
	// The job inherits what this process has.
	entry.HideClosed()
	entry.RestoreLimit()
	return cli.Run(name, "bring saved processes back to life", args, stdout, stderr, restart)
}

// restart does what the arguments ask for and returns the exit status.
func restart(args []string, con *cli.Console) int {
	w := &work{con: con, closeEngine: func() {}}
	// At the very end, after a hook for a failure, too.
	defer func() { w.closeEngine() }()
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

	// log is what the engine has to say about the request. It is shown before
	// the message if anything fails from then on.
	log []string

	// closeEngine closes the engine, which ends what no checkpoint of this process
	// may come into.
	closeEngine func()

	// held says that signals have been held for the job.
	held bool

	// shared says that the engine has the job made by processes in our group.
	shared bool
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
	forced := os.Getenv("CR_ENGINE")
	if w.source == sourceDir {
		forced = engines.Criu // as engines.TakeDirs has it
	}
	kind := ctxfile.Unknown
	// Before the engine opens anything that could have this number.
	inherited := true
	if forced != engines.Kernel && w.source == sourceFd {
		inherited = entry.Inherited(int(w.request.FD))
	}
	if forced == "" && w.source == sourceFd && inherited {
		kind = kindOf(int(w.request.FD))
	}
	engine, name, err := ckpt.Choose(forced, engines.All)
	if err != nil {
		if forced == "" && errnoOf(err) == syscall.ENOSYS {
			return 0, w.noEngine(kind, err)
		}
		return 0, connectFailure(err)
	}
	w.closeEngine = func() { engine.Close() }
	if err := w.open(); err != nil {
		return 0, err
	}
	if name == engines.Criu && !inherited {
		w.request.FD = entry.NeverOpen
	}
	if forced == "" {
		if w.source != sourceFd {
			kind = kindOf(int(w.request.FD))
		}
		if engine, name, err = fitting(kind, engine, name); err != nil {
			return 0, err
		}
	}
	w.shared = name == engines.Criu
	pid, err := w.bringBack(engine)
	if err != nil {
		return 0, err
	}
	if status := runHook(w.hooks.onSuccess); status != 0 {
		return status, nil
	}
	// From here on a checkpoint of this process takes the job along.
	engine.Close()
	if w.kmsg == cli.KmsgWarning {
		w.con.Details(w.log)
	}
	w.log = nil
	if pid == 0 {
		// The job is init's child, and nobody's to wait for.
		return 0, nil
	}
	signals.ForwardToJob(pid)
	end, err := signals.Wait(pid)
	if err != nil {
		return 0, waitJobFailure(pid, err)
	}
	// We may have been saved and restored meanwhile.
	criu.AwaitRelease()
	return signals.EndAs(end), nil
}

// kindOf tells whose context there is on a descriptor. What cannot be told is
// for the engine to find out, and to find words for.
func kindOf(fd int) ctxfile.Kind {
	kind, _ := ctxfile.Sniff(fd)
	return kind
}

// writerOf is the engine that writes contexts of that kind, and what to say where
// it is missing; nothing for what is no context.
func writerOf(kind ctxfile.Kind) (engine, missing string) {
	switch kind {
	case ctxfile.Ours:
		return engines.Criu, "this context was written by the criu engine, which cannot be used here"
	case ctxfile.BLCR:
		return engines.Kernel, "this context was written by BLCR's kernel module, which is not there"
	}
	return "", ""
}

// noEngine is the error for a machine with no engine at all: it names the one
// that the context needs, if that can be told.
func (w *work) noEngine(kind ctxfile.Kind, err error) error {
	if w.source != sourceFd && w.source != sourceDir && w.open() == nil {
		kind = kindOf(int(w.request.FD))
		unix.Close(int(w.request.FD))
	}
	switch writer, missing := writerOf(kind); writer {
	case engines.Criu:
		return otherEngineFailure(missing, err)
	case engines.Kernel:
		return otherEngineFailure(missing, &ckpt.Error{Op: "choose", Object: "engine", Errno: syscall.ENOSYS})
	}
	return connectFailure(err)
}

// fitting returns the engine that has written a context of that kind, which is
// the only one that can read it, with its name; the given one where that is not
// known. It closes the given one if it is another.
func fitting(kind ctxfile.Kind, given ckpt.Engine, name string) (ckpt.Engine, string, error) {
	writer, missing := writerOf(kind)
	if writer == "" || writer == name {
		return given, name, nil
	}
	given.Close()
	engine, _, err := ckpt.Choose(writer, engines.All)
	if err != nil {
		return given, name, otherEngineFailure(missing, err)
	}
	return engine, writer, nil
}

// bringBack issues the request and returns the restored root's pid.
func (w *work) bringBack(engine ckpt.Engine) (pid int, err error) {
	guard := signals.NewGuard()
	line := w.progress(engine)
	defer line.Stop()
	w.request.Measure = line != nil
	// What the job writes to the terminal then is not ours to erase.
	w.request.Resume = line.Stop
	guard.Create(func() func() {
		return func() {
			line.Stop()
			engine.Close()
		}
	})
	signals.HoldStops()
	event := blcrevents.Begin(blcrevents.Restart, int(w.request.FD), os.LookupEnv, func(string) {})
	defer func() { event.End(errnoOf(err)) }()
	request, err := engine.Restart(&w.request)
	if err != nil {
		guard.Disarm()
		signals.FreeStops()
		return 0, restartFailure(err)
	}
	// The processes are there; from here on signals are for the job.
	guard.Finish()
	signals.HoldForJob()
	w.held = true
	// The job must not depend on the context, nor a later checkpoint of ours.
	unix.Close(int(w.request.FD))

	err = request.Wait()
	line.Stop()
	if err != nil {
		return 0, waitRequestFailure(err)
	}
	if w.kmsg != cli.KmsgNone {
		// A log that cannot be had changes nothing about the restart.
		w.log, _ = request.Log()
	}
	pid, err = request.Reap()
	if err != nil {
		if errnoOf(err) == syscall.EINTR {
			event.Forget()
		}
		if w.shared {
			// The signal that waited for the job has also hit what was to make
			// it, and is the reason.
			signals.DieOfCaught()
		}
		return 0, restartFailure(err)
	}
	return pid, nil
}

// progress shows how far the engine has come with the request.
func (w *work) progress(engine ckpt.Engine) *cli.ProgressLine {
	meter, ok := engine.(ckpt.Meter)
	if !ok {
		return nil
	}
	return w.con.Progress("restoring", meter.Progress)
}

// open opens the context. It is not to be inherited by the job, so that a job
// that is restored while the context is a pipe does not keep that open.
func (w *work) open() error {
	if w.source == sourceFd {
		// A bad descriptor is the engine's to report.
		if entry.Closed(int(w.request.FD)) {
			unix.Close(int(w.request.FD))
		}
		_, _ = unix.FcntlInt(uintptr(w.request.FD), unix.F_SETFD, unix.FD_CLOEXEC)
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
