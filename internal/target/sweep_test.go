package target

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestSweep: what a killed run was writing to goes, and what a running one, or somebody else,
// has does not.
func TestSweep(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ctx")
	if err := Sweep(Spec{Path: path}); err != nil {
		t.Error("nothing there:", err)
	}
	temp := hidden(path, ".tmp")
	for _, name := range []string{path, temp} {
		if err := os.WriteFile(name, []byte("context"), 0o400); err != nil {
			t.Fatal(err)
		}
	}
	for _, policy := range []Policy{Clobber, NoClobber} {
		if err := Sweep(Spec{Path: path, Policy: policy}); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(temp); err != nil {
			t.Errorf("policy %d: %v", policy, err)
		}
	}
	if err := Sweep(Spec{Path: path}); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(temp); !os.IsNotExist(err) {
		t.Errorf("left by a killed run: %v", err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Errorf("the old context: %v", err)
	}
	dest, err := Open(context.Background(), Spec{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	if err := Sweep(Spec{Path: path}); err != unix.EBUSY {
		t.Errorf("a running one: %v", err)
	}
	if err := dest.Abort(); err != nil {
		t.Fatal(err)
	}
}

// TestSweepDir: the same of directories.
func TestSweepDir(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ctx")
	temp := hidden(path, ".tmp")
	make := func(name string) {
		t.Helper()
		if err := os.MkdirAll(temp, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(temp, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	make("a.img")
	if err := SweepDir(Spec{Path: path}, isImage); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(temp); !os.IsNotExist(err) {
		t.Errorf("left by a killed run: %v", err)
	}
	make("mine")
	if err := SweepDir(Spec{Path: path}, isImage); err != unix.ENOTEMPTY {
		t.Errorf("with another file: %v", err)
	}
}

// TestRenameFails: where our file cannot be renamed the old context's second name goes, though
// nothing else can be renamed either.
func TestRenameFails(t *testing.T) {
	for _, policy := range []Policy{Atomic, Backup} {
		path := filepath.Join(t.TempDir(), "ctx")
		if err := os.WriteFile(path, []byte("old"), 0o600); err != nil {
			t.Fatal(err)
		}
		sys := &system{hook: func(call string, _ ...string) error {
			if call == "rename" {
				return unix.EIO
			}
			return nil
		}}
		f := failedCommit(t, Spec{Path: path, Policy: policy, Sync: true}, sys)
		if err := f.Abort(); err != nil {
			t.Errorf("left: %v", err)
		}
		names, err := os.ReadDir(filepath.Dir(path))
		if err != nil || len(names) != 1 || names[0].Name() != "ctx" {
			t.Errorf("policy %d: %v, %v", policy, names, err)
		}
	}
}

// failedCommit is a destination whose Commit has failed.
func failedCommit(t *testing.T, spec Spec, sys *system) *file {
	t.Helper()
	f, err := openFile(spec, sys)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Begin(); err != nil {
		t.Fatal(err)
	}
	if err := f.Commit(); err == nil {
		t.Error("committed")
	}
	return f
}

// TestLeftBehind: what a failed Commit could not remove is told by Abort.
func TestLeftBehind(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ctx")
	sys := &system{hook: func(call string, _ ...string) error {
		if call == "rename" || call == "unlink" {
			return unix.EIO
		}
		return nil
	}}
	f := failedCommit(t, Spec{Path: path}, sys)
	if e, ok := f.Abort().(*Error); !ok || e.Op != OpDiscard || e.Path != hidden(path, ".tmp") {
		t.Errorf("%v", e)
	}
}

// TestSweepPutsBack: a run was killed while the old context had no name but the hidden one.
func TestSweepPutsBack(t *testing.T) {
	workdir(t)
	files{".c.old": "old", ".c.tmp": "new"}.create(t)
	checkError(t, Sweep(Spec{Path: "c", Sync: true}), nil)
	files{"c": "old"}.check(t)
	files{".c.old": "older"}.create(t)
	checkError(t, Sweep(Spec{Path: "c", Sync: true}), nil)
	files{"c": "old", ".c.old": "older"}.check(t)
}
