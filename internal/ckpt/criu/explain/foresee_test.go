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

// TestForesee: what a process has that CRIU refuses is said in the words of a dump that
// has failed, without a line of CRIU's.
func TestForesee(t *testing.T) {
	dir := t.TempDir()
	file, err := os.Create(filepath.Join(dir, "first"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	cmd := exec.Command("/bin/cat")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	// A name may end as what /proc adds to one that was removed.
	named, err := os.Create(filepath.Join(dir, "named (deleted)"))
	if err != nil {
		t.Fatal(err)
	}
	defer named.Close()
	cmd.ExtraFiles = []*os.File{file, named}
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
	defer cmd.Wait()
	defer in.Close()
	// At its start it opens files, which would be counted.
	if _, err := in.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	pid := cmd.Process.Pid
	if errs := Foresee([]int{pid}); len(errs) > 0 {
		t.Errorf("of a process that can be saved: %q", details(errs))
	}
	if err := os.Link(file.Name(), filepath.Join(dir, "second")); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(file.Name()); err != nil {
		t.Fatal(err)
	}
	limit := unix.Rlimit{Cur: 6, Max: 100}
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, &limit, nil); err != nil {
		t.Fatal(err)
	}
	errs := Foresee([]int{pid})
	if len(errs) != 2 {
		t.Fatalf("foresees %d errors, want 2: %q", len(errs), details(errs))
	}
	for i, want := range []struct {
		errno syscall.Errno
		said  string
	}{
		{unix.EOPNOTSUPP, fmt.Sprintf("process %d (cat) has %s/first open as descriptor 3, which was removed under that name and has the name %s/second", pid, dir, dir)},
		{unix.EMFILE, fmt.Sprintf("process %d (cat) has 5 of the 6 files open that it may have", pid)},
	} {
		said := details(errs[i : i+1])
		if e, ok := errs[i].(*ckpt.Error); !ok || e.Errno != want.errno || !strings.HasPrefix(said, want.said) || strings.Contains(said, "criu: ") {
			t.Errorf("error %v, %q; want %d with %q", errs[i], said, int(want.errno), want.said)
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
