package criu

import (
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/proc"
)

// A job that was restarted with new pids lives in a pid namespace of its own,
// in which it still has its old ones. To save it again criu has to run in there.

func itoa(n int) string { return strconv.Itoa(n) }

// namespaces are those of a process that criu is to run in.
type namespaces struct {
	pid int // the process
}

// namespacesOf returns those of a process where they are not ours, nil where
// they are, and the pid that the process has in there.
func namespacesOf(pid int) (in *namespaces, inner int, err error) {
	theirs, err := proc.Namespace(pid, "pid")
	if err != nil {
		return nil, 0, err
	}
	ours, err := proc.Namespace(os.Getpid(), "pid")
	if err != nil {
		return nil, 0, err
	}
	if theirs == ours {
		return nil, pid, nil
	}
	pids, err := proc.InnerPids(pid)
	if err != nil {
		return nil, 0, err
	}
	inner = pids[len(pids)-1]
	if inner == 1 {
		// The whole namespace, which criu saves from outside.
		return nil, pid, nil
	}
	return &namespaces{pid: pid}, inner, nil
}

// enter moves the calling thread into the mount namespace, and its future
// children into the pid namespace. The goroutine must be locked to the thread,
// which must end with it.
func (n *namespaces) enter() error {
	// A thread may move only if it shares its root and directory with no other.
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return err
	}
	var fds []int
	defer func() {
		for _, fd := range fds {
			unix.Close(fd)
		}
	}()
	// Both opened before the first is entered, after which /proc is another.
	for _, name := range []string{"pid", "mnt"} {
		fd, err := unix.Open(fmt.Sprintf("/proc/%d/ns/%s", n.pid, name), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		fds = append(fds, fd)
	}
	if err := unix.Setns(fds[0], unix.CLONE_NEWPID); err != nil {
		return err
	}
	return unix.Setns(fds[1], unix.CLONE_NEWNS)
}
