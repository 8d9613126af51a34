package pstree

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/proc"
)

// Pids of the tables: base + 1 and so on, which no process can have.
const base = 1 << 23

// table makes a table of processes of one group and session each, unless changed.
func table(parents map[int]int, change func(p *proc.Process)) proc.Table {
	t := make(proc.Table)
	for pid, parent := range parents {
		p := &proc.Process{Pid: base + pid, PPid: base + parent, Pgid: base + 1, Sid: base + 1, Comm: "job", State: 'S'}
		if change != nil {
			change(p)
		}
		t[p.Pid] = p
	}
	return t
}

// as has the tables' process be this one.
func as(t *testing.T, pid int) {
	self = func() int { return base + pid }
	t.Cleanup(func() { self = os.Getpid })
}

// family: 1 has the children 2 and 3, 3 has the child 4. 9 is another process.
var family = map[int]int{1: 0, 2: 1, 3: 1, 4: 3, 9: 0}

func checkTree(t *testing.T, tree *Tree, want ...int) {
	t.Helper()
	for i := range want {
		want[i] += base
	}
	got := slices.Sorted(slices.Values(tree.PIDs))
	if tree.Root != want[0] || !slices.Equal(got, want) {
		t.Errorf("root %d, tree %v; want root %d, tree %v", tree.Root, got, want[0], want)
	}
}

func checkError(t *testing.T, err error, errno syscall.Errno, said string) {
	t.Helper()
	var e *ckpt.Error
	if !errors.As(final(err), &e) || e.Errno != errno || !strings.Contains(strings.Join(e.Detail, "\n"), said) {
		t.Errorf("error %#v, want %d with %q", err, int(errno), said)
	}
}

func TestFindProcess(t *testing.T) {
	as(t, 9)
	find := func(scope ckpt.Scope, pid int) (*Tree, error) {
		tree := &Tree{table: table(family, nil)}
		return tree, tree.findProcess(&ckpt.CheckpointRequest{Scope: scope}, base+pid)
	}
	tree, err := find(ckpt.ScopeTree, 3)
	if err != nil {
		t.Error(err)
	}
	checkTree(t, tree, 3, 4)
	if tree, err = find(ckpt.ScopeProcess, 4); err != nil {
		t.Error(err)
	}
	checkTree(t, tree, 4)
	_, err = find(ckpt.ScopeProcess, 1)
	checkError(t, err, syscall.EOPNOTSUPP, "has children (8388610, 8388611, 8388612), and criu")
	_, err = find(ckpt.ScopeTree, 8)
	checkError(t, err, syscall.ESRCH, "")
}

// TestRequesterIsChild: a process without children but for the one that it has ask
// for its checkpoint is a process alone.
func TestRequesterIsChild(t *testing.T) {
	as(t, 9)
	tree := &Tree{table: table(map[int]int{1: 0, 2: 1, 9: 0}, nil)}
	if err := tree.findProcess(&ckpt.CheckpointRequest{Scope: ckpt.ScopeProcess, Requester: base + 2}, base+1); err != nil {
		t.Error(err)
	}
	checkTree(t, tree, 1, 2)
}

func TestOwnAncestor(t *testing.T) {
	tree := &Tree{table: table(family, nil), PIDs: []int{base + 3, base + 4}}
	for pid, want := range map[int]int{4: 4, 3: 3, 2: 0, 1: 0, 9: 0} {
		as(t, pid)
		if want > 0 {
			want += base
		}
		if got := tree.ownAncestor(); got != want {
			t.Errorf("of %d: %d, want %d", base+pid, got, want)
		}
	}
}

