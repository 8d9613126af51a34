package batch

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/proc"
	"blcr-cli/internal/show"
)

// save is a checkpoint in progress.
type save struct {
	pid     int // of cr_checkpoint
	root    int // of the job
	number  int
	end     bool // it ends the job
	started time.Time
}

// busy is cr_checkpoint's status for what will pass.
const busy = int(unix.EBUSY)

const (
	retryTime = 2 * time.Second
	retries   = 15
)

// afterRestart are the signals for the job that would end cr_restart as long as it
// restores the job. Those by which a user wants it to end are not among them.
var afterRestart = []syscall.Signal{
	unix.SIGUSR1, unix.SIGUSR2, unix.SIGALRM, unix.SIGXCPU, unix.SIGVTALRM, unix.SIGPROF, unix.SIGIO, unix.SIGPWR,
}

// take acts on a signal to this process.
func (b *batch) take(sig syscall.Signal) {
	if slices.Contains(b.Signals, sig) {
		b.end(sig)
		return
	}
	switch {
	case b.job == nil:
	case b.save != nil && sig == unix.SIGCONT, !b.job.running && slices.Contains(afterRestart, sig):
		// SIGCONT would interrupt criu's work in the processes, and let them run on that
		// are stopped for their files.
		if !slices.Contains(b.held, sig) {
			b.held = append(b.held, sig)
		}
	default:
		b.pass(sig)
	}
	switch sig {
	case unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM:
		if b.job == nil {
			b.ending, b.dying = true, sig
		}
	case unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU:
		// A batch system stops this process by SIGSTOP, and its SIGCONT may have come
		// already. At a terminal it is Ctrl-Z, which has no effect on the job: it has no
		// process in this session that could let it go on.
		if !atTerminal() {
			return
		}
		if b.job != nil && b.job.running {
			b.signal(b.job.root(), unix.SIGSTOP)
		}
		_ = unix.Kill(os.Getpid(), unix.SIGSTOP)
		// SIGCONT, which has let this process go on, is passed on, too.
	}
}

