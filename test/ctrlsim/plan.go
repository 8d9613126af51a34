//go:build linux && amd64

package ctrlsim

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt/kernel/abi"
)

// argKind says how a counted call is described.
type argKind int

const (
	argNone    argKind = iota
	argFd              // a descriptor, first
	argPath            // a path, first
	argPathAt          // a path, after a directory descriptor
	argPath2           // two paths
	argPath2At         // two paths, each after a directory descriptor
	argPoll
	argSelect
	argWait
	argWaitid
)

type countable struct {
	nr     int
	name   string
	family string
	args   argKind
}

// countables are all calls that a fault plan can count.
var countables = []countable{
	{unix.SYS_OPEN, "open", "open", argPath},
	{unix.SYS_CREAT, "creat", "open", argPath},
	{unix.SYS_OPENAT, "openat", "open", argPathAt},
	{unix.SYS_OPENAT2, "openat2", "open", argPathAt},
	{unix.SYS_STAT, "stat", "stat", argPath},
	{unix.SYS_LSTAT, "lstat", "stat", argPath},
	{unix.SYS_FSTAT, "fstat", "stat", argFd},
	{unix.SYS_NEWFSTATAT, "newfstatat", "stat", argPathAt},
	{unix.SYS_STATX, "statx", "stat", argPathAt},
	{unix.SYS_ACCESS, "access", "access", argPath},
	{unix.SYS_FACCESSAT, "faccessat", "access", argPathAt},
	{unix.SYS_FACCESSAT2, "faccessat2", "access", argPathAt},
	{unix.SYS_WRITE, "write", "write", argFd},
	{unix.SYS_WRITEV, "writev", "write", argFd},
	{unix.SYS_PWRITE64, "pwrite64", "write", argFd},
	{unix.SYS_PWRITEV, "pwritev", "write", argFd},
	{unix.SYS_PWRITEV2, "pwritev2", "write", argFd},
	{unix.SYS_LINK, "link", "link", argPath2},
	{unix.SYS_LINKAT, "linkat", "link", argPath2At},
	{unix.SYS_RENAME, "rename", "rename", argPath2},
	{unix.SYS_RENAMEAT, "renameat", "rename", argPath2At},
	{unix.SYS_RENAMEAT2, "renameat2", "rename", argPath2At},
	{unix.SYS_UNLINK, "unlink", "unlink", argPath},
	{unix.SYS_UNLINKAT, "unlinkat", "unlink", argPathAt},
	{unix.SYS_RMDIR, "rmdir", "unlink", argPath},
	{unix.SYS_FSYNC, "fsync", "fsync", argFd},
	{unix.SYS_FDATASYNC, "fdatasync", "fsync", argFd},
	{unix.SYS_FTRUNCATE, "ftruncate", "truncate", argFd},
	{unix.SYS_TRUNCATE, "truncate", "truncate", argPath},
	{unix.SYS_IOCTL, "ioctl", "ioctl", argFd},
	{unix.SYS_POLL, "poll", "poll", argPoll},
	{unix.SYS_PPOLL, "ppoll", "poll", argPoll},
	{unix.SYS_SELECT, "select", "select", argSelect},
	{unix.SYS_PSELECT6, "pselect6", "select", argSelect},
	{unix.SYS_FORK, "fork", "fork", argNone},
	{unix.SYS_VFORK, "vfork", "fork", argNone},
	{unix.SYS_CLONE, "clone", "fork", argNone},
	{unix.SYS_CLONE3, "clone3", "fork", argNone},
	{unix.SYS_WAIT4, "wait4", "wait", argWait},
	{unix.SYS_WAITID, "waitid", "wait", argWaitid},
	{unix.SYS_DUP, "dup", "dup", argFd},
	{unix.SYS_DUP2, "dup2", "dup", argFd},
	{unix.SYS_DUP3, "dup3", "dup", argFd},
	{unix.SYS_FCNTL, "fcntl", "fcntl", argFd},
	{unix.SYS_FLOCK, "flock", "flock", argFd},
	{unix.SYS_CLOSE, "close", "close", argFd},
	{unix.SYS_EXECVE, "execve", "execve", argPath},
	{unix.SYS_EXECVEAT, "execveat", "execve", argPathAt},
	{unix.SYS_PIPE, "pipe", "pipe", argNone},
	{unix.SYS_PIPE2, "pipe2", "pipe", argNone},
}

