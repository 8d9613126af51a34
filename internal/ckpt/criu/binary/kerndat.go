package binary

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/thread"
)

// Criu finds out what the kernel can do each time that it starts, by a dozen of processes
// and by iptables: that is most of what it does until it stops the first process. It does
// not if it finds a cache of that, which it keeps until the machine restarts (kerndat.c).
// That of root is a file in /run, if that is a tmpfs: in many containers it is not. That of
// others is in XDG_RUNTIME_DIR, which it does not get from the caller's environment. So
// there is one cache for each criu beside the answers, and as long-lived as they are.

// kerndatName is what criu calls its cache.
const kerndatName = "criu.kdat"

// runDir is where root's is. Tests replace it.
var runDir = "/run"

// mostKerndat is more than any cache takes, some hundred bytes.
const mostKerndat = 8 << 10

// kerndatFD is the descriptor by which criu gets a cache. It is one that nobody gives to a
// criu by accident.
const kerndatFD = 187

// kerndatLink is where that is found by the criu that has it, and by no other.
var kerndatLink = fmt.Sprintf("/proc/self/fd/%d", kerndatFD)

// keepsKerndat reports whether the criu of a privileged user keeps its cache by itself.
func keepsKerndat() bool {
	var fs unix.Statfs_t
	return unix.Statfs(runDir, &fs) == nil && uint32(fs.Type) == unix.TMPFS_MAGIC
}

// learnKerndat returns the cache of the privileged criu at name, "" if it makes none. For
// that it runs where there is an empty tmpfs in place of /run, which nobody else sees.
func learnKerndat(name string) string {
	var cache string
	thread.Run(func() {
		if unix.Unshare(unix.CLONE_NEWNS) != nil || unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "") != nil ||
			unix.Mount("tmpfs", runDir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=755,size=1m") != nil {
			return
		}
		_, _ = run(name, "", "check", NoConfig, "-D", "/") // how it ends is known
		if data, err := os.ReadFile(filepath.Join(runDir, kerndatName)); err == nil && len(data) <= mostKerndat {
			cache = string(data)
		}
	})
	return cache
}

// LendKerndat calls start, which starts this criu in this process's mount namespace, and
// lends it its cache, until end is called. That is to be done once criu has asked for an
// image or has reported a stage: it has read the cache then. A criu that cannot have it only
// takes longer.
func (b *Binary) LendKerndat(start func()) (end func()) {
	lock, fd := b.lockKerndat(), -1
	path := filepath.Join(runDir, kerndatName)
	if lock >= 0 {
		if fd = inheritable(b.kerndat); fd >= 0 {
			// Should this process be killed, what is left leads nowhere, and criu removes it.
			_ = unix.Symlink(kerndatLink, path)
		}
	}
	start()
	if fd >= 0 {
		unix.Close(fd)
	}
	return func() {
		if lock < 0 {
			return
		}
		if unix.Flock(lock, unix.LOCK_EX|unix.LOCK_NB) == nil {
			if target, err := os.Readlink(path); err == nil && target == kerndatLink {
				_ = unix.Unlink(path)
			}
		}
		unix.Close(lock)
	}
}

// lockKerndat returns the descriptor of a lock that all have who lend a cache, so that the
// last of them removes the link; -1 if there is no cache to lend, or no lock to be had.
func (b *Binary) lockKerndat() int {
	if b.kerndat == "" {
		return -1
	}
	lock, err := unix.Open(b.kerndatLock, unix.O_RDWR|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return -1
	}
	if unix.Flock(lock, unix.LOCK_SH|unix.LOCK_NB) != nil {
		unix.Close(lock)
		return -1
	}
	return lock
}

// inheritable returns kerndatFD, with the data in it, for programs to inherit, or -1 if
// that cannot be had.
func inheritable(data string) int {
	file, err := unix.MemfdCreate(kerndatName, unix.MFD_CLOEXEC)
	if err != nil {
		return -1
	}
	defer unix.Close(file)
	if n, err := unix.Write(file, []byte(data)); err != nil || n != len(data) {
		return -1
	}
	fd, err := unix.FcntlInt(uintptr(file), unix.F_DUPFD, kerndatFD)
	if err != nil {
		return -1
	}
	if fd != kerndatFD {
		unix.Close(fd)
		return -1
	}
	return fd
}

// runtimeDir is the XDG_RUNTIME_DIR for the criu of that identity, in which an unprivileged
// one keeps its cache; "" if there is none. Criu believes what it finds there, so it has to
// be where nobody else can write. Whether it is there does not matter.
func (s *search) runtimeDir(id identity) string {
	if !s.unprivileged {
		return ""
	}
	dir, err := s.answers.open()
	if err != nil {
		return ""
	}
	unix.Close(dir)
	return filepath.Join(s.answers.dir, hashed("criu", id.key))
}
