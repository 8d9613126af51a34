//go:build linux && amd64

package ctrlsim

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt/kernel/abi"
)

// The header of a context file, struct cr_context_file_header of the module's
// cr_context.h: five ints.
const (
	contextVersion    = 9 // CR_CONTEXT_VERSION
	contextVersionMin = 8
	archX8664         = 5 // VMAD_ARCH_x86_64
	contextHeaderSize = 5 * 4
)

// payloadMark follows the header in our own contexts.
const payloadMark = "ctrlsim\n"

// paceChunk is after how many bytes chkpt-pace pauses.
const paceChunk = 64 << 10

type chkptArgs struct {
	target, scope, fd, secs, format, signal int32
	flags                                   uint32
}

func readChkptArgs(o *op) (a chkptArgs, err error) {
	var b [abi.SizeofChkptArgs]byte
	if err := o.read(o.arg, b[:]); err != nil {
		return a, err
	}
	u32 := func(off uintptr) uint32 { return native.Uint32(b[off:]) }
	var l abi.ChkptArgs
	return chkptArgs{
		target: int32(u32(unsafe.Offsetof(l.Target))),
		scope:  int32(u32(unsafe.Offsetof(l.Scope))),
		fd:     int32(u32(unsafe.Offsetof(l.Fd))),
		secs:   int32(u32(unsafe.Offsetof(l.Secs))),
		format: int32(u32(unsafe.Offsetof(l.DumpFormat))),
		signal: int32(u32(unsafe.Offsetof(l.Signal))),
		flags:  u32(unsafe.Offsetof(l.Flags)),
	}, nil
}

func decodeChkptReq(_ *supervisor, o *op) error {
	a, err := readChkptArgs(o)
	if err == nil {
		o.args = fmt.Sprintf("{target=%d scope=%d fd=%d secs=%d format=%d signal=%d flags=%#x}",
			a.target, a.scope, a.fd, uint32(a.secs), a.format, a.signal, a.flags)
	}
	return err
}

// chkptReq is do_chkpt_req of the module's cr_chkpt_req.c with CR_CHKPT_ASYNC_ERR:
// everything is checked here, and a failure is kept for the reap.
func (s *supervisor) chkptReq(o *op) int64 {
	a, err := readChkptArgs(o)
	if err != nil {
		return failed(unix.EFAULT)
	}
	requester, err := s.procs.of(o.tid())
	if err != nil {
		return failed(unix.ESRCH)
	}
	r := &request{f: o.f}
	if !s.newRequest(r, s.sc.ChkptLog) {
		return failed(unix.EAGAIN)
	}
	dest, targets, errno := s.chkptCheck(r, requester, a)
	var k *ask
	if errno == 0 && s.sc.Ask {
		name, _ := os.Readlink(procFile(requester.pid, fmt.Sprintf("fd/%d", a.fd)))
		k, errno = s.newAsk(r, requester.pid, name, a)
	}
	s.wg.Go(func() {
		if dest >= 0 {
			defer unix.Close(dest)
		}
		if k != nil {
			s.drive(k, s.sc.ChkptDelay, func() (int64, bool) { return s.dump(r, dest, a, s.pids(k)) })
			return
		}
		if !s.delay(r, s.sc.ChkptDelay) {
			return
		}
		if errno != 0 {
			s.complete(r, failed(errno))
			return
		}
		result, ok := s.dump(r, dest, a, targets)
		if !ok {
			return
		}
		if result == 0 {
			s.sendAll(targets, a.signal)
			if s.sc.ChkptReap != nil {
				result = int64(*s.sc.ChkptReap)
			}
		}
		s.complete(r, result)
	})
	return 0
}

// delay waits before a request goes on; false: it has been abandoned.
func (s *supervisor) delay(r *request, d time.Duration) bool {
	var timer <-chan time.Time
	switch d {
	case 0:
		return true
	case Never:
	default:
		t := time.NewTimer(d)
		defer t.Stop()
		timer = t.C
	}
	select {
	case <-timer:
		return true
	case <-r.f.closed:
	case <-s.stop:
	}
	return false
}

// chkptCheck opens the destination and finds the targets.
func (s *supervisor) chkptCheck(r *request, requester *process, a chkptArgs) (dest int, targets []int, errno unix.Errno) {
	dest = -1
	dest, errno = s.openLocation(r, requester, a.fd, true)
	if errno != 0 {
		s.printk(r, "Failed to initialize destination file descriptor")
		return dest, nil, errno
	}
	if s.sc.Ask {
		return dest, nil, 0
	}
	if s.sc.ChkptReap != nil { // the scenario knows better whether there are any
		targets, _ = s.findTargets(new(request), requester, a)
		// The number may have been made up, and be that of any process by now, which
		// must not get the request's signal.
		ours := s.ours(allProcesses())
		targets = slices.DeleteFunc(targets, func(pid int) bool { return !ours[pid] })
		return dest, targets, 0
	}
	targets, errno = s.findTargets(r, requester, a)
	return dest, targets, errno
}