// atTerminal reports whether this process has a controlling terminal.
func atTerminal() bool {
	fd, err := unix.Open("/dev/tty", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err == nil {
		unix.Close(fd)
	}
	return err == nil
}

// pass sends a signal to the job: to its process group, or to cr_restart, which passes it
// on.
func (b *batch) pass(sig syscall.Signal) {
	pid := b.job.pid
	if !b.job.restarted {
		pid = -pid
	}
	_ = unix.Kill(pid, sig)
}

// passHeld passes on the signals that had to wait.
func (b *batch) passHeld() {
	if b.job == nil || b.save != nil {
		return
	}
	for _, sig := range b.held {
		b.pass(sig)
	}
	b.held = nil
}

// end has the job saved and ended.
func (b *batch) end(sig syscall.Signal) {
	if b.ending {
		return
	}
	b.ending, b.retries = true, 0
	switch {
	case b.job == nil:
	case !b.job.running:
		b.Log.Printf("%s: the restart is given up", show.Signal(sig))
		b.job.giveUp.Close() // if it runs by now, it is saved
	default:
		b.Log.Printf("%s: the job is saved and ended", show.Signal(sig))
		if b.save == nil {
			b.startSave()
		}
	}
}

// startSave starts a checkpoint, one that ends the job if b.ending.
func (b *batch) startSave() {
	number, err := b.dir.next()
	s := &save{root: b.job.root(), number: number, end: b.ending, started: time.Now()}
	signal := ""
	switch {
	case b.Stage != "":
		signal = "--stop" // until the files are copied
	case s.end:
		signal = "--kill"
	}
	if err == nil {
		s.pid, err = b.startCheckpoint(s.number, s.root, signal, b.tell)
	}
	if err != nil {
		b.Log.Printf("cannot start cr_checkpoint: %v; the job runs on", err)
		b.ending = false
		b.schedule()
		return
	}
	b.save = s
}

// finishSave acts on the end of cr_checkpoint.
func (b *batch) finishSave(status unix.WaitStatus) {
	s := b.save
	b.save = nil
	defer b.passHeld()
	if status != 0 {
		b.failedSave(s, status)
		return
	}
	var size int64
	if fi, err := os.Stat(b.dir.context(s.number)); err == nil {
		size = fi.Size()
	}
	took := since(s.started)
	if b.Stage != "" {
		if err := b.stage(s.number); err != nil {
			b.Log.Printf("%v", err)
			// To keep it would fill the disk, a little more each time.
			if err := os.Remove(b.dir.context(s.number)); err != nil {
				b.Log.Printf("%v", err)
			}
			b.failedSave(s, unix.WaitStatus(int(unix.EIO)<<8))
			return
		}
		if s.end {
			b.signal(s.root, unix.SIGKILL)
		} else {
			b.signal(s.root, unix.SIGCONT)
		}
	}
	b.Log.Printf("saved generation %d, %s in %s: %s", s.number, show.Size(size), took, show.Name(b.dir.context(s.number)))
	if err := b.dir.prune(b.Keep); err != nil {
		b.Log.Printf("an old generation cannot be removed: %v", err)
	}
	b.saved = b.saved || s.end
	if s.end {
		return // the job's end comes
	}
	if b.ending && b.job != nil {
		b.startSave()
		return
	}
	b.schedule()
}

// failedSave lets the job run on. To save and end it is tried again if something is in
// the way that will pass.
func (b *batch) failedSave(s *save, status unix.WaitStatus) {
	if b.Stage != "" {
		b.signal(s.root, unix.SIGCONT)
		_ = os.RemoveAll(b.dir.stageTemp(s.number))
	}
	if b.job == nil {
		return // it has ended meanwhile
	}
	b.Log.Printf("saving process %d failed (%s); the job runs on", s.root, result(status, nil))
	switch {
	case b.ending && !s.end:
		b.startSave()
	case b.ending && status.Exited() && status.ExitStatus() == busy && b.retries < retries:
		b.retries++
		b.timer.Reset(retryTime)
	default:
		b.ending = false
		b.schedule()
	}
}

// signal sends a signal to all processes of the job, which stand still.
func (b *batch) signal(root int, sig syscall.Signal) {
	pids, err := proc.Descend(root)
	if err != nil {
		pids = []int{root}
	}
	for _, pid := range slices.Backward(pids) {
		_ = unix.Kill(pid, sig)
	}
}

// ended returns how the batch ends, after the job.
func (b *batch) ended() End {
	if left, _ := b.dir.left(); len(left.rest) > 0 && b.last.running && !b.saved {
		b.Log.Printf("the job's first process has ended, which is its end; others of its session still run: %v", left.rest)
	}
	if err := b.dir.forget(); err != nil {
		b.Log.Printf("%v", err)
	}
	status := b.last.status
	if b.saved || !b.last.running && b.ending {
		return b.requeue()
	}
	if !b.last.running {
		return End{Status: StatusUnable} // restart has logged it
	}
	took := since(b.last.started)
	switch {
	case status.Signaled():
		b.Log.Printf("the job was killed by %s after %s; its contexts stay in %s", show.Signal(status.Signal()), took, show.Name(b.dir.path))
		return End{Status: 128 + int(status.Signal()), Signal: status.Signal()}
	case status.ExitStatus() != 0:
		b.Log.Printf("the job has ended with status %d after %s; its contexts stay in %s", status.ExitStatus(), took, show.Name(b.dir.path))
	default:
		b.Log.Printf("the job has ended after %s", took)
		if err := b.dir.clear(); err != nil {
			b.Log.Printf("%v", err)
		}
	}
	return End{Status: status.ExitStatus()}
}

// requeueTime is how long a command that requeues the job may take. The checkpoint is
// made, and the batch system may be about to end all processes of the job.
var requeueTime = 2 * time.Minute

// requeue has the batch system start the job again, if that is wanted.
func (b *batch) requeue() End {
	if b.dying != 0 {
		b.Log.Printf("%s: given up", show.Signal(b.dying))
		return End{Status: 128 + int(b.dying), Signal: b.dying}
	}
	status := StatusSaved
	var argv []string
	switch {
	case b.RequeueCommand != "":
		argv = []string{"/bin/sh", "-c", b.RequeueCommand}
	case b.Requeue:
		argv, status = b.scheduler.requeue()
		if argv == nil && status == StatusSaved {
			b.Log.Printf("there is no batch system that is known: start the job again by the same command")
		}
	}
	if argv == nil {
		return End{Status: status}
	}
	c := exec.Command(argv[0], argv[1:]...)
	c.Stdout, c.Stderr = b.Log.file, b.Log.file
	if err := b.run(c); err != nil {
		b.Log.Printf("requeueing failed: %s: %v; the job is saved: start it again by the same command", show.Text(c.String()), err)
		if b.scheduler.name == "pbs" && b.RequeueCommand == "" {
			b.Log.Printf("qrerun may be for operators only: use --requeue-command 'qsub SCRIPT', and --dir with a name that does not depend on the job's id")
		}
	} else {
		b.Log.Printf("requeued: %s", show.Text(c.String()))
	}
	return End{Status: status}
}

// run runs a command to its end, but not for longer than requeueTime. The signals of
// --signal have had their effect. Those that end a program at a terminal end the command.
func (b *batch) run(c *exec.Cmd) error {
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := c.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	over := time.After(requeueTime)
	for {
		select {
		case err := <-ended:
			return err
		case sig := <-b.signals:
			switch sig {
			case unix.SIGHUP, unix.SIGINT, unix.SIGQUIT:
				_ = unix.Kill(-c.Process.Pid, sig.(syscall.Signal))
			}
		case <-over:
			_ = unix.Kill(-c.Process.Pid, unix.SIGKILL)
			return fmt.Errorf("it was killed, since it had not ended after %v", requeueTime)
		}
	}
}
