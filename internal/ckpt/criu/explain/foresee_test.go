package explain

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt"
)

// cat starts a cat in a session of its own, with these files open, and returns its pid when
// it reads. It ends with the test.
func cat(t *testing.T, open ...*os.File) (pid int) {
	t.Helper()
	cmd := exec.Command("/bin/cat")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.ExtraFiles = open
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		_ = cmd.Wait()
	})
	// At its start it opens files, which would be counted.
	if _, err := in.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	return cmd.Process.Pid
}

// TestForesee: what a process has that CRIU refuses is said in the words of a dump that
// has failed, without a line of CRIU's.
func TestForesee(t *testing.T) {
	dir := t.TempDir()
	file, err := os.Create(filepath.Join(dir, "first"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	// A name may end as what /proc adds to one that was removed.
	named, err := os.Create(filepath.Join(dir, "named (deleted)"))
	if err != nil {
		t.Fatal(err)
	}
	defer named.Close()
	pid := cat(t, file, named)
	if errs := Foresee([]int{pid}, "/bin/cat"); len(errs) > 0 {
		t.Errorf("of a process that can be saved: %q", details(errs))
	}
	if err := os.Link(file.Name(), filepath.Join(dir, "second")); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(file.Name()); err != nil {
		t.Fatal(err)
	}
	if errs := Foresee([]int{pid}, "/bin/cat"); len(errs) > 0 {
		t.Errorf("of a file that has another name beside the removed one: %q", details(errs))
	}
	if err := os.Rename(filepath.Join(dir, "second"), filepath.Join(t.TempDir(), "second")); err != nil {
		t.Fatal(err)
	}
	limit := unix.Rlimit{Cur: 6, Max: 100}
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, &limit, nil); err != nil {
		t.Fatal(err)
	}
	errs := Foresee([]int{pid}, "/bin/cat")
	if len(errs) != 2 {
		t.Fatalf("foresees %d errors, want 2: %q", len(errs), details(errs))
	}
	for i, want := range []struct {
		errno syscall.Errno
		said  string
	}{
		{unix.EOPNOTSUPP, fmt.Sprintf("process %d (cat) has %s/first open as descriptor 3, which was removed under that name and has another one in another directory", pid, dir)},
		{unix.EMFILE, fmt.Sprintf("process %d (cat) has 5 of the 6 files open that it may have", pid)},
	} {
		said := details(errs[i : i+1])
		if e, ok := errs[i].(*ckpt.Error); !ok || e.Errno != want.errno || !strings.HasPrefix(said, want.said) || strings.Contains(said, "criu: ") {
			t.Errorf("error %v, %q; want %d with %q", errs[i], said, int(want.errno), want.said)
		}
	}
}

// TestForeseeDescriptors: descriptors that only look into fdinfo tells from those that can be
// saved.
func TestForeseeDescriptors(t *testing.T) {
	var ends [2]int
	if err := unix.Pipe2(ends[:], unix.O_DIRECT|unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	pidfd, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		t.Skip(err)
	}
	var open []*os.File
	for _, fd := range []int{ends[0], ends[1], pidfd} {
		file := os.NewFile(uintptr(fd), "")
		defer file.Close()
		open = append(open, file)
	}
	pid := cat(t, open...)
	outside := fmt.Sprintf("has a descriptor open of process %d (explain.test), which is not among those to be saved", os.Getpid())
	for n, tree := range [][]int{{pid}, {pid, os.Getpid()}} {
		said := ""
		s := newSituation(Failure{Tree: tree[:1]})
		for _, line := range s.foresee(tree, nil, "/bin/cat") {
			s.Log = []string{line}
			e := s.explain("dump", dumpRules)
			if e.Errno != unix.EOPNOTSUPP {
				t.Errorf("%q: %v", line, e)
			}
			said += strings.Join(e.Detail, "\n")
		}
		if !strings.Contains(said, "has a pipe in packet mode (O_DIRECT), which criu cannot save") || strings.Contains(said, outside) != (n == 0) {
			t.Errorf("of %v: %q", tree, said)
		}
	}
}

// TestUnknownDevice: devices that CRIU saves are not among those that it does not know.
func TestUnknownDevice(t *testing.T) {
	for device, want := range map[[2]uint32]bool{
		{1, 3}: false, {4, 0}: true, {4, 1}: false, {4, 64}: true, {5, 0}: false, {5, 1}: false, {5, 2}: false, {7, 0}: true,
		{10, 200}: false, {10, 229}: true, {10, 235}: false, {136, 0}: false, {195, 0}: false, {226, 128}: false,
	} {
		if unknownDevice(unix.Mkdev(device[0], device[1])) != want {
			t.Errorf("%v: %v", device, !want)
		}
	}
}

func details(errs []error) string {
	var all []string
	for _, err := range errs {
		if e, ok := err.(*ckpt.Error); ok {
			all = append(all, e.Detail...)
		}
	}
	return strings.Join(all, "\n")
}

// TestForeseeClosedPolled: what epoll watches and the process has closed, but not another one,
// is named.
func TestForeseeClosedPolled(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	epoll := os.NewFile(uintptr(fd), "")
	defer epoll.Close()
	if err := unix.EpollCtl(fd, unix.EPOLL_CTL_ADD, int(r.Fd()), &unix.EpollEvent{Events: unix.EPOLLIN}); err != nil {
		t.Fatal(err)
	}
	if errs := Foresee([]int{cat(t, epoll, r)}, "/bin/cat"); len(errs) > 0 {
		t.Errorf("of a process that has it open: %q", details(errs))
	}
	pid := cat(t, epoll)
	errs := Foresee([]int{pid}, "/bin/cat")
	want := fmt.Sprintf("process %d (cat) watches by epoll (descriptor 3) a file that it has closed, which was its descriptor %d,", pid, int(r.Fd()))
	if said := details(errs); len(errs) != 1 || !strings.HasPrefix(said, want) || errs[0].(*ckpt.Error).Errno != unix.EOPNOTSUPP {
		t.Errorf("%v, %q; want %q", errs, said, want)
	}
}