// openLocation is cr_loc_init of the module's cr_dest_file.c: a copy of the
// requester's descriptor, if it is good for a context. A directory is left to
// the caller for a source, and no use for a destination.
func (s *supervisor) openLocation(r *request, requester *process, fd int32, write bool) (int, unix.Errno) {
	got, err := requester.open(int(fd))
	if err != nil {
		if !errors.Is(err, unix.EBADF) {
			s.problem("pidfd_getfd of descriptor %d: %v", fd, err)
		}
		s.printk(r, "invalid file descriptor %d received", fd)
		return -1, unix.EINVAL
	}
	if s.fileOf(os.Getpid(), int32(got)) != nil {
		unix.Close(got)
		s.printk(r, "file descriptor %d is the ctrl descriptor", fd)
		return -1, unix.EINVAL
	}
	var st unix.Stat_t
	flags, err := unix.FcntlInt(uintptr(got), unix.F_GETFL, 0)
	if err2 := unix.Fstat(got, &st); err != nil || err2 != nil {
		unix.Close(got)
		return -1, unix.EINVAL
	}
	mode := flags & unix.O_ACCMODE
	var errno unix.Errno
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG, unix.S_IFCHR, unix.S_IFIFO, unix.S_IFSOCK:
		switch {
		case st.Nlink > 1:
			errno = unix.EMLINK
		case st.Nlink == 0:
			errno = unix.EINVAL
		case write && mode == unix.O_RDONLY, !write && mode == unix.O_WRONLY:
			errno = unix.EBADF
		}
	case unix.S_IFDIR:
		if write {
			errno = unix.EISDIR
		}
	default:
		s.printk(r, "unsupported file type")
		errno = unix.EINVAL
	}
	if errno != 0 {
		unix.Close(got)
		return -1, errno
	}
	return got, 0
}

// findTargets are the processes in scope, without the requester, which leaves
// itself out. As nothing is saved here, a tree is its root.
func (s *supervisor) findTargets(r *request, requester *process, a chkptArgs) ([]int, unix.Errno) {
	target, err := targetOf(a, requester.pid)
	if err != nil {
		return nil, unix.ESRCH
	}
	var found []stat
	switch a.scope {
	case abi.ScopeProc, abi.ScopeTree:
		if st, err := readStat(target); err == nil {
			found = append(found, st)
		}
	default:
		for _, st := range allProcesses() {
			if a.scope == abi.ScopePgrp && st.pgrp == target || a.scope == abi.ScopeSess && st.session == target {
				found = append(found, st)
			}
		}
	}
	var pids []int
	for _, st := range found {
		switch {
		case st.state == 'Z' || st.state == 'X':
			s.printk(r, "Skipped zombie process %d - a post-restart wait() will not find this process", st.pid)
		case st.pid == requester.pid, st.pid == os.Getpid(): // nor the supervisor, or --kill ends the tests
		case errors.Is(unix.Kill(st.pid, 0), unix.EPERM):
			s.printk(r, "Bad permissions to checkpoint task %d", st.pid)
			return nil, unix.EPERM
		default:
			pids = append(pids, st.pid)
		}
	}
	if len(pids) == 0 {
		return nil, unix.ESRCH
	}
	return pids, 0
}

// targetOf is the target of a request of process self.
func targetOf(a chkptArgs, self int) (int, error) {
	if a.target != 0 {
		return int(a.target), nil
	}
	st, err := readStat(self)
	switch a.scope {
	case abi.ScopePgrp:
		return st.pgrp, err
	case abi.ScopeSess:
		return st.session, err
	}
	return st.pid, err
}

// late is a request's signal. A negative one is early: it comes before callbacks, of
// which there are none here.
func late(sig int32) int32 { return max(sig, -sig) }

// sendAll sends a request's signal.
func (s *supervisor) sendAll(pids []int, sig int32) {
	if sig = late(sig); sig == 0 {
		return
	}
	for _, pid := range pids {
		unix.Kill(pid, unix.Signal(sig))
	}
}

