package target

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestExamine: Examine and ExamineDir say what Open and OpenDir say then, and change
// nothing.
func TestExamine(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"sub", "images", "foreign", "closed"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"old", "images/inventory", "foreign/x", "closed/old"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("whole"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for from, to := range map[string]string{"link": "old", "dangling": "none", "device": "/dev/null"} {
		if err := os.Symlink(to, filepath.Join(dir, from)); err != nil {
			t.Fatal(err)
		}
	}
	// What nobody may write, except for root.
	if err := os.Chmod(filepath.Join(dir, "closed"), 0o500); err != nil {
		t.Fatal(err)
	}
	belongs := func(name string) bool { return name == "inventory" }
	content := func() string {
		var all string
		_ = filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
			all += fmt.Sprintln(path, err)
			if err == nil && info.Mode().IsRegular() {
				text, err := os.ReadFile(path)
				all += fmt.Sprintln(string(text), err)
			}
			return nil
		})
		return all
	}
	before := content()
	for _, path := range []string{"new", "old", "sub", "images", "foreign", "none/new", "old/new", "closed/new", "closed/old",
		"link", "dangling", "device", "sub/", "sub/..", "/", "", "/dev/null"} {
		if path != "" && path[0] != '/' {
			path = dir + "/" + path
		}
		for _, policy := range []Policy{Atomic, Backup, Clobber, NoClobber} {
			spec := Spec{Path: path, Policy: policy}
			compare := func(kind string, said error, open func() (Destination, error)) {
				t.Helper()
				if after := content(); after != before {
					t.Fatalf("%s %q, policy %d: changes something: %s", kind, path, policy, after)
				}
				d, err := open()
				if err == nil {
					if err := d.Abort(); err != nil {
						t.Fatal(err)
					}
				}
				if fmt.Sprint(said) != fmt.Sprint(err) {
					t.Errorf("%s %q, policy %d: %v, and open says %v", kind, path, policy, said, err)
				}
			}
			compare("file", Examine(spec), func() (Destination, error) { return Open(context.Background(), spec) })
			compare("directory", ExamineDir(spec, "inventory", belongs), func() (Destination, error) {
				return OpenDir(context.Background(), spec, "inventory", belongs)
			})
		}
	}
	_ = unix.Chmod(filepath.Join(dir, "closed"), 0o700)
}
