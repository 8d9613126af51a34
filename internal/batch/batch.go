// Package batch runs a job through interruptions: it starts a command or restarts its
// newest good context, saves it in time, keeps some generations, and ends as the job
// ends. Package main of cr_batch is its only user.
//
// It saves and restarts by running cr_checkpoint and cr_restart, whose exit statuses and
// messages it relies on. What belongs here: the order of these steps, the directory with
// the generations, and what batch systems call a job. What a checkpoint is belongs to
// the commands that make one.
package batch

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/proc"
	"blcr-cli/internal/show"
)

// Exit statuses besides those of the job.
const (
	// StatusSaved: the job is saved and ended, and is to be started again.
	StatusSaved = 85
	// StatusUnable: the job could not be started here and now. Its contexts are kept.
	StatusUnable = 75
	// StatusFailed: a failure before anything was started.
	StatusFailed = 125
	// StatusNoExec and StatusNotFound: the command cannot be executed, or is not there.
	StatusNoExec   = 126
	StatusNotFound = 127
)

// Options are what a user can choose.
type Options struct {
	Command []string // with its arguments

	Dir      string        // of the generations; "" for one that is named after the job
	Interval time.Duration // between checkpoints; 0 for none
	Keep     int           // generations, at least 1

	// Signals are those at which the job is saved and ended.
	Signals []syscall.Signal

	Requeue        bool   // by the batch system's own command
	RequeueCommand string // in its place, for the shell; ""

	MaxRestarts int    // 0 for no limit
	Stage       string // a directory of files that are kept with each generation; ""

	CheckpointOptions []string // further options of cr_checkpoint
	RestartOptions    []string // and of cr_restart

	Log *Log
}

// End is how a batch has ended.
type End struct {
	Status int            // to exit with
	Signal syscall.Signal // if not 0, the signal of which the job has died
}

// batch is one run.
type batch struct {
	*Options
	scheduler scheduler
	dir       *directory
	events    chan event
	signals   <-chan os.Signal
	env       []string // of the programs that are started

	timer   *time.Timer      // for the next checkpoint
	job     *job             // nil before and after
	last    *job             // the one that has ended
	saved   bool             // and was saved before
	save    *save            // a checkpoint in progress, or nil
	ending  bool             // the job is to be saved and ended
	retries int              // of that
	held    []syscall.Signal // for the job, when it has been restarted, or saved
	dying   syscall.Signal   // of which this process is to die: it came when there was no job
}

// Run runs the job to its end, to a checkpoint that ends it, or to a failure, which it
// has logged. It must be called on the thread that lasts as long as the process.
// Signals brings the signals that the process has caught.
func Run(o *Options, signals <-chan os.Signal) End {
	b := &batch{Options: o, scheduler: detect(os.Getenv), signals: signals, events: make(chan event, 16)}
	b.timer = time.NewTimer(time.Hour)
	b.timer.Stop()
	b.env = os.Environ()
	if id := b.scheduler.eventID(); id != "" && os.Getenv("CR_FTB_JOBID") == "" {
		b.env = append(b.env, "CR_FTB_JOBID="+id)
	}
	if b.Dir == "" {
		b.Dir = "cr_batch." + b.scheduler.dirName(filepath.Base(b.Command[0]))
	}
	dir, err := openDirectory(b.Dir)
	if err != nil {
		b.Log.Printf("%v", err)
		if _, busy := err.(*lockedError); busy {
			return End{Status: StatusUnable}
		}
		return End{Status: StatusFailed}
	}
	b.dir = dir
	defer dir.close()
	if b.Stage != "" && within(dir.path, b.Stage) {
		b.Log.Printf("--stage: %s contains the directory of the checkpoints, %s: name another one by --dir", show.Name(b.Stage), show.Name(dir.path))
		return End{Status: StatusFailed}
	}
	switch err := b.adopt(); {
	case b.ending:
		return b.requeue()
	case err != nil:
		b.Log.Printf("%v", err)
		return End{Status: StatusUnable}
	}
	end, ok := b.restart()
	if !ok {
		end = b.begin()
	}
	return end
}

// firstNumbers is more than the numbers that are given until a job is restored. The kernel
// does not give the first 300 a second time.
const firstNumbers = 300

// begin starts the command and runs it to its end.
func (b *batch) begin() End {
	if err := b.dir.forget(); err != nil {
		b.Log.Printf("%v", err)
		return End{Status: StatusFailed}
	}
	// In a container that has just been started the job would have one of the first numbers,
	// and cr_batch, or a thread of it, in the container where it is restarted.
	if last := proc.LastPid(); last > 0 && last < firstNumbers {
		proc.SkipNumbers(firstNumbers, firstNumbers)
	}
	j, err := b.startCommand()
	if err != nil {
		b.Log.Printf("cannot start %s: %v", show.Name(b.Command[0]), err)
		switch err {
		case syscall.ENOENT, syscall.ELOOP, syscall.ENAMETOOLONG:
			return End{Status: StatusNotFound}
		case syscall.EACCES, syscall.ENOEXEC, syscall.E2BIG:
			return End{Status: StatusNoExec}
		}
		return End{Status: StatusUnable}
	}
	b.Log.Printf("started %s as process %d", show.Name(b.Command[0]), j.pid)
	b.running(j)
	return b.supervise()
}

