package explain

import (
	"encoding/binary"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/hints"
	"blcr-cli/internal/proc"
)

// unnamed reports whether a criu does not find out the name of a file that a descriptor of
// inotify or fanotify watches.
func (s *situation) unnamed(fd int, criu string) bool {
	if os.Geteuid() != 0 && mayHave(criu, unix.CAP_DAC_READ_SEARCH) {
		return false // only that criu can tell
	}
	unnamed := make(map[[2]uint64]bool)
	var opener proc.WatchOpener
	defer opener.Close()
	for _, w := range proc.Watched(s.pid, fd) {
		if !opened(&opener, w) {
			unnamed[[2]uint64{w.Dev, w.Ino}] = true
		}
	}
	// CRIU looks for these in some places where programs often watch files: irmap.c.
	for _, place := range strings.Fields("/etc /var/spool /var/log /usr/share/dbus-1/services /usr/share/dbus-1/system-services /var/lib/polkit-1/localauthority /usr/share/polkit-1/actions /lib/udev /") {
		findNames(place, unnamed)
	}
	return len(unnamed) > 0
}

// findNames takes the files out, by device and inode, that a name leads to, or one below it;
// of the root directory only that itself.
func findNames(name string, of map[[2]uint64]bool) {
	var st unix.Stat_t
	if len(of) == 0 || unix.Lstat(name, &st) != nil {
		return
	}
	delete(of, [2]uint64{st.Dev, st.Ino})
	if st.Mode&unix.S_IFMT != unix.S_IFDIR || name == "/" {
		return
	}
	if dir, err := os.Open(name); err == nil {
		names, _ := dir.Readdirnames(-1)
		dir.Close()
		for _, below := range names {
			findNames(name+"/"+below, of)
		}
	}
}

// mayHave reports whether a criu that a user runs may have a capability, one of the first 32,
// as by its file. A script may start any criu.
func mayHave(criu string, capability int) bool {
	if !hints.IsProgram(criu) {
		return true
	}
	capabilities := make([]byte, 64) // struct vfs_cap_data
	n, err := unix.Getxattr(criu, "security.capability", capabilities)
	return proc.Capable(capability) || err == nil && n >= 8 && binary.LittleEndian.Uint32(capabilities[4:])&(1<<capability) != 0
}

// lostName reports whether a descriptor is a UNIX socket with a relative name that CRIU does
// not find.
func (s *situation) lostName(fd int) bool {
	ours, err := proc.CopyDescriptor(s.pid, fd)
	if err != nil {
		return false
	}
	defer unix.Close(ours)
	addr, _ := unix.Getsockname(ours)
	local, ok := addr.(*unix.SockaddrUnix)
	return ok && local.Name != "" && local.Name[0] != '/' && local.Name[0] != '@' && proc.SocketDir(s.pid, local.Name) == ""
}

// opened reports whether a file can be opened by its handle, and CRIU is content with that:
// in memory it must have a name as well.
func opened(opener *proc.WatchOpener, w proc.Watch) bool {
	file, kind, err := opener.Open(w)
	if err != nil {
		return false
	}
	defer unix.Close(file)
	var st unix.Stat_t
	return kind != "tmpfs" && kind != "devtmpfs" || unix.Fstat(file, &st) == nil && st.Nlink > 0
}
