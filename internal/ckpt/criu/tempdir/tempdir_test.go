package tempdir

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestSweep: directories that were left behind are removed; those in use, young
// ones, those with other modes and others' are not.
func TestSweep(t *testing.T) {
	parent := t.TempDir()
	long := time.Now().Add(-2 * staleAfter)
	makeDir := func(name string, mode os.FileMode, at time.Time) string {
		path := filepath.Join(parent, name)
		if err := os.Mkdir(path, mode); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(path, "file"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
		return path
	}
	left := makeDir(prefix+"1", 0o700, long)
	used, err := New([]string{parent})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(used.Path, long, long); err != nil {
		t.Fatal(err)
	}
	keep := []string{used.Path, makeDir(prefix+"2", 0o700, time.Now()), makeDir(prefix+"3", 0o755, long), makeDir(prefix+"x", 0o700, long), makeDir("other", 0o700, long)}
	sweep(parent)
	// New sweeps as well, in the background, and may be about to remove it.
	for begin := time.Now(); ; time.Sleep(time.Millisecond) {
		if _, err := os.Lstat(left); os.IsNotExist(err) {
			break
		} else if time.Since(begin) > time.Minute {
			t.Fatalf("%s: %v; want it removed", left, err)
		}
	}
	for _, path := range keep {
		if _, err := os.Lstat(path); err != nil {
			t.Errorf("it is gone: %v", err)
		}
	}
	used.Remove()
	if _, err := os.Lstat(keep[0]); !os.IsNotExist(err) {
		t.Errorf("after Remove: %v", err)
	}
}

// TestNew: the next parent is taken where the first cannot be used, and the error
// is that of the first.
func TestNew(t *testing.T) {
	parent, missing := t.TempDir(), filepath.Join(t.TempDir(), "missing")
	d, err := New([]string{missing, parent})
	if err != nil || filepath.Dir(d.Path) != parent || len(filepath.Base(d.Path)) > LongestName {
		t.Errorf("%q, %v", d.Path, err)
	}
	d.Remove()
	if d, err := New([]string{missing, missing + "2"}); !errors.Is(err, os.ErrNotExist) || d != None {
		t.Errorf("%v, %v; want the error for %s", d, err, missing)
	}
}