// dump writes the context; false: the request has been abandoned.
func (s *supervisor) dump(r *request, dest int, a chkptArgs, targets []int) (int64, bool) {
	size, result := s.sc.ChkptSize, int64(0)
	if s.sc.ChkptReap != nil && *s.sc.ChkptReap < 0 {
		result = int64(*s.sc.ChkptReap)
	} else if size == 0 {
		size = defaultChkptSize
	}
	w := s.newStream(r, dest)
	if err := s.dumpTo(w, a, targets, size); err != nil {
		var errno unix.Errno
		if !errors.As(err, &errno) {
			return 0, false
		}
		s.printk(r, "vfs_write returned %d", -int(errno))
		s.printk(r, "cr_freeze_threads failed (%d)", -int(errno))
		if result == 0 {
			result = failed(errno)
		}
	}
	return result, true
}

func (s *supervisor) dumpTo(w *stream, a chkptArgs, targets []int, size int64) error {
	var head []byte
	for _, v := range []int32{'C', 'R', contextVersion, a.scope, archX8664} {
		head = native.AppendUint32(head, uint32(v))
	}
	head = append(head, payloadMark...)
	payload := max(size-int64(len(head))-8, 0)
	head = native.AppendUint64(head, uint64(payload))
	if len(targets) > 0 {
		cmd, _ := os.ReadFile(procFile(targets[0], "cmdline"))
		head = append(head, bytes.ReplaceAll(bytes.TrimRight(cmd, "\x00"), []byte{0}, []byte{' '})...)
		head = append(head, '\n')
	}
	filler := bytes.Repeat([]byte{'.'}, paceChunk)
	for left := size; left > 0; {
		b := head
		if len(b) == 0 {
			b = filler
		}
		b = b[:min(int64(len(b)), left, paceChunk)]
		if err := w.write(b); err != nil {
			return err
		}
		if len(head) > 0 {
			head = head[len(b):]
		}
		left -= int64(len(b))
		if left > 0 && s.sc.ChkptPace > 0 && !s.delay(w.r, s.sc.ChkptPace) {
			return errAbandoned
		}
	}
	return nil
}

// errAbandoned ends work on a request that nobody waits for any more.
var errAbandoned = errors.New("request abandoned")

// stream reads and writes the requester's file as the module does: from its
// offset, with its O_NONBLOCK. A blocking file is never waited for in a system
// call, so that an abandoned request ends.
type stream struct {
	s       *supervisor
	r       *request
	fd      int
	wait    bool // pipes and such that block
	isSock  bool
	maximum int
}

func (s *supervisor) newStream(r *request, fd int) *stream {
	w := &stream{s: s, r: r, fd: fd, maximum: paceChunk}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return w // the next call fails, too
	}
	kind := st.Mode & unix.S_IFMT
	w.isSock = kind == unix.S_IFSOCK
	flags, _ := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if kind != unix.S_IFREG && kind != unix.S_IFDIR && flags&unix.O_NONBLOCK == 0 {
		w.wait = true
		w.maximum = 4096 // a writable pipe is sure to take that without blocking
	}
	return w
}

// How long a pipe or socket may be waited for at a time, in milliseconds.
const streamTick = 20

// ready waits for a file that blocks.
func (w *stream) ready(events int16) error {
	if !w.wait {
		return nil
	}
	fds := []unix.PollFd{{Fd: int32(w.fd), Events: events}}
	for {
		n, err := unix.Poll(fds, streamTick)
		switch {
		case err != nil && err != unix.EINTR:
			return err
		case n > 0:
			return nil
		}
		select {
		case <-w.r.f.closed:
			return errAbandoned
		case <-w.s.stop:
			return errAbandoned
		default:
		}
	}
}

// write writes all of b.
func (w *stream) write(b []byte) error {
	for len(b) > 0 {
		if err := w.ready(unix.POLLOUT); err != nil {
			return err
		}
		n, err := w.writeSome(b[:min(len(b), w.maximum)])
		switch {
		case err == unix.EINTR, err == unix.EAGAIN && w.wait:
		case err != nil:
			return err
		default:
			b = b[n:]
		}
	}
	return nil
}

func (w *stream) writeSome(b []byte) (int, error) {
	if w.isSock {
		return unix.SendmsgN(w.fd, b, nil, nil, unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT)
	}
	return unix.Write(w.fd, b)
}

// read fills b. It says how much there was, up to the end of the file.
func (w *stream) read(b []byte) (int, error) {
	got := 0
	for got < len(b) {
		if err := w.ready(unix.POLLIN); err != nil {
			return got, err
		}
		n, err := unix.Read(w.fd, b[got:])
		switch {
		case err == unix.EINTR:
		case err != nil:
			return got, err
		case n == 0:
			return got, nil
		default:
			got += n
		}
	}
	return got, nil
}
