package pstree

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/proc"
)

// twoMounts opens a file on its own mount, and on another one that nobody else sees.
func twoMounts(t *testing.T) (name string, files [2]*os.File) {
	t.Helper()
	dir := t.TempDir()
	name = filepath.Join(dir, "file")
	if err := os.WriteFile(name, []byte("data"), 0o600); err != nil {
		t.Fatal(err)
	}
	tree, err := unix.OpenTree(unix.AT_FDCWD, dir, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		t.Skipf("makes a mount, which takes root: %v", err)
	}
	defer unix.Close(tree)
	other, err := unix.Openat(tree, "file", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	one, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	files = [2]*os.File{one, os.NewFile(uintptr(other), name)}
	t.Cleanup(func() {
		files[0].Close()
		files[1].Close()
	})
	return name, files
}

// idle starts a shell that waits, with these files open, by way of a command such as env(1),
// and returns its pid.
func idle(t *testing.T, by []string, files ...*os.File) int {
	t.Helper()
	args := append(by, "sh", "-c", "echo ready; read line")
	cmd := exec.Command(args[0], args[1:]...)
	cmd.ExtraFiles = files
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
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
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	if line, _ := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		t.Fatalf("%q", line)
	}
	return cmd.Process.Pid
}

// TestRemovedByTwoMounts: a file that is open by two mounts is refused once it is removed,
// and one that is open twice by one mount is not.
func TestRemovedByTwoMounts(t *testing.T) {
	name, files := twoMounts(t)
	both, one := idle(t, nil, files[:]...), idle(t, nil, files[0], files[0])
	look := func(pid int) error {
		_, err := resolve(t, &ckpt.CheckpointRequest{ID: int32(pid), Scope: ckpt.ScopeTree})
		return err
	}
	if err := look(both); err != nil {
		t.Errorf("with its name: %v, %q", err, detail(err))
	}
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	err := look(both)
	checkError(t, err, syscall.EOPNOTSUPP, "has the removed file ")
	if d := detail(err); len(d) != 2 || !strings.Contains(d[0], "/file open, which it has open by another mount, too") {
		t.Errorf("says %q", d)
	}
	if err := look(one); err != nil {
		t.Errorf("by one mount: %v, %q", err, detail(err))
	}
}

// TestRemovedMapped: a mapping counts as a descriptor does, where there is a descriptor of a
// removed file.
func TestRemovedMapped(t *testing.T) {
	name, files := twoMounts(t)
	for _, f := range files {
		b, err := unix.Mmap(int(f.Fd()), 0, 4, unix.PROT_READ, unix.MAP_SHARED)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Munmap(b)
	}
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	process, err := proc.Read(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	pid := os.Getpid()
	p := &preflight{Tree: &Tree{PIDs: []int{pid}, table: map[int]*proc.Process{pid: process}}, gone: make(map[fileID]removedFile)}
	if p.removedMappings(); len(p.found) > 0 {
		t.Errorf("%v", p.found)
	}
	p.removed(newSubject(process), proc.Open(pid, int(files[0].Fd())), name+proc.Deleted)
	p.removedMappings()
	if len(p.found) != 1 || ckpt.ErrnoOf(final(p.found[0])) != syscall.EOPNOTSUPP {
		t.Errorf("%v", p.found)
	}
}
