package kernel

import (
	"sync"

	"golang.org/x/sys/unix"
)

// meter measures progress by the offset of the file that the module writes a
// context to, or reads it from. The module itself does not report any.
type meter struct {
	mu    sync.Mutex
	fd    int // our own descriptor of it, 0 for none
	start int64
	read  bool
}

// begin begins to measure, from the present offset of fd on. It takes a descriptor
// of its own, since the caller may close fd. Its own is close-on-exec, so that the
// module closes it in the restored processes too.
func (m *meter) begin(fd int32, read bool) {
	var st unix.Stat_t
	if unix.Fstat(int(fd), &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return
	}
	start, err := unix.Seek(int(fd), 0, unix.SEEK_CUR)
	if err != nil {
		return
	}
	own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fd, m.start, m.read = own, start, read
}

// end closes the descriptor. It may be called more than once.
func (m *meter) end() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fd != 0 {
		unix.Close(m.fd)
		m.fd = 0
	}
}

// Progress implements ckpt.Engine. The size of a checkpoint to come is not known,
// nor is progress through a pipe.
func (e *Engine) Progress() (done, all int64) {
	m := &e.meter
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fd == 0 {
		return 0, 0
	}
	at, err := unix.Seek(m.fd, 0, unix.SEEK_CUR)
	if err != nil {
		return 0, 0
	}
	var st unix.Stat_t
	if m.read && unix.Fstat(m.fd, &st) == nil {
		all = st.Size - m.start
	}
	return at - m.start, all
}
