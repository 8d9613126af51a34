package criu

import (
	"testing"

	"golang.org/x/sys/unix"
)

// TestFewDescriptors: where next to nothing can be opened, nothing is begun.
func TestFewDescriptors(t *testing.T) {
	if errno := fewDescriptors(); errno != 0 {
		t.Fatal(errno)
	}
	var was unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	few := was
	few.Cur = 4
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &few); err != nil {
		t.Fatal(err)
	}
	errno := fewDescriptors()
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	if errno != unix.EMFILE {
		t.Errorf("with 4 descriptors: %v", errno)
	}
}
