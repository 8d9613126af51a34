package proc

import (
	"bytes"
	"fmt"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// Capable reports whether this process has a capability, by its number (CAP_SYS_ADMIN),
// in its effective set.
func Capable(capability int) bool {
	return capabilities()[capability/32].Effective&(1<<(capability%32)) != 0
}

// Inheritable returns the inheritable capabilities of this process, as bits.
func Inheritable() uint64 {
	data := capabilities()
	return uint64(data[1].Inheritable)<<32 | uint64(data[0].Inheritable)
}

func capabilities() (data [2]unix.CapUserData) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	_ = unix.Capget(&header, &data[0])
	return data
}

// Standing returns, in one line, what this process may do and which part of the
// machine it sees: its capabilities (effective, permitted, bounding and ambient),
// no_new_privs and seccomp mode, its namespaces, and its root directory. Two processes
// of a user for which it is the same get the same answers from the system. The error is
// that of reading /proc, EINVAL if that belongs to another pid namespace.
func Standing() (string, error) {
	text, err := read("/proc/self/status")
	if err != nil {
		return "", err
	}
	var standing []byte
	wanted := []string{"CapEff", "CapPrm", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp"}
	for line := range bytes.Lines(text) {
		key, value, _ := bytes.Cut(line, []byte(":"))
		if slices.Contains(wanted, string(key)) {
			standing = fmt.Appendf(standing, "%s=%s ", key, bytes.TrimSpace(value))
		}
	}
	if len(standing) == 0 {
		return "", syscall.EINVAL
	}
	link := make([]byte, 64)
	for _, kind := range []string{"user", "net", "mnt", "pid"} {
		n, err := unix.Readlink("/proc/self/ns/"+kind, link)
		if err == unix.ENOENT { // a kernel without this kind
			continue
		}
		if err != nil {
			return "", err
		}
		standing = fmt.Appendf(standing, "%s ", link[:n])
	}
	var root unix.Stat_t
	if err := unix.Stat("/", &root); err != nil {
		return "", err
	}
	return string(fmt.Appendf(standing, "root=%d:%d", root.Dev, root.Ino)), nil
}
