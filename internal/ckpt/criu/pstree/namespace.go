package pstree

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/proc"
)

// Namespace returns where CRIU has to run to save the tree, and the root's pid
// there. A job that was restarted with new pids lives in a pid namespace of its
// own, in which it still has its old ones: CRIU has to run in there. Enter is nil
// where it has not; see Enter. The error is ESRCH if the root has ended.
func (t *Tree) Namespace() (enter func() error, root int, err error) {
	theirs, err := proc.Namespace(t.Root, "pid")
	if err != nil {
		return nil, 0, none()
	}
	ours, err := proc.Namespace(self(), "pid")
	if err != nil {
		return nil, 0, none()
	}
	if theirs == ours {
		return nil, t.Root, nil
	}
	inner, err := proc.InnerPid(t.Root)
	if err != nil {
		return nil, 0, none()
	}
	if inner == 1 {
		// The whole namespace, which CRIU saves from outside.
		return nil, t.Root, nil
	}
	return Enter(t.Root, t.first(theirs)), inner, nil
}

// first is the first process of the root's pid namespace, or the root if that is not seen.
func (t *Tree) first(namespace uint64) int {
	for pid := range t.table {
		if ns, err := proc.Namespace(pid, "pid"); err != nil || ns != namespace {
			continue
		}
		if inner, err := proc.InnerPid(pid); err == nil && inner == 1 {
			return pid
		}
	}
	return t.Root
}

// otherFiles returns a name that leads to another file, or to none, for the processes of the
// root's pid namespace than here, "" if there is none: what CRIU has to find where it runs for
// them, and the root directory, without which the names of the job's files would not be the same
// at the restart.
func (t *Tree) otherFiles(namespace uint64) string {
	temporary, err := filepath.Abs(os.TempDir())
	if err != nil {
		temporary = "/tmp"
	}
	first := t.first(namespace)
	for _, name := range []string{"/", temporary, proc.Self()} {
		var here, there unix.Stat_t
		if unix.Stat(name, &here) != nil {
			continue // it is not what CRIU is given then
		}
		switch err := unix.Stat(proc.Under(first, name), &there); {
		case err == unix.ENOENT, err == unix.ENOTDIR, err == nil && (here.Dev != there.Dev || here.Ino != there.Ino):
			return name
		}
	}
	return ""
}

// Through returns the beginning of a command line that runs a program where CRIU has to
// run, nil where Namespace says all. It is for a pid namespace in a user namespace of the
// caller's own, as cr_restart makes it for a user: a process with threads cannot enter
// that itself.
func (t *Tree) Through() []string {
	for _, kind := range []string{"user", "pid"} {
		theirs, err := proc.Namespace(t.Root, kind)
		ours, err2 := proc.Namespace(self(), kind)
		if err != nil || err2 != nil || ours == theirs {
			return nil
		}
	}
	// In there the caller is who it is out here, and is not root.
	uid := uint64(unix.Geteuid())
	if uid == 0 || !slices.Equal(proc.UserIDs(t.Root), []uint64{uid, uid, 1}) {
		return nil
	}
	for _, path := range []string{"/usr/bin/nsenter", "/bin/nsenter"} {
		if unix.Access(path, unix.X_OK) == nil {
			command := []string{path, "--target", strconv.Itoa(t.Root), "--user", "--preserve-credentials", "--pid", "--mount"}
			theirs, err := proc.Namespace(t.Root, "time")
			if ours, err2 := proc.Namespace(self(), "time"); err == nil && err2 == nil && ours != theirs {
				command = append(command, "--time")
			}
			return append(command, "--")
		}
	}
	return nil
}

// Enter returns a function that moves the calling thread into the mount namespace
// of a process, and the processes that the thread will create into its pid
// namespace. The thread gets the root directory of first, which is in the same mount
// namespace and may have another one than that namespace, as in a chroot. The goroutine
// must be locked to the thread, which must end with it.
func Enter(pid, first int) func() error {
	return func() error {
		// A thread may move only if it shares its root and directory with no other.
		if err := unix.Unshare(unix.CLONE_FS); err != nil {
			return err
		}
		// Both are opened before one is entered: then /proc is another one.
		pidNS, err := openNamespace(pid, "pid")
		if err != nil {
			return err
		}
		defer unix.Close(pidNS)
		mountNS, err := openNamespace(pid, "mnt")
		if err != nil {
			return err
		}
		defer unix.Close(mountNS)
		root, err := unix.Open(fmt.Sprintf("/proc/%d/root", first), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(root)
		if err := unix.Setns(pidNS, unix.CLONE_NEWPID); err != nil {
			return err
		}
		if err := unix.Setns(mountNS, unix.CLONE_NEWNS); err != nil {
			return err
		}
		if err := unix.Fchdir(root); err != nil {
			return err
		}
		return unix.Chroot(".")
	}
}

func openNamespace(pid int, kind string) (fd int, err error) {
	return unix.Open(fmt.Sprintf("/proc/%d/ns/%s", pid, kind), unix.O_RDONLY|unix.O_CLOEXEC, 0)
}
