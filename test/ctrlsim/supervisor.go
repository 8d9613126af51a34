//go:build linux && amd64

package ctrlsim

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// supervisor answers the trapped calls of one program and of all that it
// starts.
type supervisor struct {
	l      listener
	stopFd int           // becomes readable when it is to stop
	stop   chan struct{} // closed then
	wg     sync.WaitGroup

	sc    *Scenario
	tee   io.Writer
	procs processTable
	plan  *plan // nil without a fault plan
	main  int   // the program's pid

	onCall func(SystemCall) // Command.OnCall

	askMu sync.Mutex // held while a request chooses whom it asks, and before mu

	mu         sync.Mutex
	files      map[uint64]*file // by inode of the end that was given away
	nth        map[string]int   // how often each operation has come
	transcript []string
	problems   []string
	grown      broadcast // the transcript has

	asked      map[int]*askedTask   // by thread: who is asked by a request and is not through
	unready    map[int]bool         // processes in a request that cannot be asked
	registered map[int]registration // by thread
	injected   map[int]bool         // threads whose calls are ours
	signalled  map[int]bool         // threads whose signal 64 is on its way
	answered   broadcast            // something about those who are asked has changed

	firstOpen, firstIoctl, firstRequest time.Duration // monotonic
}

// broadcast wakes everybody who waits for a change. Its user has a lock.
type broadcast struct{ ch chan struct{} }

func (b *broadcast) wait() <-chan struct{} {
	if b.ch == nil {
		b.ch = make(chan struct{})
	}
	return b.ch
}

func (b *broadcast) wake() {
	if b.ch != nil {
		close(b.ch)
		b.ch = nil
	}
}

// run serves until stop, and returns when every handler has ended.
func (s *supervisor) run() {
	err := s.l.serve(s.stopFd, func(n *notif) {
		s.wg.Go(func() { s.handle(n) })
	})
	if err != nil {
		s.problem("supervisor: %v", err)
	}
}

// close frees everything. Calls that are still trapped then give ENOSYS. The
// listener goes last: nobody may use its number any more.
func (s *supervisor) close() {
	s.mu.Lock()
	for _, f := range s.files {
		f.end.Close() // its goroutine removes it
	}
	s.mu.Unlock()
	s.wg.Wait()
	unix.Close(int(s.l))
	s.procs.close()
}

// stopped says whether the supervisor is being closed.
func (s *supervisor) stopped() bool {
	select {
	case <-s.stop:
		return true
	default:
		return false
	}
}

// log adds a line to the transcript.
func (s *supervisor) log(format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.transcript = append(s.transcript, line)
	if s.tee != nil {
		io.WriteString(s.tee, line+"\n")
	}
	s.grown.wake()
}

// problem notes something that must not happen.
func (s *supervisor) problem(format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.problems = append(s.problems, line)
	if s.tee != nil {
		io.WriteString(s.tee, "# "+line+"\n")
	}
}

// count is the how-manieth time of an operation this is.
func (s *supervisor) count(op string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.nth[op]++
	return s.nth[op]
}

// first notes the time of the first of something.
func (s *supervisor) first(at *time.Duration) {
	now := monotonic()
	s.mu.Lock()
	defer s.mu.Unlock()
	if *at == 0 {
		*at = now
	}
}

// handle answers one trapped call.
func (s *supervisor) handle(n *notif) {
	s.procs.of(int(n.Tid)) // so that it is known at the end
	if s.handleInjected(n) {
		return
	}
	if s.onCall != nil {
		pid := int(n.Tid)
		if p, err := s.procs.of(pid); err == nil {
			pid = p.pid
		}
		s.onCall(SystemCall{Pid: pid, Tid: int(n.Tid), Number: int(n.Data.Nr), Args: n.Data.Args, stranger: s.strange})
	}
	switch int(n.Data.Nr) {
	case unix.SYS_OPENAT:
		s.handleOpen(n)
	case unix.SYS_FACCESSAT:
		s.handleAccess(n)
	case unix.SYS_IOCTL:
		s.handleIoctl(n)
	default:
		if !s.fault(n, "", nil) {
			s.l.resume(n)
		}
	}
}

// handleOpen answers an open of the control file and lets the kernel do all
// others.
func (s *supervisor) handleOpen(n *notif) {
	path, err := readString(int(n.Tid), n.Data.Args[1], unix.PathMax)
	flags := uint64(uint32(n.Data.Args[2]))
	if err != nil || path != controlFile {
		if !s.fault(n, path, nil) {
			s.l.resume(n)
		}
		return
	}
	s.first(&s.firstOpen)
	line := "open {flags=" + openFlags(flags) + "}"
	if s.fault(n, "control file", func(res string) { s.log("%s = %s", line, res) }) {
		return
	}
	nth := s.count("open")
	s.strangers("before", "open", nth)
	defer s.strangers("after", "open", nth)
	if res, ok := s.sc.answer("open", nth); ok && res != 0 {
		s.log("%s = %s", line, resultString(int64(res)))
		s.l.answer(n, int64(max(res, 0)), max(-res, 0))
		return
	}
	switch err := s.installFile(n, flags, line); {
	case err == nil || errors.Is(err, unix.ENOENT): // ENOENT: the caller has gone
	default:
		var errno unix.Errno
		if !errors.As(err, &errno) {
			errno = unix.EIO
		}
		s.log("%s = -%s", line, ErrnoName(int(errno)))
		s.l.answer(n, 0, int(errno))
	}
}

