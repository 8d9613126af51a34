package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/blcrevents"
	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/ckpt/engines"
	"blcr-cli/internal/cli"
	"blcr-cli/internal/entry"
	"blcr-cli/internal/signals"
	"blcr-cli/internal/target"
)

const name = "cr_checkpoint"

func versionLine() string { return fmt.Sprintf("%s version %s\n", name, cli.Version) }

func defaultName(id int32) string { return fmt.Sprintf("context.%d", id) }

// checkpoint runs the command with these arguments and returns the exit status.
func checkpoint(args []string, con *cli.Console, worker *worker) int {
	// This process may be a restored copy, which another request has saved and CRIU has
	// not released completely.
	defer engines.AwaitDetached()
	s, stop := parse(args, con)
	if stop != nil {
		io.WriteString(con.Stdout, stop.stdout)
		con.Errorf("%s", stop.stderr)
		return stop.status
	}
	w := &work{settings: s, con: con}
	if worker == nil {
		if status, done := s.delegate(args, con); done {
			return status
		}
	} else {
		defer worker.claim.Close()
		w.request.Requester = int32(worker.waiting)
		w.signals = worker.listen()
	}
	if w.check {
		return w.examine()
	}
	if err := w.do(); err != nil {
		f := asFailure(err)
		con.Details(w.log)
		con.Errorf("%s\n", f.message)
		con.Details(f.details)
		return f.status
	}
	return 0
}

// work is one checkpoint in progress.
type work struct {
	*settings
	con *cli.Console

	// log is what the engine has logged about the request. It is printed before the
	// message if a later step fails.
	log []string

	// signals, if not nil, is a second source of signals besides the kernel: the pipe
	// from the waiting process.
	signals io.Closer

	// obeyStops, if not nil, is called when no process is frozen any more: a Ctrl-Z that
	// has come takes effect.
	obeyStops func()
}

// beyondSignals is called when no signal may end this process any more. The process
// that passes signals on to it has to handle them itself from here on.
func (w *work) beyondSignals() {
	if w.signals != nil {
		w.signals.Close()
		w.signals = nil
	}
}

// do makes the checkpoint. If it fails, everything that it created is removed.
//
// A signal that ends programs cancels ctx. The step that is under way then ends soon,
// everything is undone here, and the program dies of the signal.
func (w *work) do() (err error) {
	w.announce()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	guard := signals.NewGuard()
	undone := make(chan struct{})
	guard.Create(func() func() {
		return func() {
			cancel()
			<-undone
		}
	})
	var event *blcrevents.Request
	dest, err := w.open(ctx)
	if err == nil {
		event, err = w.save(ctx, dest, guard)
		if err != nil {
			err = w.abort(dest, err)
		}
		if err != nil && ctx.Err() != nil {
			// What is left to be known when a signal has ended the request.
			w.con.Details(asFailure(err).details)
		}
	}
	close(undone)
	// If a signal has made the request fail, the program dies of it here, without an
	// event for the outcome.
	guard.Finish()
	event.End(ckpt.ErrnoOf(err))
	return err
}

// abort removes the incomplete context. It returns err, the reason, with a line for
// what could not be removed.
func (w *work) abort(dest target.Destination, err error) error {
	f := asFailure(err)
	if e := dest.Abort(); e != nil {
		f.details = append(f.details, fmt.Sprintf("left behind: %v", e))
	}
	return f
}

// save writes the context to dest and puts it in place. event is the request's event;
// it is nil if no request was made.
func (w *work) save(ctx context.Context, dest target.Destination, guard *signals.Guard) (event *blcrevents.Request, err error) {
	engine, err := w.engine.Open()
	if err != nil {
		return nil, connectFailure(err)
	}
	defer engine.Close()
	if engine := engine.Describe(); engine != "" {
		w.con.Notef("using %s\n", engine)
	}
	times := startSteps()
	line := w.progress(engine)
	defer line.Stop()
	w.request.Measure = line != nil
	var unbegun error
	begin := sync.OnceValue(func() error {
		if err := dest.Begin(); err != nil {
			unbegun = w.targetFailure(err)
		}
		return unbegun
	})
	if w.engine.Expected().Claims {
		w.request.Begin = begin
	} else if err := begin(); err != nil {
		return nil, err
	}
	w.request.FD = int32(dest.FD())
	w.request.Name = w.written()
	var captured atomic.Bool
	if w.engine.Expected().SignalsFirst {
		guard.Late(func(sig syscall.Signal) bool { return w.own(sig, &captured) })
	}
	event = blcrevents.Begin(ctx, blcrevents.Checkpoint, int(w.request.FD), os.LookupEnv, w.tellEvents)
	w.request.Progressed = w.note
	if w.engine.Expected().Claims {
		// The processes would be frozen as long as this one is stopped.
		signals.DeferStops()
		w.obeyStops = sync.OnceFunc(signals.ObeyStops)
		defer w.obeyStops()
	}
	times.done("prepared")
	capture, err := engine.Capture(ctx, &w.request)
	captured.Store(true)
	line.Stop()
	w.log = engine.Log()
	if unbegun != nil {
		return event, unbegun
	}
	issued := ckpt.StepOf(err) != ckpt.StepIssue
	if issued && errors.Is(err, ckpt.ERestarted) {
		event.Forget()
		// This is the restored copy. The original has completed the checkpoint, and the
		// temporary file no longer has a name.
		w.con.Notef("restarted from completed checkpoint request\n")
		dest.Abort()
		return event, nil
	}
	if err == nil {
		times.done("captured")
		err = w.complete(ctx, capture, dest, guard, times)
	} else if issued && ckpt.ErrnoOf(err) == syscall.EINTR {
		event.Forget()
	}
	if err != nil {
		return event, w.captureFailure(err)
	}
	if w.kmsg == cli.KmsgWarning {
		w.con.Details(w.log)
	}
	w.tellSaved(engine, times)
	return event, nil
}

