package tempdir

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/proc"
)

// TestUnnamed: files in a directory without a name are there as long as it is open.
func TestUnnamed(t *testing.T) {
	dir, err := Unnamed()
	if err != nil {
		t.Skip("not possible here: ", err)
	}
	defer unix.Close(dir)
	fd, err := unix.Openat(dir, "file", unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "file")
	if _, err := f.WriteString("content"); err != nil {
		t.Fatal(err)
	}
	f.Close()
	// As criu gets to it.
	path := proc.Open(os.Getpid(), dir)
	if b, err := os.ReadFile(path + "/file"); err != nil || string(b) != "content" {
		t.Errorf("%q, %v", b, err)
	}
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", fi, err)
	}
	if name, err := os.Readlink(path); err != nil || name != "/" {
		t.Errorf("it has the name %q, %v", name, err)
	}
}
