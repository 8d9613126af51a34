package criu

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/ckpt/criu/images"
	"blcr-cli/internal/proc"
	"blcr-cli/test/harness"
)

// memoryContext is a context in memory.
type memoryContext map[string][]byte

func (c memoryContext) Has(name string) bool { return c[name] != nil }
func (c memoryContext) Bytes(name string) ([]byte, error) {
	if !c.Has(name) {
		return nil, unix.ENOENT
	}
	return c[name], nil
}
func (c memoryContext) ReadAt(name string, b []byte, offset int64) (int, error) {
	return copy(b, c[name][offset:]), nil
}
func (c memoryContext) Serve(name string, pipe int) error { return errors.ErrUnsupported }
func (c memoryContext) Abort()                            {}
func (c memoryContext) Close() error                      { return nil }

// What images/testdata/README describes: the root's pid, and the pipe that is its
// standard input.
const (
	exampleRoot = 11582
	examplePipe = 24235871
)

// example is the context that images/testdata has images of. Only the root has
// descriptors and memory.
func example(t *testing.T) memoryContext {
	t.Helper()
	c := make(memoryContext)
	add := func(name, file string) {
		img, err := os.ReadFile(filepath.Join("images/testdata", file))
		if err != nil {
			t.Fatal(err)
		}
		c[name] = img
	}
	for _, name := range []string{images.PstreeName, images.FilesName, images.InventoryName, images.TTYInfoName, "timens-0.img", "fdinfo-2.img"} {
		add(name, name)
	}
	tasks, err := images.Tasks(c[images.PstreeName])
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		add(images.Name("core", task.PID), "core-root.img")
	}
	add(images.Name("ids", int32(exampleRoot)), "ids-root.img")
	add(images.Name("mm", int32(exampleRoot)), "mm-root.img")
	return c
}

func makePlan(t *testing.T, c memoryContext, r *ckpt.RestartRequest) *plan {
	t.Helper()
	p, err := newPlan(c, r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.close)
	return p
}

// TestPlanSessions: the job joins this process's session and group, or stays in its
// own; the stopped processes are known.
func TestPlanSessions(t *testing.T) {
	sid, err := unix.Getsid(0)
	if err != nil {
		t.Fatal(err)
	}
	group := unix.Getpgrp()
	p := makePlan(t, example(t), &ckpt.RestartRequest{RestorePid: true})
	if sid == 0 {
		// The session of the tests is one of another pid namespace, which the job
		// cannot join: it gets its own.
		sid, group = int(p.tasks[0].PID), int(p.tasks[0].PID)
	}
	for _, task := range p.tasks {
		if int(task.SID) != sid || int(task.PGID) != group {
			t.Errorf("process %d: session %d, group %d; want %d, %d", task.PID, task.SID, task.PGID, sid, group)
		}
		if !p.stopped[task.PID] {
			t.Errorf("process %d is not stopped", task.PID)
		}
	}
	p = makePlan(t, example(t), &ckpt.RestartRequest{RestorePid: true, RestoreSid: true, RestorePgid: true})
	own := slices.ContainsFunc(p.tasks, func(task images.Task) bool { return task.SID == task.PID })
	if !own {
		t.Errorf("no process leads its own session: %v", p.tasks)
	}
}

// TestPlanRelocate: files are opened under their new names.
func TestPlanRelocate(t *testing.T) {
	p := makePlan(t, example(t), &ckpt.RestartRequest{RestorePid: true, Relocations: []ckpt.Relocation{{Old: "/tmp/job", New: "/elsewhere"}}})
	files, err := images.Files(p.images[images.FilesName])
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, f := range files {
		if strings.HasPrefix(f.Name, "/tmp/job") {
			t.Errorf("%s is not relocated", f.Name)
		}
		if strings.HasPrefix(f.Name, "/elsewhere") {
			found++
		}
	}
	if found == 0 {
		t.Error("no file is relocated")
	}
}

// TestPlanExternal: a pipe from outside is replaced by what this process has under
// the same number. One whose other end was closed is not, and is if that is not
// known.
func TestPlanExternal(t *testing.T) {
	if !isOpen(0) {
		t.Skip("standard input is closed")
	}
	const inherit = "fd[3]:descriptor-0"
	for note, want := range map[string]bool{
		fmt.Sprintf("%d\n", examplePipe): true,
		"":                               false,
		"none":                           true,
	} {
		c := example(t)
		if note != "none" {
			c[images.ExternalPipesName] = []byte(note)
		}
		p := makePlan(t, c, &ckpt.RestartRequest{RestorePid: true})
		if got := slices.Contains(p.options, inherit); got != want {
			t.Errorf("note %q: options %q, inherited %v", note, p.options, p.inherited)
		}
		if len(p.options) != 2*len(p.inherited) {
			t.Errorf("options %q for %d descriptors", p.options, len(p.inherited))
		}
	}
}

// TestPlanClocks: criu makes a time namespace only if the clocks would go back.
func TestPlanClocks(t *testing.T) {
	c := example(t)
	seen, err := images.Read(c, "timens-0.img", images.ReadClocks)
	if err != nil {
		t.Fatal(err)
	}
	back := clock(unix.CLOCK_MONOTONIC) < seen.Monotonic || clock(unix.CLOCK_BOOTTIME) < seen.Boottime
	p := makePlan(t, c, &ckpt.RestartRequest{RestorePid: true})
	if hidden := slices.Contains(p.hidden, "timens-0.img"); hidden == back {
		t.Errorf("the clocks are hidden: %v; they would go back: %v", hidden, back)
	}
}