// complete releases the captured processes and puts the context in place, in the order
// that package ckpt requires for the request's signal.
func (w *work) complete(ctx context.Context, capture ckpt.Capture, dest target.Destination, guard *signals.Guard, times *steps) error {
	runOn := ckpt.RunsOn(w.request.Signal)
	if runOn {
		capture.Release()
		times.frozen = capture.Frozen()
		times.done("released")
		if w.obeyStops != nil {
			w.obeyStops()
		}
	}
	err := capture.Write(ctx)
	if err == nil {
		times.done("written")
		w.con.Notef("checkpoint request completed\n")
		err = w.commit(dest, guard)
	}
	if err != nil {
		capture.Abort()
		return err
	}
	times.done("in place")
	if !runOn {
		capture.Release()
		times.done("ended")
	}
	return nil
}

// commit puts the complete context in place. A signal that arrives now has to wait.
func (w *work) commit(dest target.Destination, guard *signals.Guard) error {
	if !guard.TryFinish() {
		return &ckpt.Error{Op: "checkpoint", Errno: syscall.ECANCELED}
	}
	w.beyondSignals()
	syncing := w.con.Progress("writing to disk", nil)
	err := dest.Commit()
	syncing.Stop()
	if err != nil {
		return w.targetFailure(err)
	}
	return nil
}

// tellEvents prints what has become of the events, with -v or if the environment asks
// for it.
func (w *work) tellEvents(line string) {
	if blcrevents.Verbose(os.LookupEnv) {
		w.con.Errorf("%s\n", line)
	} else {
		w.con.Notef("%s\n", line)
	}
}

// note prints the step of the request, with -v.
func (w *work) note(step ckpt.Step) {
	switch step {
	case ckpt.StepWait:
		w.con.Notef("checkpoint request issued\n")
		w.con.Notef("waiting for checkpoint request to complete\n")
	case ckpt.StepLog:
		w.con.Notef("collecting any kernel log messages\n")
	case ckpt.StepOutcome:
		w.con.Notef("reaping checkpoint request\n")
	}
}

// own reports whether a signal may be the request's own. The engine sends that signal
// to the saved processes shortly before Capture returns, and one of them may have
// passed it on to the process group of this process.
func (w *work) own(sig syscall.Signal, captured *atomic.Bool) bool {
	if int32(sig) != max(w.request.Signal, -w.request.Signal) {
		return false
	}
	const milliseconds = 1000
	for range milliseconds {
		if captured.Load() {
			return true
		}
		_, _ = unix.Poll(nil, 1)
	}
	return false
}

// names returns the file names of the target.
func (s *settings) names() target.Names {
	if s.dest == destDir {
		return s.target.DirNames()
	}
	return s.target.Names()
}

// written returns the name of what the context is written to, for messages.
func (s *settings) written() string {
	if s.dest == destFd {
		return fmt.Sprintf("<fd%d>", s.request.FD)
	}
	return s.names().Write
}

// announce prints the line that -v prints on stdout; on stderr where the context goes
// there, which is to begin with nothing else.
func (w *work) announce() {
	if w.con.Level <= 0 {
		return
	}
	dir, rename := "(null)", "(null)"
	if w.dest != destFd {
		names := w.names()
		dir = names.Dir
		if names.Rename != "" || w.target.Path == "" && w.target.Policy != target.Clobber && w.target.Policy != target.NoClobber {
			rename = names.Rename
		}
	}
	to := w.con.Stdout
	if w.dest == destFd && sameFile(int(w.request.FD), 1) {
		to = w.con.Stderr
	}
	fmt.Fprintf(to, "targetfile='%s', parent dir='%s', rename=%s\n", w.written(), dir, rename)
}

// sameFile tells whether two descriptors are open on the same file, such as a pipe.
func sameFile(a, b int) bool {
	var x, y unix.Stat_t
	return unix.Fstat(a, &x) == nil && unix.Fstat(b, &y) == nil && x.Dev == y.Dev && x.Ino == y.Ino
}

// open opens the destination.
func (w *work) open(ctx context.Context) (target.Destination, error) {
	switch w.dest {
	case destDir:
		format := w.engine.Expected().Directories
		w.request.Dir = w.target.Path
		dest, err := target.OpenDir(ctx, w.target, format.Inventory, format.IsImage)
		if err != nil {
			return nil, w.targetFailure(err)
		}
		return dest, nil
	case destFd:
		fd := int(w.request.FD)
		if fd < 0 {
			// BLCR treats a negative descriptor as a directory.
			return nil, negativeFD()
		}
		if entry.Doubtful(fd) {
			return nil, doubtfulFailure(fd)
		}
		w.request.Closed = !entry.Inherited(fd)
		if entry.Closed(fd) {
			// The engine has to find it closed, and reports that.
			unix.Close(fd)
		}
		return target.FromFD(fd, w.target.Sync), nil
	}
	dest, err := target.Open(ctx, w.target)
	if err != nil {
		return nil, w.targetFailure(err)
	}
	return dest, nil
}