// plan is a fault plan at work.
type plan struct {
	f       Faults
	counted map[int]countable

	// started is closed when the program's exec is over, and image is
	// known. Before that nothing is counted.
	started chan struct{}
	image   fileID

	mu    sync.Mutex
	calls []Call
	order int
	hit   bool
	last  map[int]lastCall // of each process, to see repetitions
}

type lastCall struct {
	key      string
	children []int // before a fork
}

type fileID struct{ dev, ino uint64 }

func newPlan(f *Faults) (*plan, error) {
	names := f.Count
	if names == nil {
		names = DefaultCount
	}
	p := &plan{
		f:       *f,
		counted: make(map[int]countable),
		started: make(chan struct{}),
		last:    make(map[int]lastCall),
	}
	if (f.At != Point{}) && f.Errno == 0 && !f.Kill {
		return nil, fmt.Errorf("fault at %v with neither an errno nor Kill", f.At)
	}
	for _, name := range names {
		found := false
		for _, c := range countables {
			if c.name == name || c.family == name {
				p.counted[c.nr] = c
				found = true
			}
		}
		if !found {
			return nil, fmt.Errorf("cannot count %q", name)
		}
	}
	return p, nil
}

// numbers are the system calls to be trapped.
func (p *plan) numbers() []int {
	if p == nil {
		return nil
	}
	var nrs []int
	for nr := range p.counted {
		nrs = append(nrs, nr)
	}
	slices.Sort(nrs)
	return nrs
}

// start begins the count: the program's exec is over. If the program has ended
// already it has no image, and nothing is counted.
func (p *plan) start(pid int) {
	if p == nil {
		return
	}
	p.image, _ = imageOf(pid)
	close(p.started)
}

// imageOf identifies what a process executes.
func imageOf(tid int) (fileID, error) {
	var st unix.Stat_t
	err := unix.Stat(procFile(tid, "exe"), &st)
	return fileID{st.Dev, st.Ino}, err
}

// markJob ends the count for a process: it is not the program any more.
func (p *plan) markJob(proc *process) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	proc.job = true
}

// fault counts a trapped call. True: it is the one of the fault plan, and has
// been dealt with. detail describes the call if the caller has read its
// arguments; logged gets the result of a failed control operation.
func (s *supervisor) fault(n *notif, detail string, logged func(result string)) bool {
	p := s.plan
	if p == nil {
		return false
	}
	c, ok := p.counted[int(n.Data.Nr)]
	if !ok {
		return false
	}
	select {
	case <-p.started:
	default:
		if c.family == "execve" {
			return false // the shim's
		}
		select {
		case <-p.started:
		case <-s.stop:
			return false
		}
	}
	if id, err := imageOf(int(n.Tid)); err != nil || id != p.image {
		return false
	}
	proc, err := s.procs.of(int(n.Tid))
	if err != nil {
		return false
	}
	if detail == "" {
		detail = s.describe(n, c)
	}
	if runtimeNoise(n, c, detail) || !s.l.valid(n) {
		return false
	}
	if !p.take(proc, c, detail) {
		return false
	}
	if p.f.Kill {
		if logged != nil {
			logged("killed")
		}
		proc.kill(unix.SIGKILL)
		return true
	}
	if logged != nil {
		logged("-" + ErrnoName(int(p.f.Errno)) + " [fault]")
	}
	s.l.answer(n, 0, int(p.f.Errno))
	return true
}

