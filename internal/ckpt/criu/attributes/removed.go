package attributes

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/proc"
)

// CRIU makes a removed file again with its content, owner and mode, and its times in
// microseconds. What else it had is noted: the time of its modification in nanoseconds, the flags
// of chattr(1) in hexadecimal, and extended attributes in hexadecimal. (CRIU itself changes the
// time of access, as it reads the file.)
//
//	removed=3:1700000000123456789:80:757365722e78=616263
//
// Of extended attributes these are the user's own ones and access control lists. Others may
// give power to programs, which a context is not to give, or are made by the system itself.

// inode identifies a file.
type inode struct{ dev, ino uint64 }

// flags are those of chattr(1) that a user may set: s, u, c, S, i, a, d, A, j, D and C
// (linux/fs.h).
const flags = 0x1 | 0x2 | 0x4 | 0x8 | 0x10 | 0x20 | 0x40 | 0x80 | 0x4000 | 0x10000 | 0x800000

// mostXattrs is how many bytes of extended attributes a file may have to be noted.
const mostXattrs = 64 << 10

// kept reports whether an extended attribute is noted, and set again.
func kept(name string) bool {
	return strings.HasPrefix(name, "user.") || name == "system.posix_acl_access"
}

// removed returns the note of a removed file that a process has open; "" if there is nothing to
// be noted, or it was noted before.
func (s *descriptorSaver) removed(pid, number int) string {
	var st unix.Stat_t
	if unix.Stat(proc.Open(pid, number), &st) != nil || !isRemoved(&st) || s.files[inode{st.Dev, st.Ino}] {
		return ""
	}
	fd, err := proc.CopyDescriptor(pid, number)
	if err != nil {
		return ""
	}
	defer unix.Close(fd)
	s.files[inode{st.Dev, st.Ino}] = true
	set, _ := unix.IoctlGetUint32(fd, unix.FS_IOC_GETFLAGS)
	text := fmt.Sprintf("%d:%d:%x", number, st.Mtim.Nano(), set&flags)
	names := make([]byte, mostXattrs)
	n, _ := unix.Flistxattr(fd, names)
	var values []string
	for name := range strings.SplitSeq(string(names[:max(n, 0)]), "\x00") {
		value := make([]byte, mostXattrs)
		if n, err := unix.Fgetxattr(fd, name, value); kept(name) && err == nil {
			values = append(values, hex.EncodeToString([]byte(name))+"="+hex.EncodeToString(value[:n]))
		}
	}
	return text + ":" + strings.Join(values, ",")
}

// isRemoved reports whether a file is one that CRIU makes again.
func isRemoved(st *unix.Stat_t) bool { return st.Nlink == 0 && st.Mode&unix.S_IFMT == unix.S_IFREG }

// setRemoved sets what is in a list, which anyone may have made, for removed files of a process.
func setRemoved(pid int, list string) {
	for text := range strings.SplitSeq(list, ";") {
		words := strings.Split(text, ":")
		if len(words) != 4 {
			return
		}
		number, err := strconv.Atoi(words[0])
		modified, err2 := strconv.ParseInt(words[1], 10, 64)
		set, err3 := strconv.ParseUint(words[2], 16, 32)
		if err != nil || err2 != nil || err3 != nil {
			return
		}
		change(pid, number, func(fd int) {
			var st unix.Stat_t
			if unix.Fstat(fd, &st) != nil || !isRemoved(&st) {
				return
			}
			for text := range strings.SplitSeq(words[3], ",") {
				name, value, _ := strings.Cut(text, "=")
				key, err := hex.DecodeString(name)
				data, err2 := hex.DecodeString(value)
				if err == nil && err2 == nil && kept(string(key)) {
					_ = unix.Fsetxattr(fd, string(key), data, 0)
				}
			}
			times := [2]unix.Timespec{{Nsec: unix.UTIME_OMIT}, unix.NsecToTimespec(modified)}
			_, _, _ = unix.Syscall6(unix.SYS_UTIMENSAT, uintptr(fd), 0, uintptr(unsafe.Pointer(&times)), 0, 0, 0)
			if now, err := unix.IoctlGetUint32(fd, unix.FS_IOC_GETFLAGS); err == nil && now&flags != uint32(set)&flags {
				_ = unix.IoctlSetPointerInt(fd, unix.FS_IOC_SETFLAGS, int(now&^flags|uint32(set)&flags))
			}
		})
	}
}
