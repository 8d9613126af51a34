package criu

import (
	"sync"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt/criu/attributes"
	"blcr-cli/internal/ckpt/criu/images"
	"blcr-cli/internal/proc"
)

// What a job has in a pseudo terminal of its own, and has not read yet, CRIU reads, and writes it
// again by the other end: at a checkpoint, since the job may run on, and at a restart. There
// the terminal processes it once more (OPOST and ECHO of termios(3)): a newline gets another
// carriage return, and what was typed is echoed again. So what the masters are to read is
// replaced by what was there, while the job stands still. What was typed stays as CRIU has
// written it.

// takenTerminals are the images of a dump that say what was unread.
type takenTerminals struct {
	mu         sync.Mutex
	info, data []byte
}

// mostTerminals is how much of such an image is looked at, in bytes.
const mostTerminals = 16 << 20

func saysUnread(name string) bool { return name == images.TTYInfoName || name == images.TTYDataName }

// add notes an image.
func (t *takenTerminals) add(name string, img []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if name == images.TTYInfoName {
		t.info = img
	} else {
		t.data = img
	}
}

// mendTerminals puts back what was unread when CRIU has saved it. Without the images nothing
// was, as for the most part.
func (c *capture) mendTerminals() {
	if c.request.Dir != "" && c.readWritten(c.terminals.add, images.TTYInfoName, images.TTYDataName) != nil {
		return
	}
	putUnread(c.tree.PIDs, c.terminals.info, c.terminals.data)
}

// mendTerminals puts back what was unread when CRIU has restored it.
func (r *restart) mendTerminals() {
	if !r.source.Has(images.TTYDataName) {
		return
	}
	data := r.plan.images[images.TTYDataName] // of what is left of them
	if data == nil {
		data, _ = r.source.Bytes(images.TTYDataName)
	}
	if tree, err := proc.Descend(r.root); err == nil {
		putUnread(tree, r.plan.images[images.TTYInfoName], data)
	}
}

// putUnread replaces what the masters that processes have are to read. A terminal for which
// that fails stays as it is.
func putUnread(pids []int, ttyInfo, ttyData []byte) {
	if len(ttyInfo) == 0 || len(ttyData) == 0 {
		return
	}
	unread, err := images.Unread(ttyInfo, ttyData)
	if err != nil {
		return
	}
	for _, pid := range pids {
		for d, err := range proc.Descriptors(pid) {
			if err != nil || len(unread) == 0 {
				break
			}
			if !d.Master() {
				continue
			}
			master, err := proc.CopyDescriptor(pid, d.FD)
			if err != nil {
				continue
			}
			if index, err := unix.IoctlGetUint32(master, unix.TIOCGPTN); err == nil {
				if data, ok := unread[index]; ok && replaceUnread(master, data) {
					delete(unread, index)
				}
			}
			unix.Close(master)
		}
	}
}

// replaceUnread replaces what a master is to read. It returns false, and has done nothing, if
// that cannot be done.
func replaceUnread(master int, data []byte) bool {
	slave, err := attributes.OpenSlave(master)
	if err != nil {
		return false
	}
	defer unix.Close(slave)
	modes, err := unix.IoctlGetTermios(slave, unix.TCGETS2)
	if err != nil {
		return false
	}
	raw := *modes
	raw.Oflag &^= unix.OPOST
	if unix.IoctlSetTermios(slave, unix.TCSETS2, &raw) != nil {
		return false
	}
	defer func() { _ = unix.IoctlSetTermios(slave, unix.TCSETS2, modes) }()
	// The descriptor is the job's, which may be a blocking one.
	poll := []unix.PollFd{{Fd: int32(master), Events: unix.POLLIN}}
	for buffer := make([]byte, 4<<10); ; {
		if n, err := unix.Poll(poll, 0); err == unix.EINTR {
			continue
		} else if n != 1 || poll[0].Revents&unix.POLLIN == 0 {
			break
		}
		if n, err := unix.Read(master, buffer); err != unix.EINTR && n <= 0 {
			break
		}
	}
	for len(data) > 0 {
		n, err := unix.Write(slave, data)
		if err == unix.EINTR {
			continue
		}
		if n <= 0 {
			break
		}
		data = data[n:]
	}
	return true
}