// running is called when the job runs.
func (b *batch) running(j *job) {
	j.running = true
	b.passHeld()
	if root := j.root(); root != j.pid {
		if err := b.dir.record(root, 0, false); err != nil {
			b.Log.Printf("%v", err)
		}
	}
	b.schedule()
}

// schedule sets the time of the next checkpoint.
func (b *batch) schedule() {
	if b.Interval > 0 {
		b.timer.Reset(b.Interval)
	}
}

// adopt saves and ends a job that an earlier run, which was killed, has left running: it
// cannot be waited for, and must not run twice. With b.ending its error does not matter.
func (b *batch) adopt() error {
	job, err := b.dir.left()
	for begun := time.Now(); err == nil && job.restart && !b.ending && time.Since(begun) < endTime; {
		// That cr_batch has ended, so it gives up, unless the job is about to run.
		b.pause(retryTime / 10)
		job, err = b.dir.left()
	}
	if err == nil && job.restart {
		// It may be any process of cr_restart's that could be saved here.
		b.Log.Printf("a restart of an earlier cr_batch is under way as process %d: it is ended", job.root)
		endRestart(job.root)
		if job, err = b.dir.left(); job.restart {
			return fmt.Errorf("process %d still runs: end it, or wait until it has ended", job.root)
		}
	}
	if job.root != 0 {
		b.Log.Printf("the job of an earlier cr_batch still runs as process %d: it is saved and restarted", job.root)
	}
	for try := 0; err == nil && job.root != 0; try++ {
		if b.Stage != "" {
			b.signal(job.root, unix.SIGCONT) // it was stopped for its files
		}
		number, failed := b.dir.next()
		var status unix.WaitStatus
		if failed == nil {
			status, failed = b.checkpoint(number, job.root, true)
		}
		if failed == nil && status == 0 {
			awaitEnd(job.root)
			if err := b.stage(number); err != nil {
				return errors.Join(err, b.dir.setAside(number)) // the job has ended: this is all there is
			}
		}
		// It may just have ended, and cr_checkpoint have found it on its way out. And a
		// cr_checkpoint of the earlier run may be about to end.
		last := job.root
		if job, err = b.dir.left(); err != nil || job.root == 0 {
			break
		}
		if b.pause(retryTime); try == retries || b.ending || failed != nil || status.Exited() && status.ExitStatus() != busy && try > 1 {
			return fmt.Errorf("process %d still runs, and cannot be saved (%s): end it, or wait until it has ended", last, result(status, failed))
		}
	}
	// What belongs to a job whose first process has ended comes back with the context.
	for _, pid := range job.rest {
		b.Log.Printf("process %d of an earlier run is killed", pid)
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	return err
}

// endRestart ends a cr_restart, and what it has restored.
func endRestart(pid int) {
	_ = unix.Kill(pid, unix.SIGTERM)
	if awaitEnd(pid) {
		return
	}
	// The job has got the signal, and goes on.
	pids, _ := proc.Descend(pid)
	for _, pid := range append(pids, pid) {
		_ = unix.Kill(pid, unix.SIGKILL)
	}
	awaitEnd(pid)
}

// endTime is how long a process is given to end.
const endTime = 10 * time.Second

// awaitEnd returns when a process has ended, or false after endTime.
func awaitEnd(pid int) bool {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return true
	}
	defer unix.Close(fd)
	n, _ := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(endTime.Milliseconds()))
	return n > 0
}

// supervise runs until the job has ended, or has been saved and ended.
func (b *batch) supervise() End {
	for b.job != nil || b.save != nil {
		b.step()
	}
	b.timer.Stop()
	return b.ended()
}

// step waits for one thing to happen and acts on it.
func (b *batch) step() {
	select {
	case sig := <-b.signals:
		b.take(sig.(syscall.Signal))
	case <-b.timer.C:
		if b.save == nil && b.job != nil && b.job.running {
			b.startSave()
		}
	case e := <-b.events:
		switch {
		case e.running:
			b.running(b.job)
			b.Log.Printf("restarted generation %d as process %d in %s", b.job.generation, b.job.root(), since(b.job.started))
			if b.ending {
				b.startSave()
			}
		case b.save != nil && e.pid == b.save.pid:
			b.finishSave(e.status)
		case b.job != nil && e.pid == b.job.pid:
			b.last = b.job
			b.last.status = e.status
			b.job = nil
		}
	}
}
