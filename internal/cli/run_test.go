package cli

import (
	"bytes"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestFewDescriptors: a program that could open next to nothing says so, and does nothing.
func TestFewDescriptors(t *testing.T) {
	var was unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	few := was
	few.Cur = 4
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &few); err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	ran := false
	status := Run("cr_test", "test", []string{"cr_test"}, &out, &errs, func([]string, *Console) int {
		ran = true
		return 0
	})
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	if status != int(unix.EMFILE) || ran || !strings.Contains(errs.String(), "may have 4 files open here (ulimit -n)") {
		t.Errorf("status %d, run %v, %q", status, ran, errs.String())
	}
}
