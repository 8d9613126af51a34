package criu

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/ckpt/criu/explain"
)

// TestFileState: before a dump is tried again, its file is as it was; a pipe cannot be.
func TestFileState(t *testing.T) {
	for name, flags := range map[string]int{"plain": 0, "append": os.O_APPEND} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "context")
			if err := os.WriteFile(path, []byte("before and after"), 0o600); err != nil {
				t.Fatal(err)
			}
			f, err := os.OpenFile(path, os.O_WRONLY|flags, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if _, err := f.Seek(7, 0); err != nil {
				t.Fatal(err)
			}
			r := &ckpt.CheckpointRequest{FD: int32(f.Fd())}
			begin := whereItIs(r)
			if _, err := f.WriteString(" and much more than there was"); err != nil {
				t.Fatal(err)
			}
			if !begin.restore(r) {
				t.Fatal("it cannot be restored")
			}
			text, err := os.ReadFile(path)
			at, _ := f.Seek(0, 1)
			want := map[string]string{"plain": "before  and much", "append": "before and after"}[name]
			if string(text) != want || at != 7 || err != nil {
				t.Errorf("%q, at %d, %v; want %q at 7", text, at, err, want)
			}
		})
	}
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pipe[0])
	defer unix.Close(pipe[1])
	r := &ckpt.CheckpointRequest{FD: int32(pipe[1])}
	if whereItIs(r).restore(r) {
		t.Error("pipe: restored")
	}
	dir := t.TempDir()
	for _, name := range []string{"core-12.img", "pages-1.img"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r = &ckpt.CheckpointRequest{FD: int32(f.Fd()), Dir: dir}
	if !whereItIs(r).restore(r) {
		t.Error("directory: not restored")
	}
	if left, err := os.ReadDir(dir); len(left) > 0 || err != nil {
		t.Errorf("directory: %v, %v", left, err)
	}
}

// TestMostAgain: only what comes of a bad moment is tried again.
func TestMostAgain(t *testing.T) {
	for _, c := range []struct {
		err   error
		again bool
	}{
		{explain.Moved(), true},
		{fmt.Errorf("outcome: %w", explain.Moved()), true},
		{explain.Dump(explain.Failure{Log: []string{"recv failed (12, want 34) 11"}}), true},
		{explain.Interrupted(1), true},
		{explain.Dump(explain.Failure{Log: []string{"Unexpected 12 task interruption, aborting"}}), true},
		{explain.Dump(explain.Failure{Log: []string{"12 was stopped by 5 unexpectedly"}}), true},
		{explain.Dump(explain.Failure{Log: []string{"Can't dump the 12 thread with a pending SIGTRAP."}}), false},
		{unix.EBUSY, false},
		{nil, false},
	} {
		if got := mostAgain(c.err); got > 0 != c.again {
			t.Errorf("%v: %d times", c.err, got)
		}
	}
}
