//go:build amd64

package forkexec

import (
	"fmt"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/proc"
	"blcr-cli/test/harness"
)

// The other end of a socket is at its end only after the limit, or when the process
// that keeps it has been told.
func TestKeep(t *testing.T) {
	for _, told := range []bool{true, false} {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		limit := 300 * time.Millisecond
		if told {
			limit = time.Hour
		}
		start := time.Now()
		if err := Keep(fds[1], limit); err != nil {
			t.Fatal(err)
		}
		returned := time.Since(start)
		unix.Close(fds[1])
		ended := []unix.PollFd{{Fd: int32(fds[0]), Events: unix.POLLIN}}
		if n, _ := unix.Poll(ended, 0); n != 0 && time.Since(start) < limit {
			t.Error("it is not kept")
		}
		if told {
			_ = unix.Shutdown(fds[0], unix.SHUT_WR)
		}
		for {
			if n, err := unix.Poll(ended, int(harness.Patience/time.Millisecond)); err != unix.EINTR {
				if n != 1 {
					t.Error("it is kept for ever")
				}
				break
			}
		}
		if took := time.Since(start); !told && (took < limit*9/10 || returned >= took) {
			t.Errorf("ended after %v, returned after %v", took, returned)
		}
		unix.Close(fds[0])
	}
}

// The process has nothing else: no descriptor, no session, no directory; and none is
// left for the caller to wait for.
func TestKeepNothingElse(t *testing.T) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := Keep(fds[1], time.Hour); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fds[1])
	defer unix.Close(fds[0])
	socket, err := os.Readlink(proc.Open(os.Getpid(), fds[1]))
	if err != nil {
		t.Fatal(err)
	}
	var keeper *proc.Process
	harness.Poll(t, "the process that keeps it", func() bool {
		table, err := proc.All()
		if err != nil {
			t.Fatal(err)
		}
		for pid, process := range table {
			for d := range proc.Descriptors(pid) {
				if d.Link == socket && pid != os.Getpid() {
					keeper = process
				}
			}
		}
		return keeper != nil
	})
	n := 0
	for range proc.Descriptors(keeper.Pid) {
		n++
	}
	if n != 1 {
		t.Errorf("%d descriptors are open", n)
	}
	if dir, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", keeper.Pid)); dir != "/" {
		t.Errorf("its directory is %s, %v", dir, err)
	}
	own, err := proc.Read(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if keeper.PPid == own.Pid || keeper.Sid == own.Sid || keeper.Pgid == own.Pgid {
		t.Errorf("it is %+v, this process %+v", keeper, own)
	}
	if children, err := proc.Children(own.Pid); err != nil || len(children) != 0 {
		t.Errorf("children %v, %v", children, err)
	}
}
