package batch

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/entry"
	"blcr-cli/internal/forkexec"
	"blcr-cli/internal/proc"
	"blcr-cli/internal/signals"
)

// event is something that has happened to a child.
type event struct {
	pid     int
	running bool // the job that cr_restart restores runs; else the child has ended
	status  unix.WaitStatus
}

// job is the command, or a cr_restart with the restored job.
type job struct {
	pid        int      // of this process's child
	restarted  bool     // the child is a cr_restart
	generation int      // of which
	running    bool     // false as long as cr_restart restores it
	giveUp     *os.File // with cr_restart: closed to have it given up before the job runs
	started    time.Time
	status     unix.WaitStatus // when it has ended
}

// root returns the pid of the job's first process: the child, or below cr_restart what is
// not cr_restart itself, which may be there again as the first process of a pid namespace.
func (j *job) root() int {
	pid := j.pid
	for j.restarted {
		children, err := proc.Children(pid)
		if err != nil || len(children) == 0 {
			return j.pid
		}
		i := slices.IndexFunc(children, func(child int) bool { return !sameProgram(j.pid, child) })
		if i >= 0 {
			return children[i]
		}
		pid = children[0]
	}
	return pid
}

func sameProgram(a, b int) bool {
	var one, other unix.Stat_t
	return unix.Stat(proc.ExecutableLink(a), &one) == nil && unix.Stat(proc.ExecutableLink(b), &other) == nil &&
		one.Dev == other.Dev && one.Ino == other.Ino
}

// tool returns the path of a command of ours: beside this one, or else in PATH.
func tool(name string) (string, error) {
	if self, err := os.Executable(); err == nil {
		path := filepath.Join(filepath.Dir(self), name)
		if unix.Access(path, unix.X_OK) == nil {
			return path, nil
		}
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("%s: it is neither beside cr_batch nor in PATH", name)
	}
	return path, nil
}

// start starts a program in a session of its own, with this environment and attr.Env, and
// reports its end as an event. With attr.Forked it is recorded as the job before it is
// executed.
func (b *batch) start(path string, argv []string, attr *forkexec.Attr, ended func(event)) (pid int, err error) {
	attr.Env, attr.Setsid = append(slices.Clip(attr.Env), b.env...), true
	if pid, err = forkexec.Start(path, argv, attr); err != nil {
		return 0, err
	}
	go func() {
		status, err := signals.Wait(pid)
		if err != nil {
			status = unix.WaitStatus(StatusUnable << 8) // another one has waited for it: SIGCHLD is ignored
		}
		ended(event{pid: pid, status: status})
	}()
	return pid, nil
}

// recorded returns a function that records a child as the job. Without a record the job
// must not run: another cr_batch would not know of it if this one was killed, and the job
// would run twice.
func (b *batch) recorded(restart bool) func(pid int) error {
	return func(pid int) error { return b.dir.record(pid, pid, restart) }
}

func (b *batch) tell(e event) { b.events <- e }

// startCommand starts the command, by cr_run, with which BLCR's module can save it.
//
// A session of its own makes the job one that can be saved whatever has started
// cr_batch, and keeps signals to cr_batch's process group away from it.
func (b *batch) startCommand() (*job, error) {
	path, err := lookUp(b.Command[0])
	if err != nil {
		return nil, err
	}
	argv := b.Command
	if run, err := tool("cr_run"); err == nil {
		path, argv = run, append([]string{"cr_run", "--"}, b.Command...)
	}
	j := &job{started: time.Now()}
	j.pid, err = b.start(path, argv, &forkexec.Attr{Files: entry.Standard(), Forked: b.recorded(false)}, b.tell)
	if err != nil {
		return nil, err
	}
	b.job = j
	return j, nil
}

// defaultPath is where cr_run searches for programs if PATH is not set.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// lookUp finds the program that a command names, as the shell does. The error is an
// errno: of the first file of that name that cannot be executed; ENOENT if there is none.
func lookUp(program string) (path string, err error) {
	dirs, set := os.LookupEnv("PATH")
	switch {
	case strings.Contains(program, "/"):
		dirs = "/" // is not used
	case !set:
		dirs = defaultPath
	}
	err = syscall.ENOENT
	for dir := range strings.SplitSeq(dirs, ":") {
		path = program
		if !strings.Contains(program, "/") {
			path = cmp.Or(dir, ".") + "/" + program
		}
		var st unix.Stat_t
		failed := unix.Stat(path, &st)
		if failed == nil {
			failed = unix.Access(path, unix.X_OK)
		}
		if failed == nil && st.Mode&unix.S_IFMT != unix.S_IFREG {
			failed = syscall.EACCES // as execve(2)
		}
		switch {
		case failed == nil:
			return path, nil
		case err == syscall.ENOENT && failed != syscall.ENOTDIR:
			err = failed
		}
	}
	return "", err
}