func TestFindMembers(t *testing.T) {
	as(t, 9)
	group := func(r ckpt.CheckpointRequest, change func(p *proc.Process)) (*Tree, error) {
		tree := &Tree{table: table(family, change)}
		return tree, tree.findMembers(&r, "process group", func(p *proc.Process) int { return p.Pgid })
	}
	const id = base + 1
	alone := func(p *proc.Process) { // 9 has a group of its own
		if p.Pid == base+9 {
			p.Pgid = base + 9
		}
	}
	tree, err := group(ckpt.CheckpointRequest{ID: id}, alone)
	if err != nil {
		t.Error(err)
	}
	checkTree(t, tree, 1, 2, 3, 4)

	// 0 is the group of the process that asks.
	tree, err = group(ckpt.CheckpointRequest{Requester: base + 2}, alone)
	if err != nil {
		t.Error(err)
	}
	checkTree(t, tree, 1, 2, 3, 4)

	_, err = group(ckpt.CheckpointRequest{ID: base + 5}, alone)
	checkError(t, err, syscall.ESRCH, "")

	as(t, 8)
	_, err = group(ckpt.CheckpointRequest{ID: id}, nil)
	checkError(t, err, syscall.EOPNOTSUPP, "is no single tree: 8388609, 8388617 have no parent in it")
	_, err = group(ckpt.CheckpointRequest{ID: id}, func(p *proc.Process) {
		if alone(p); p.Pid == base+4 {
			p.Pgid = p.Pid
		}
	})
	checkError(t, err, syscall.EOPNOTSUPP, "process 8388612, a child of 8388611, is not in process group 8388609")

	// A zombie is in no one's way.
	if _, err = group(ckpt.CheckpointRequest{ID: id}, func(p *proc.Process) {
		if alone(p); p.Pid == base+4 {
			p.Pgid, p.State = p.Pid, 'Z'
		}
	}); err != nil {
		t.Error(err)
	}
}

// start starts a program with one end of a pipe each as input and output, and
// returns the other ends.
func start(t *testing.T, name string, args ...string) (pid int, in, out *os.File) {
	t.Helper()
	read, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	out, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(name, args...)
	// The session of the tests may be one of another pid namespace.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Stdin, cmd.Stdout = read, write
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	read.Close()
	write.Close()
	t.Cleanup(func() {
		in.Close()
		out.Close()
		cmd.Process.Kill()
		cmd.Wait()
	})
	return cmd.Process.Pid, in, out
}

// hold starts a process that has the file open until release is called.
func hold(t *testing.T, f *os.File) (release func()) {
	t.Helper()
	holder := exec.Command("/bin/cat")
	holder.ExtraFiles = []*os.File{f}
	stdin, err := holder.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	return func() {
		stdin.Close()
		holder.Wait()
	}
}

func inode(t *testing.T, f *os.File) uint64 {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	return st.Ino
}

// TestExternalPipes: a pipe to another process is external, and one to this process
// or to none is not.
func TestExternalPipes(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("looks at every process, which takes root")
	}
	job, in, out := start(t, "/bin/cat")
	// Has the writing end of the job's input, and this process has as well.
	release := hold(t, in)
	want := inode(t, in)
	look := func() []uint64 {
		t.Helper()
		tree, err := resolve(t, &ckpt.CheckpointRequest{ID: int32(job), Scope: ckpt.ScopeTree})
		if err != nil {
			t.Fatal(err)
		}
		tree.LookOutside()
		inodes, known := tree.ExternalPipes()
		if !known {
			t.Error("it does not know")
		}
		return inodes
	}
	// The job has inherited more pipes where the tests themselves have.
	if got := look(); !slices.Contains(got, want) || slices.Contains(got, inode(t, out)) {
		t.Errorf("external are %d; want %d, and not %d", got, want, inode(t, out))
	}
	release()
	if got := look(); slices.Contains(got, want) {
		t.Errorf("external are %d, of which only this process has the other end", got)
	}
}

