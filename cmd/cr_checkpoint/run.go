package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/blcrevents"
	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/ckpt/criu"
	"blcr-cli/internal/ckpt/criu/images"
	"blcr-cli/internal/ckpt/engines"
	"blcr-cli/internal/cli"
	"blcr-cli/internal/entry"
	"blcr-cli/internal/signals"
	"blcr-cli/internal/target"
)

const name = "cr_checkpoint"

func versionLine() string { return fmt.Sprintf("%s version %s\n", name, cli.Version) }

func defaultName(id int32) string { return fmt.Sprintf("context.%d", id) }

// run is the command: args is its whole argument vector. It returns the exit
// status.
func run(args []string, stdout, stderr io.Writer) int {
	if criu.IsHelper() {
		return criu.Helper()
	}
	// We may have been saved by somebody else, and restored a moment ago.
	defer criu.AwaitRelease()
	if !isWorker() {
		if l := leaving(); l != nil {
			return l.leaveOrKeep()
		}
	}
	return cli.Run(name, "save running processes into a context file", args, stdout, stderr, checkpoint)
}

// checkpoint does what the arguments ask for and returns the exit status.
func checkpoint(args []string, con *cli.Console) int {
	s, stop := parse(args, con)
	if stop != nil {
		io.WriteString(con.Stdout, stop.stdout)
		con.Errorf("%s", stop.stderr)
		return stop.status
	}
	w := &work{settings: s, con: con}
	if !isWorker() {
		if status, done := s.delegate(con); done {
			return status
		}
	} else if l := leaving(); l != nil {
		w.request.Waiting = int32(l.waiting)
		w.signals = l.listen()
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

	// log is what the engine has to say about the request. It is shown before
	// the message if anything fails from then on.
	log []string

	// signals, if not nil, is where the signals for us come from besides the
	// kernel.
	signals io.Closer
}

// finished gives up what the guard of the work needed: from here on no signal
// may end this process. Whoever has sent them has to take them himself.
func (w *work) finished() {
	if w.signals != nil {
		w.signals.Close()
	}
}

// do makes the checkpoint. Whatever it created is gone again if it fails.
func (w *work) do() error {
	w.announce()
	guard := signals.NewGuard()
	var dest openTarget
	var err error
	guard.Create(func() func() {
		dest, err = w.open()
		if err != nil {
			return nil
		}
		return func() { dest.Abort() }
	})
	if err != nil {
		return err
	}
	err = w.save(dest, guard)
	// A signal that has begun to end the program ends it here, whatever else
	// has failed because of that.
	guard.Finish()
	if err != nil {
		return w.abort(dest, err)
	}
	return nil
}

// abort removes what there is of the context after err, which it returns.
func (w *work) abort(dest openTarget, err error) error {
	f := asFailure(err)
	if e := dest.Abort(); e != nil {
		f.details = append(f.details, fmt.Sprintf("left behind: %v", e))
	}
	return f
}

// save has the context written to dest and put in place.
func (w *work) save(dest openTarget, guard *signals.Guard) (err error) {
	name := os.Getenv("CR_ENGINE")
	if w.dest == destDir {
		name = engines.Criu // as engines.TakeDirs has it
		w.request.Dir = w.target.Path
	}
	if w.request.Compress != 0 {
		name = engines.Criu // as engines.Compresses has it
	}
	engine, name, err := ckpt.Choose(name, engines.All)
	if err != nil {
		return connectFailure(err)
	}
	line := w.progress(engine)
	w.request.Measure = line != nil
	var event *blcrevents.Request
	defer func() {
		line.Stop()
		// What is still under way is given up first.
		engine.Close()
		// A signal that has made the request fail ends the program here: how it
		// went is not for the event to say.
		guard.Finish()
		event.End(errnoOf(err))
	}()
	guard.Create(func() func() {
		return func() {
			line.Stop()
			engine.Close()
			dest.Abort()
		}
	})
	var committed bool
	var commitErr error
	w.request.Complete = func() bool {
		if !guard.TryFinish() {
			return false
		}
		w.finished()
		if ckpt.Ends(w.request.Signal) {
			// While the processes can still go on without it.
			commitErr = dest.Commit()
			committed = commitErr == nil
		}
		return commitErr == nil
	}
	if err := dest.Begin(); err != nil {
		return w.targetFailure(err)
	}
	w.request.FD = int32(dest.FD())
	if name == engines.Criu && w.dest == destFd && !entry.Inherited(dest.FD()) {
		// That engine, and the runtime under it, may have opened it meanwhile.
		w.request.FD = entry.NeverOpen
	}
	var over atomic.Bool // the request is
	if name == engines.Kernel {
		guard.Late(func(sig syscall.Signal) bool { return w.own(sig, &over) })
	}
	event = blcrevents.Begin(blcrevents.Checkpoint, int(w.request.FD), os.LookupEnv, func(line string) { w.con.Notef("%s\n", line) })
	request, err := engine.Checkpoint(&w.request)
	if err != nil {
		return requestFailure(err)
	}
	w.con.Notef("checkpoint request issued\n")
	err = w.complete(request, &over, line)
	if err != nil {
		if commitErr == nil && errnoOf(err) == syscall.EINTR {
			event.Forget()
		}
		if errors.Is(err, ckpt.ERestarted) {
			event.Forget()
			// We are the copy that was saved; the original has done the rest,
			// and what is ours no longer has a name.
			w.con.Notef("restarted from completed checkpoint request\n")
			dest.Abort()
			return nil
		}
		if commitErr != nil {
			return w.targetFailure(commitErr)
		}
		if name == engines.Criu {
			return w.naming(err)
		}
		return err
	}
	w.con.Notef("checkpoint request completed\n")

	// From here on the context is complete. A signal has to wait until it
	// stands under its name.
	guard.Finish()
	if !committed {
		syncing := w.con.Progress("writing to disk", nil)
		err := dest.Commit()
		syncing.Stop()
		if err != nil {
			return w.targetFailure(err)
		}
	}
	if w.kmsg == cli.KmsgWarning {
		w.con.Details(w.log)
	}
	return nil
}

// own tells whether a signal may be the one that we have asked for ourselves: the
// module sends it to those who were saved, shortly before it says that it is done,
// and one of them may have passed it on to our process group.
func (w *work) own(sig syscall.Signal, over *atomic.Bool) bool {
	if int32(sig) != max(w.request.Signal, -w.request.Signal) {
		return false
	}
	const milliseconds = 1000
	for range milliseconds {
		if over.Load() {
			return true
		}
		_, _ = unix.Poll(nil, 1)
	}
	return false
}

// naming adds to an error about writing what was written to, which the engine
// knows by its descriptor only.
func (w *work) naming(err error) error {
	f := asFailure(err)
	switch errnoOf(err) {
	case syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG, syscall.EPIPE:
		to := fmt.Sprintf("<fd%d>", w.request.FD)
		switch w.dest {
		case destFd:
		case destDir:
			to = w.target.DirNames().Write
		default:
			to = w.target.Names().Write
		}
		// What the engine knows of the place comes after its name.
		f.details = slices.Insert(slices.Clone(f.details), 0, fmt.Sprintf("writing '%s': %s", to, ckpt.Strerror(errnoOf(err))))
	}
	return f
}

// complete waits for the request and takes its outcome.
func (w *work) complete(request ckpt.Checkpoint, over *atomic.Bool, line *cli.ProgressLine) error {
	w.con.Notef("waiting for checkpoint request to complete\n")
	err := request.Wait()
	over.Store(true)
	line.Stop()
	if err != nil {
		return waitFailure(err)
	}
	if w.kmsg != cli.KmsgNone {
		w.con.Notef("collecting any kernel log messages\n")
		// A log that cannot be had changes nothing about the checkpoint.
		w.log, _ = request.Log()
	}
	w.con.Notef("reaping checkpoint request\n")
	if err := request.Reap(); err != nil {
		return reapFailure(err)
	}
	return nil
}

// announce is the line that -v prints on stdout.
func (w *work) announce() {
	if w.con.Level <= 0 {
		return
	}
	write, dir, rename := fmt.Sprintf("<fd%d>", w.request.FD), "(null)", "(null)"
	if w.dest != destFd {
		names := w.target.Names()
		if w.dest == destDir {
			names = w.target.DirNames()
		}
		write, dir = names.Write, names.Dir
		if names.Rename != "" {
			rename = names.Rename
		}
	}
	fmt.Fprintf(w.con.Stdout, "targetfile='%s', parent dir='%s', rename=%s\n", write, dir, rename)
}

// openTarget is a *target.Target or a *target.Dir.
type openTarget interface {
	FD() int
	Begin() error
	Commit() error
	Abort() error
}

// open opens the destination.
func (w *work) open() (openTarget, error) {
	if w.dest == destDir {
		dest, err := target.OpenDir(context.Background(), w.target, images.InventoryName, images.IsImage)
		if err != nil {
			return nil, w.targetFailure(err)
		}
		return dest, nil
	}
	if w.dest == destFd {
		if w.request.FD < 0 {
			// BLCR takes a negative descriptor for a directory.
			return nil, &failure{status: ckpt.ExitStatus(syscall.EINVAL), message: "directories not yet supported"}
		}
		if entry.Closed(int(w.request.FD)) {
			// The engine is to find it closed, and says so.
			unix.Close(int(w.request.FD))
		}
		return target.FromFD(int(w.request.FD), w.target.Sync), nil
	}
	dest, err := target.Open(context.Background(), w.target)
	if err != nil {
		return nil, w.targetFailure(err)
	}
	return dest, nil
}