// TestPlanDamaged: without an image that is needed, or with a damaged one, there is
// no plan.
func TestPlanDamaged(t *testing.T) {
	for _, name := range []string{images.PstreeName, images.FilesName, images.InventoryName, images.Name("core", int32(exampleRoot))} {
		for _, damage := range []func(c memoryContext){
			func(c memoryContext) { delete(c, name) },
			func(c memoryContext) { c[name] = c[name][:len(c[name])-1] },
			func(c memoryContext) { c[name] = []byte{} },
		} {
			c := example(t)
			damage(c)
			if p, err := newPlan(c, &ckpt.RestartRequest{RestorePid: true}); err == nil {
				p.close()
				t.Errorf("%s: a plan without it", name)
			}
		}
	}
}

// TestPidInUse: a pid that is in use is an error that names it.
func TestPidInUse(t *testing.T) {
	pids := &plan{tasks: []images.Task{{PID: int32(os.Getpid()), Threads: []int32{int32(os.Getpid())}}}}
	err := pids.pidsFree(t.Context())
	if pid, inUse := pidInUse(err); !inUse || pid != os.Getpid() || !errors.Is(err, unix.EBUSY) {
		t.Errorf("%v", err)
	}
	free := &plan{tasks: []images.Task{{PID: 1<<22 + 1}}}
	if err := free.pidsFree(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestForeseenPids: what has ended is waited for, by cr_info --check as well, and what runs is
// named.
func TestForeseenPids(t *testing.T) {
	look := func(pid int) []error {
		f := &foresight{Forecast: &ckpt.Forecast{}, plan: &plan{tasks: []images.Task{{PID: int32(pid), Threads: []int32{int32(pid)}}}}}
		if err := f.pids(t.Context()); err != nil {
			t.Fatal(err)
		}
		return f.Failures
	}
	running := exec.Command("sleep", "1000")
	if err := running.Start(); err != nil {
		t.Fatal(err)
	}
	if errs := look(running.Process.Pid); len(errs) != 1 || ckpt.ErrnoOf(errs[0]) != unix.EBUSY {
		t.Errorf("of a process that runs: %v", errs)
	}
	_ = running.Process.Kill()
	_ = running.Wait()
	if errs := look(os.Getpid()); errs != nil {
		t.Errorf("of this process, which has ended when the job is restarted: %v", errs)
	}
	child := exec.Command("true")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	pid := child.Process.Pid
	harness.Poll(t, "a process to end", func() bool { return proc.Ended(pid) })
	found := make(chan []error)
	go func() { found <- look(pid) }()
	_ = child.Wait()
	if errs := <-found; errs != nil {
		t.Errorf("of one that has ended: %v", errs)
	}
}

// TestOfJob: files in /proc that are the job's own are there when it is restored.
func TestOfJob(t *testing.T) {
	f := &foresight{plan: &plan{tasks: []images.Task{{PID: 40, Threads: []int32{40, 42}}}}}
	for name, want := range map[string]bool{
		"/proc/40": true, "/proc/40/status": true, "/proc/42/task/42/fd": true,
		"/proc/4/status": false, "/proc/401/status": false, "/proc/sys/kernel": false, "/proc": false, "/home/proc/40": false,
	} {
		if f.ofJob(name) != want {
			t.Errorf("%s: %v", name, !want)
		}
	}
}

// TestFreed: a number that is only that of a session whose processes have ended is waited
// for. What runs keeps it.
func TestFreed(t *testing.T) {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0) }()
	leader := exec.Command("sh", "-c", "sleep 1000 >/dev/null 2>&1 & echo $!")
	leader.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	out, err := leader.Output()
	if err != nil {
		t.Fatal(err)
	}
	member, err := strconv.Atoi(strings.TrimSpace(string(out)))
	if err != nil {
		t.Fatal(err)
	}
	is := func(ctx context.Context, limit time.Duration) bool {
		return freed(ctx, busyError(leader.Process.Pid), time.Now().Add(limit))
	}
	if is(t.Context(), time.Minute) {
		t.Error("a session with a process that runs is free")
	}
	_ = unix.Kill(member, unix.SIGKILL)
	for !proc.Ended(member) {
		time.Sleep(time.Millisecond)
	}
	if is(t.Context(), 50*time.Millisecond) {
		t.Error("a session with a zombie is free")
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if is(over, time.Minute) {
		t.Error("an interrupted restart goes on")
	}
	done := make(chan bool)
	go func() { done <- is(t.Context(), time.Minute) }()
	if _, err := unix.Wait4(member, nil, 0, nil); err != nil {
		t.Fatal(err)
	}
	if !<-done {
		t.Error("a session without processes is not free")
	}
	if freed(t.Context(), unix.EBUSY, time.Now().Add(time.Minute)) {
		t.Error("waited for nothing")
	}
}

// TestBusyThread: of the threads of a job the one whose number is in use is named, and
// another one where none is.
func TestBusyThread(t *testing.T) {
	free := int32(1<<22 + 1) // more than there may be
	own := int32(unix.Gettid())
	p := &plan{tasks: []images.Task{{PID: 1, Threads: []int32{1, free}}, {PID: free, Threads: []int32{free, own}}}}
	if id := p.busyThread(); id != int(own) {
		t.Errorf("%d, want %d, which this thread has", id, own)
	}
	p.tasks = p.tasks[:1]
	if id := p.busyThread(); id != int(free) {
		t.Errorf("%d, want %d", id, free)
	}
	if !freed(t.Context(), busyError(int(free)), time.Now().Add(time.Minute)) {
		t.Error("there is no other attempt")
	}
}
