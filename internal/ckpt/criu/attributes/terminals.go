package attributes

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/proc"
)

// Of a pseudo terminal whose both ends are the job's, this is noted, by a descriptor of the
// slave: the mode of its file, in octal, whether it is exclusive (TIOCEXCL), and whether its
// output is stopped (TCOOFF, or Ctrl-S).
//
//	terminals=5:620:xs,7:600:
//
// A terminal from outside is not touched.

// unreadLimit is less than what the reader of a terminal is given at most (N_TTY_BUF_SIZE). If
// there is less to be read, the terminal itself holds nothing back for want of room.
const unreadLimit = 4000

// tcooff is TCOOFF of ioctl_tty(2).
const tcooff = 0

// end is a descriptor of a process.
type end struct{ pid, fd int }

// ends are those of a terminal; the process is 0 for one that was not found.
type ends struct{ master, slave end }

// terminalSaver has the ends that were found, by the number of the terminal.
type terminalSaver map[uint32]*ends

// add notes one end of a pseudo terminal.
func (s terminalSaver) add(pid int, d proc.Descriptor) {
	if d.Master() {
		master, err := proc.CopyDescriptor(pid, d.FD)
		if err != nil {
			return
		}
		defer unix.Close(master)
		if n, err := unix.IoctlGetUint32(master, unix.TIOCGPTN); err == nil {
			s.of(n).master = end{pid, d.FD}
		}
		return
	}
	if number, ok := strings.CutPrefix(d.Link, "/dev/pts/"); ok {
		if n, err := strconv.ParseUint(number, 10, 32); err == nil {
			s.of(uint32(n)).slave = end{pid, d.FD}
		}
	}
}

func (s terminalSaver) of(n uint32) *ends {
	if s[n] == nil {
		s[n] = new(ends)
	}
	return s[n]
}

// noted returns the notes, by the process that has the slave.
func (s terminalSaver) noted() map[int][]string {
	notes := make(map[int][]string)
	for _, t := range s {
		if t.master.pid == 0 || t.slave.pid == 0 {
			continue
		}
		slave, err := proc.CopyDescriptor(t.slave.pid, t.slave.fd)
		if err != nil {
			continue
		}
		var st unix.Stat_t
		if unix.Fstat(slave, &st) == nil {
			text := fmt.Sprintf("%d:%o:", t.slave.fd, st.Mode&0o777)
			if on, err := unix.IoctlGetInt(slave, unix.TIOCGEXCL); err == nil && on != 0 {
				text += "x"
			}
			if t.stopped(slave) {
				text += "s"
			}
			notes[t.slave.pid] = append(notes[t.slave.pid], text)
		}
		unix.Close(slave)
	}
	return notes
}

// stopped reports whether the output of a terminal is stopped: nothing can be written to the
// slave, although the terminal has room.
func (t *ends) stopped(slave int) bool {
	master, err := proc.CopyDescriptor(t.master.pid, t.master.fd)
	if err != nil {
		return false
	}
	defer unix.Close(master)
	poll := []unix.PollFd{{Fd: int32(slave), Events: unix.POLLOUT}}
	unread, err := unix.IoctlGetInt(master, unix.TIOCINQ)
	_, err2 := unix.Poll(poll, 0)
	return err == nil && err2 == nil && unread < unreadLimit && poll[0].Revents == 0
}

// setTerminals sets what is in a list, which anyone may have made, for terminals of a process.
func setTerminals(pid int, list string) {
	for text := range strings.SplitSeq(list, ",") {
		words := strings.Split(text, ":")
		if len(words) != 3 {
			return
		}
		number, err := strconv.Atoi(words[0])
		mode, err2 := strconv.ParseUint(words[1], 8, 9)
		if err != nil || err2 != nil {
			return
		}
		change(pid, number, func(slave int) {
			var st unix.Stat_t
			if unix.Fstat(slave, &st) != nil || !isSlave(&st) || isOurs(&st) {
				return
			}
			if uint64(st.Mode&0o777) != mode {
				_ = unix.Fchmod(slave, uint32(mode))
			}
			if strings.Contains(words[2], "x") {
				_ = unix.IoctlSetInt(slave, unix.TIOCEXCL, 0)
			}
			if strings.Contains(words[2], "s") {
				_ = unix.IoctlSetInt(slave, unix.TCXONC, tcooff)
			}
		})
	}
}

// isSlave reports whether a file is the slave of a pseudo terminal.
func isSlave(st *unix.Stat_t) bool {
	const first, last = 136, 143 // UNIX98_PTY_SLAVE_MAJOR
	major := unix.Major(uint64(st.Rdev))
	return st.Mode&unix.S_IFMT == unix.S_IFCHR && major >= first && major <= last
}

// isOurs reports whether a terminal is the controlling one of this process.
func isOurs(st *unix.Stat_t) bool {
	fd, err := unix.Open("/dev/tty", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	own, err := unix.IoctlGetUint32(fd, unix.TIOCGDEV)
	return err == nil && uint64(own>>8&0xfff) == uint64(unix.Major(uint64(st.Rdev))) && own&0xff|own>>12&0xfff00 == unix.Minor(uint64(st.Rdev))
}