// TestOtherPipes: of a pipe that this process has no end of the kernel tells whether the
// other end is open, and no other process is looked at.
func TestOtherPipes(t *testing.T) {
	job, in, out := start(t, "/bin/cat")
	release := hold(t, in)
	input, output := inode(t, in), inode(t, out)
	// The job would read the end of its input.
	if err := unix.Kill(job, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	in.Close()
	out.Close()
	tree, err := resolve(t, &ckpt.CheckpointRequest{ID: int32(job), Scope: ckpt.ScopeTree})
	if err != nil {
		t.Fatal(err)
	}
	if !tree.pipes[input].read || !tree.pipes[output].write {
		t.Errorf("pipes %v; want %d and %d among them", tree.pipes, input, output)
	}
	for _, held := range []bool{true, false} {
		if !held {
			release()
		}
		for _, o := range []*outside{nil, {}} { // what LookOutside finds, and without a look
			if tree.outside = o; o == nil {
				tree.LookOutside()
			}
			inodes, known := tree.ExternalPipes()
			if !known || slices.Contains(inodes, input) != held || slices.Contains(inodes, output) {
				t.Errorf("external are %d, known: %v; want %d: %v, and not %d", inodes, known, input, held, output)
			}
		}
	}
}

// resolve is Resolve with a tree that is closed at the end of the test.
func resolve(t *testing.T, r *ckpt.CheckpointRequest) (*Tree, error) {
	tree, err := Resolve(context.Background(), r)
	if err == nil {
		t.Cleanup(tree.Close)
	}
	return tree, err
}

func TestResolve(t *testing.T) {
	pid, _, _ := start(t, "/bin/cat")
	tree, err := resolve(t, &ckpt.CheckpointRequest{ID: int32(pid), Scope: ckpt.ScopeProcess})
	if err != nil {
		t.Fatal(err)
	}
	if tree.Root != pid || !slices.Equal(tree.PIDs, []int{pid}) || tree.Held() {
		t.Errorf("%+v", tree)
	}
	enter, inner, err := tree.Namespace()
	if err != nil || enter != nil || inner != pid {
		t.Errorf("its namespace is not ours: %d, %v", inner, err)
	}
	if err := tree.Refresh(); err != nil || !slices.Equal(tree.PIDs, []int{pid}) {
		t.Errorf("%v, %v", tree.PIDs, err)
	}
	Signal(tree.Root, -int32(unix.SIGKILL))
	tree.AwaitEnd(time.Minute)
	_, err = resolve(t, &ckpt.CheckpointRequest{ID: int32(pid), Scope: ckpt.ScopeProcess})
	checkError(t, err, syscall.ESRCH, "")
}

// TestRecycled: a process that has got the pid of the root, even in the same clock tick,
// is not taken for it.
func TestRecycled(t *testing.T) {
	cmd := exec.Command("/bin/cat")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	tree, err := resolve(t, &ckpt.CheckpointRequest{ID: int32(cmd.Process.Pid), Scope: ckpt.ScopeProcess})
	if err != nil {
		t.Fatal(err)
	}
	if !tree.Lives() {
		t.Error("it has ended")
	}
	stdin.Close()
	cmd.Wait()
	if tree.pinned == 0 {
		t.Skip("this kernel has no pidfds")
	}
	// What the pid leads to now was started at the same time.
	tree.Root = os.Getpid()
	tree.table[tree.Root], err = proc.Read(tree.Root)
	if err != nil {
		t.Fatal(err)
	}
	if tree.Lives() {
		t.Error("another process is taken for the root")
	}
	checkError(t, tree.Refresh(), syscall.ESRCH, "")
}

// TestRecycledSignal: a process that has really got the pid of the root gets no signal, and
// is not waited for.
func TestRecycledSignal(t *testing.T) {
	start := func() (*exec.Cmd, func()) {
		cmd := exec.Command("/bin/cat")
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		stdin, err := cmd.StdinPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		return cmd, func() { stdin.Close() }
	}
	cmd, end := start()
	pid := cmd.Process.Pid
	tree, err := Resolve(context.Background(), &ckpt.CheckpointRequest{ID: int32(pid), Scope: ckpt.ScopeTree})
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	end()
	cmd.Wait()
	for tries := 0; ; tries++ {
		if err := os.WriteFile("/proc/sys/kernel/ns_last_pid", []byte(strconv.Itoa(pid-1)), 0); err != nil || tries == 1000 {
			t.Skipf("no process gets the pid %d: %v", pid, err)
		}
		cmd, end = start()
		if cmd.Process.Pid == pid {
			break
		}
		end()
		cmd.Wait()
	}
	if tree.Lives() {
		t.Error("another process is taken for the root")
	}
	tree.Signal(int32(unix.SIGKILL))
	begin := time.Now()
	tree.AwaitEnd(time.Hour)
	if took := time.Since(begin); took > time.Minute {
		t.Errorf("another process was waited for, %v", took)
	}
	checkError(t, tree.Refresh(), syscall.ESRCH, "")
	end()
	if err := cmd.Wait(); err != nil {
		t.Errorf("another process has got the signal: %v", err)
	}
}

// TestResolveOurs: this process cannot save itself or an ancestor, and a thread of
// the kernel cannot be saved.
func TestResolveOurs(t *testing.T) {
	for _, pid := range []int{os.Getpid(), os.Getppid()} {
		_, err := resolve(t, &ckpt.CheckpointRequest{ID: int32(pid), Scope: ckpt.ScopeTree})
		checkError(t, err, syscall.EOPNOTSUPP, "is itself among those to be saved")
	}
	if p, err := proc.Read(2); err == nil && p.Kernel {
		children, _ := proc.Children(2)
		for _, pid := range append(children[:min(len(children), 1)], 2) {
			_, err := resolve(t, &ckpt.CheckpointRequest{ID: int32(pid), Scope: ckpt.ScopeTree})
			checkError(t, err, syscall.EPERM, "is a thread of the kernel")
		}
	}
}

// TestResolveTraced: processes that a debugger traces are refused, or left out, with what
// is below them, and those that trace others as well.
func TestResolveTraced(t *testing.T) {
	pid, _, _ := start(t, "/bin/sh", "-c", "/bin/cat; exit")
	var child int
	for child == 0 {
		if children, err := proc.Children(pid); err == nil && len(children) > 0 {
			child = children[0]
		}
		time.Sleep(time.Millisecond)
	}
	trace := func(pid int) (release func()) {
		traced, over := make(chan error), make(chan bool)
		go func() {
			// The tracer is a thread.
			runtime.LockOSThread()
			err := unix.PtraceSeize(pid)
			traced <- err
			<-over
			if unix.PtraceInterrupt(pid) == nil {
				_, _ = unix.Wait4(pid, nil, unix.WALL, nil)
			}
			_ = unix.PtraceDetach(pid)
			over <- true
		}()
		if err := <-traced; err != nil {
			t.Skipf("ptrace: %v", err)
		}
		return func() { over <- true; <-over }
	}
	check := func(r ckpt.CheckpointRequest, want syscall.Errno, text string) {
		t.Helper()
		r.ID = int32(pid)
		_, err := resolve(t, &r)
		checkError(t, err, want, text)
	}
	release := trace(pid)
	for _, scope := range []ckpt.Scope{ckpt.ScopeTree, ckpt.ScopeProcess} {
		check(ckpt.CheckpointRequest{Scope: scope, PtracedSkip: true}, syscall.ESRCH, "")
	}
	check(ckpt.CheckpointRequest{Scope: ckpt.ScopeTree}, ckpt.EPtraced, "is traced by process")
	check(ckpt.CheckpointRequest{Scope: ckpt.ScopeTree, PtracerSkip: true}, ckpt.EPtraced, "is traced by process")
	release()
	release = trace(child)
	check(ckpt.CheckpointRequest{Scope: ckpt.ScopeTree}, ckpt.EPtraced, "is traced by process")
	check(ckpt.CheckpointRequest{Scope: ckpt.ScopeTree, PtracedSkip: true}, syscall.EOPNOTSUPP, "cannot leave a process out")
	release()
}

// TestTracedNoMore: a process that nobody traces any more, when that is to be reported, is
// looked at again.
func TestTracedNoMore(t *testing.T) {
	for _, tracer := range []bool{false, true} {
		var again *busyError
		if err := tracedError(os.Getppid(), tracer); !errors.As(err, &again) {
			t.Errorf("error %v, want one that is waited for", err)
		}
	}
}

// TestResolveCancelled: another request in the tree is waited for, until the
// context is cancelled or the limit is reached.
func TestResolveCancelled(t *testing.T) {
	// A process with the name of criu's.
	path := t.TempDir() + "/criu"
	if err := os.Symlink("/bin/sleep", path); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "1000")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	request := &ckpt.CheckpointRequest{ID: int32(cmd.Process.Pid), Scope: ckpt.ScopeProcess, Limit: 100 * time.Millisecond}
	_, err := resolve(t, request)
	checkError(t, err, syscall.EBUSY, "makes another checkpoint or restart")

	ctx, cancel := context.WithCancelCause(context.Background())
	cause := errors.New("enough")
	cancel(cause)
	request.Limit = 0
	if _, err = Resolve(ctx, request); err != cause {
		t.Errorf("error %v, want %v", err, cause)
	}
}

// TestNearest: ancestors come first, then processes of the same sessions.
func TestNearest(t *testing.T) {
	table := proc.Table{
		1: {Pid: 1, Sid: 1}, 2: {Pid: 2, PPid: 1, Sid: 2}, 3: {Pid: 3, PPid: 2, Sid: 3}, // the root
		4: {Pid: 4, PPid: 9, Sid: 3}, 5: {Pid: 5, PPid: 6, Sid: 5}, // the request
		6: {Pid: 6, PPid: 1, Sid: 5}, 7: {Pid: 7, PPid: 6, Sid: 5}, 8: {Pid: 8, PPid: 1, Sid: 8}, 9: {Pid: 9, PPid: 1, Sid: 8},
	}
	got := nearest(table, 3, 5)
	for i, want := range [][]int{{1, 2, 3, 5, 6}, {4, 7}, {8, 9}} {
		part := slices.Sorted(slices.Values(got[:len(want)]))
		if got = got[len(want):]; !slices.Equal(part, want) {
			t.Errorf("part %d is %d, want %d", i, part, want)
		}
	}
}