// startRestart starts cr_restart with a generation's context. What it tells when the job
// runs comes as an event, before its end.
func (b *batch) startRestart(number int, options ...string) (*job, error) {
	path, err := tool("cr_restart")
	if err != nil {
		return nil, err
	}
	fifo, fd, err := b.dir.fifo()
	if err != nil {
		return nil, err
	}
	var ends [2]int
	if err := unix.Pipe2(ends[:], unix.O_CLOEXEC); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("pipe: %w", err)
	}
	defer unix.Close(ends[0])
	giveUp := os.NewFile(uintptr(ends[1]), "pipe")
	// "<>" does not wait for a reader, which this process may be no more.
	argv := append([]string{"cr_restart", "--run-on-success=2>/dev/null >" + quote(b.dir.file(runsName)) + "; echo 1<>" + quote(fifo)}, options...)
	argv = append(argv, b.RestartOptions...)
	argv = append(argv, "--", b.dir.context(number))
	j := &job{started: time.Now(), restarted: true, generation: number, giveUp: giveUp}
	// The end is reported behind what cr_restart has written before it.
	end := make(chan event, 1)
	j.pid, err = b.start(path, argv, &forkexec.Attr{
		Files: append(entry.Standard(), uintptr(ends[0])), Forked: b.recorded(true), Answers: true,
		Env: []string{signals.CallerVar + "=3"},
	}, func(e event) {
		end <- e
		_, _ = unix.Write(fd, []byte("e"))
	})
	if err != nil {
		unix.Close(fd)
		giveUp.Close()
		return nil, err
	}
	b.job = j
	go func() {
		defer os.Remove(fifo)
		defer unix.Close(fd)
		defer giveUp.Close()
		for c := []byte{0}; ; {
			n, err := unix.Read(fd, c)
			if err == unix.EINTR {
				continue
			}
			if n != 1 || c[0] == 'e' {
				b.tell(<-end)
				return
			}
			b.tell(event{pid: j.pid, running: true})
		}
	}()
	return j, nil
}

// quote quotes a word for the shell.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// startCheckpoint starts cr_checkpoint for process pid, into a generation's context.
func (b *batch) startCheckpoint(number, pid int, signal string, ended func(event)) (int, error) {
	path, err := tool("cr_checkpoint")
	if err != nil {
		return 0, err
	}
	if b.Stage != "" {
		if err := b.dir.stageBegins(number); err != nil {
			return 0, err
		}
	}
	argv := append([]string{"cr_checkpoint", "-f", b.dir.context(number)}, b.CheckpointOptions...)
	if signal != "" {
		argv = append(argv, signal)
	}
	argv = append(argv, "--", fmt.Sprint(pid))
	// An error of opening it leaves standard input closed.
	in := ^uintptr(0)
	if null, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0); err == nil {
		defer unix.Close(null)
		in = uintptr(null)
	}
	out := b.Log.fd()
	return b.start(path, argv, &forkexec.Attr{Files: []uintptr{in, out, out}, Answers: true, Pdeathsig: unix.SIGTERM}, ended)
}

// checkpoint makes a checkpoint and waits for it. There is no b.job.
func (b *batch) checkpoint(number, pid int, end bool) (unix.WaitStatus, error) {
	signal := ""
	if end {
		signal = "--kill"
	}
	done := make(chan event, 1)
	if _, err := b.startCheckpoint(number, pid, signal, func(e event) { done <- e }); err != nil {
		return 0, err
	}
	for {
		select {
		case e := <-done:
			return e.status, nil
		case sig := <-b.signals:
			b.take(sig.(syscall.Signal))
		}
	}
}

// result says how a command of ours has ended.
func result(status unix.WaitStatus, err error) string {
	switch {
	case err != nil:
		return err.Error()
	case status.Signaled():
		return "killed by signal " + fmt.Sprint(int(status.Signal()))
	}
	return "status " + fmt.Sprint(status.ExitStatus())
}
