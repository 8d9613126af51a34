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
	for name, r := range map[string]*ckpt.CheckpointRequest{
		"pipe":      {FD: int32(pipe[1])},
		"directory": {FD: int32(pipe[1]), Dir: t.TempDir()},
	} {
		if whereItIs(r).restore(r) {
			t.Errorf("%s: restored", name)
		}
	}
}

// TestIsMoved: only that error is one to try again for.
func TestIsMoved(t *testing.T) {
	for _, c := range []struct {
		err  error
		want bool
	}{
		{explain.Moved(), true},
		{fmt.Errorf("outcome: %w", explain.Moved()), true},
		{explain.Dump(explain.Failure{Log: []string{"recv failed (12, want 34) 11"}}), true},
		{explain.Dump(explain.Failure{Log: []string{"12 was stopped by 5 unexpectedly"}}), false},
		{unix.EBUSY, false},
		{nil, false},
	} {
		if got := explain.IsMoved(c.err); got != c.want {
			t.Errorf("%v: %v", c.err, got)
		}
	}
}