// handleAccess answers whether the control file could be opened, as its next open
// would, and lets the kernel do all others. It is no line of the transcript.
func (s *supervisor) handleAccess(n *notif) {
	path, err := readString(int(n.Tid), n.Data.Args[1], unix.PathMax)
	if s.fault(n, path, nil) {
		return
	}
	if err != nil || path != controlFile {
		s.l.resume(n)
		return
	}
	s.mu.Lock()
	nth := s.nth["open"] + 1
	s.mu.Unlock()
	res, _ := s.sc.answer("open", nth)
	s.l.answer(n, 0, max(-res, 0))
}

// openFlags shows the flags that matter here by name.
func openFlags(flags uint64) string {
	names := []string{[]string{"O_RDONLY", "O_WRONLY", "O_RDWR", "3"}[flags&3]}
	rest := flags &^ 3
	for _, f := range []struct {
		bit  uint64
		name string
	}{{unix.O_CLOEXEC, "O_CLOEXEC"}, {unix.O_NONBLOCK, "O_NONBLOCK"}} {
		if rest&f.bit != 0 {
			names = append(names, f.name)
			rest &^= f.bit
		}
	}
	rest &^= 0o100000 // O_LARGEFILE, which C adds on some machines
	if rest != 0 {
		names = append(names, fmt.Sprintf("%#x", rest))
	}
	return strings.Join(names, "|")
}

// file is an open control file: one end of a socket pair in the program, under
// any number of descriptors in any number of processes, and the other end here.
// A byte in it makes the program's end readable; end of file means that the
// last of its descriptors is closed.
type file struct {
	ino    uint64 // of the program's end
	end    *os.File
	closed chan struct{}

	planted bool // into a process that is asked

	req *request // under supervisor.mu; nil if there is none
}

// installFile opens a control file for the caller. Without a line for the
// transcript it is one of our own.
func (s *supervisor) installFile(n *notif, flags uint64, line string) error {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(pair[0])
	if err := errors.Join(unix.SetNonblock(pair[0], flags&unix.O_NONBLOCK != 0), unix.SetNonblock(pair[1], true)); err != nil {
		unix.Close(pair[1])
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(pair[0], &st); err != nil {
		unix.Close(pair[1])
		return err
	}
	f := &file{ino: st.Ino, end: os.NewFile(uintptr(pair[1]), "control file"), closed: make(chan struct{}), planted: line == ""}
	s.mu.Lock()
	s.files[f.ino] = f
	s.mu.Unlock()
	if s.stopped() { // close has been through the files already
		f.end.Close()
	}
	s.wg.Go(func() {
		buf := make([]byte, 16)
		for { // what is written to a control file goes nowhere
			if k, err := f.end.Read(buf); err != nil || k == 0 {
				break
			}
		}
		s.mu.Lock()
		delete(s.files, f.ino)
		for tid, reg := range s.registered {
			if reg.f == f {
				delete(s.registered, tid)
			}
		}
		s.mu.Unlock()
		close(f.closed)
		f.end.Close()
	})
	// Before the answer, as the caller's next line must come after this one.
	if !f.planted {
		s.log("%s = 0", line)
	}
	if err := s.l.install(n, pair[0], flags&unix.O_CLOEXEC != 0); err != nil {
		f.end.Close()
		return err
	}
	return nil
}

// fileOf is the control file behind a descriptor of thread tid, nil if it is
// something else. Descriptor numbers say nothing: they are duplicated,
// inherited and sent about.
func (s *supervisor) fileOf(tid int, fd int32) *file {
	link, err := os.Readlink(procFile(tid, fmt.Sprintf("fd/%d", fd)))
	if err != nil {
		return nil
	}
	var ino uint64
	if _, err := fmt.Sscanf(link, "socket:[%d]", &ino); err != nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.files[ino]
}

// sleep waits unless the supervisor stops, and says whether it has waited.
func (s *supervisor) sleep(d time.Duration) bool {
	if d == 0 {
		return true
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-s.stop:
		return false
	}
}

// How long a blocked call takes to see that it is interrupted.
const blockTick = 5 * time.Millisecond

// blockEnd says how block has ended.
type blockEnd int

const (
	blockReady       blockEnd = iota
	blockInterrupted          // by a signal
	blockGone                 // the caller has, or the supervisor stops
	blockTimeout
	blockClosed // the control file is
)

// block waits until ready, which is called with s.mu held, and looks again
// whenever b is woken. It ends early as an interruptible wait in the kernel
// does. A limit of 0 is none.
func (s *supervisor) block(n *notif, f *file, b *broadcast, limit time.Duration, ready func() bool) blockEnd {
	var timeout <-chan time.Time
	if limit > 0 && limit != Never {
		t := time.NewTimer(limit)
		defer t.Stop()
		timeout = t.C
	}
	tick := time.NewTicker(blockTick)
	defer tick.Stop()
	pending := false
	for {
		s.mu.Lock()
		if ready != nil && ready() {
			s.mu.Unlock()
			return blockReady
		}
		var woken <-chan struct{}
		if b != nil {
			woken = b.wait()
		}
		s.mu.Unlock()
		select {
		case <-woken:
		case <-timeout:
			return blockTimeout
		case <-f.closed:
			return blockClosed
		case <-s.stop:
			return blockGone
		case <-tick.C:
			if !s.l.valid(n) {
				return blockGone
			}
			// A signal to the process that another thread takes is pending for
			// a moment only: look twice.
			st, err := readStatus(int(n.Tid))
			now := err == nil && (st.interrupted() || s.isSignalled(int(n.Tid)))
			if now && pending {
				return blockInterrupted
			}
			pending = now
		}
	}
}