// take numbers a call and says whether it is the plan's.
func (p *plan) take(proc *process, c countable, detail string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if proc.job {
		return false
	}
	// A signal makes the kernel, or the program, start these calls again. A
	// second fork is a real one if the first has made a child.
	now, before := lastCall{key: c.name + " " + detail}, p.last[proc.pid]
	switch c.family {
	case "poll", "select", "wait":
		if before.key == now.key {
			return false
		}
	case "fork":
		now.children = children(proc.pid)
		if before.key == now.key && !slices.ContainsFunc(now.children, func(pid int) bool {
			return !slices.Contains(before.children, pid)
		}) {
			return false
		}
	}
	p.last[proc.pid] = now
	if proc.order == 0 {
		p.order++
		proc.order = p.order
	}
	proc.calls++
	call := Call{N: len(p.calls) + 1, Proc: proc.order, Index: proc.calls, Name: c.name, Detail: detail}
	at := p.f.At
	switch {
	case p.hit || at.N == 0:
	case at.Proc == 0:
		call.Fault = at.N == call.N
	default:
		call.Fault = at.Proc == call.Proc && at.N == call.Index
	}
	p.hit = p.hit || call.Fault
	p.calls = append(p.calls, call)
	return call.Fault
}

// runtimeNoise says whether a call is one that the Go runtime makes by itself,
// at start or at any time, or that another thread makes at any time.
func runtimeNoise(n *notif, c countable, detail string) bool {
	a := n.Data.Args
	switch c.family {
	case "open":
		return strings.HasPrefix(detail, "/sys/") || strings.HasPrefix(detail, "/proc/")
	case "stat":
		return strings.Contains(detail, " /sys/") || strings.Contains(detail, " /proc/")
	case "fcntl":
		return int32(a[0]) <= 2 && (a[1] == unix.F_GETFL || a[1] == unix.F_GETFD)
	case "write":
		return strings.HasSuffix(detail, "anon_inode:[eventfd]")
	case "ioctl":
		// A thread that waits there does so at a time of its own.
		return uint32(a[1]) == uint32(abi.OpHandSusp)
	case "fork":
		if c.nr == unix.SYS_CLONE3 { // for clone the filter has looked already
			var flags [8]byte
			err := readMem(int(n.Tid), a[0], flags[:])
			return err == nil && native.Uint64(flags[:])&unix.CLONE_THREAD != 0
		}
	}
	return false
}

// describe says what a call is about, without numbers that change from run to
// run.
func (s *supervisor) describe(n *notif, c countable) string {
	a, tid := n.Data.Args, int(n.Tid)
	path := func(addr uint64) string {
		p, err := readString(tid, addr, pathMax)
		if err != nil {
			return "?"
		}
		return p
	}
	switch c.args {
	case argFd:
		return s.describeFd(tid, int32(a[0]))
	case argPath:
		return path(a[0])
	case argPathAt:
		if p := path(a[1]); p != "" || a[1] == 0 {
			return p
		}
		return s.describeFd(tid, int32(a[0])) // AT_EMPTY_PATH
	case argPath2:
		return path(a[0]) + " " + path(a[1])
	case argPath2At:
		return path(a[1]) + " " + path(a[3])
	case argPoll:
		var fds []string
		for i := range min(a[1], 8) {
			var b [8]byte
			if err := readMem(tid, a[0]+8*i, b[:]); err != nil {
				break
			}
			fds = append(fds, s.describeFd(tid, int32(native.Uint32(b[:]))))
		}
		return strings.Join(fds, " ")
	case argSelect:
		return fmt.Sprintf("nfds=%d", a[0])
	case argWait:
		pid := int32(a[0])
		if pid > 0 {
			return fmt.Sprintf("pid options=%#x", a[2])
		}
		return fmt.Sprintf("%d options=%#x", pid, a[2])
	case argWaitid:
		return fmt.Sprintf("idtype=%d options=%#x", a[0], a[3])
	}
	return ""
}

func (s *supervisor) describeFd(tid int, fd int32) string {
	if s.fileOf(tid, fd) != nil {
		return fmt.Sprintf("fd=%d control file", fd)
	}
	link, err := os.Readlink(procFile(tid, fmt.Sprintf("fd/%d", fd)))
	if err != nil {
		return fmt.Sprintf("fd=%d", fd)
	}
	for _, kind := range []string{"pipe", "socket"} {
		if strings.HasPrefix(link, kind+":[") {
			link = kind
		}
	}
	return fmt.Sprintf("fd=%d %s", fd, link)
}
