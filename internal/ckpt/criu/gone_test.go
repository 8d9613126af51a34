package criu

import (
	"os"
	"path/filepath"
	"testing"
)

// TestInTheWay: what CRIU can make for a moment stays where it was.
func TestInTheWay(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "there"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("nowhere", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	takes := map[string]bool{filepath.Join(dir, "unlinked"): false}
	if err := os.Mkdir(filepath.Join(dir, "unlinked"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name  string
		isDir bool
		want  bool
	}{
		{"free", false, false},
		{"free", true, false},
		{"there", false, false}, // a file is linked to another name
		{"there", true, true},
		{"there/free", true, false},
		{"gone/free", false, false},
		{"gone/free", true, true},
		{"file/free", false, true},
		{"file/gone/free", false, true},
		{"file/free", true, true},
		{"link/free", false, true},
		{"file", true, true},
		{"unlinked/free", false, true}, // its file system has no hard links
		{"unlinked/free", true, false},
	} {
		if got := inTheWay(filepath.Join(dir, test.name), test.isDir, takes); got != test.want {
			t.Errorf("%s, a directory %v: %v", test.name, test.isDir, got)
		}
	}
}

// TestTakesGhosts: what is tried in a directory is not there afterwards.
func TestTakesGhosts(t *testing.T) {
	dir := t.TempDir()
	if !takesGhosts(dir) {
		t.Error("a file cannot be made and linked in a new directory")
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	for _, dir := range []string{"/proc/self", filepath.Join(dir, "missing")} {
		if takesGhosts(dir) {
			t.Errorf("a file can be made in %s", dir)
		}
	}
}
