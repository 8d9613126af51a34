//go:build linux && amd64

package ctrlsim

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt/kernel/abi"
)

// restart is what a restart request has on top of any request. Its fields are
// under supervisor.mu but for signal and requester, which do not change, and
// src.
type restart struct {
	srcMu     sync.Mutex // held while src is used
	src       int        // copy of the requester's source, -1 if there is none
	signal    int32
	requester *process

	procs    []*restored // those that RSTRT_PROCS has asked for
	over     bool        // RSTRT_PROCS gives 0 from now on
	released bool        // the threads in RSTRT_CHILD have got their answers
	payload  bool        // has been read
}

// restored is a process that RSTRT_PROCS has asked for.
type restored struct {
	index   int
	threads int
	job     Job

	proc  *process // nil until its first thread is in RSTRT_CHILD
	calls []*notif // its threads in RSTRT_CHILD
	ready bool     // all of them
}

type rstrtArgs struct {
	fd, signal int32
	relocate   uint64
	flags      uint32
}

func readRstrtArgs(o *op) (a rstrtArgs, err error) {
	// Field by field: an address of the program's in one of our pointers could
	// upset the garbage collector.
	var b [abi.SizeofRstrtArgs]byte
	if err := o.read(o.arg, b[:]); err != nil {
		return a, err
	}
	var l abi.RstrtArgs
	return rstrtArgs{
		fd:       int32(native.Uint32(b[unsafe.Offsetof(l.Fd):])),
		signal:   int32(native.Uint32(b[unsafe.Offsetof(l.Signal):])),
		relocate: native.Uint64(b[unsafe.Offsetof(l.Relocate):]),
		flags:    native.Uint32(b[unsafe.Offsetof(l.Flags):]),
	}, nil
}

func decodeRstrtReq(_ *supervisor, o *op) error {
	a, err := readRstrtArgs(o)
	if err != nil {
		return err
	}
	relocate, err := decodeRelocate(o, a.relocate)
	o.args = fmt.Sprintf("{fd=%d signal=%d relocate=%s flags=%#x}", a.fd, a.signal, relocate, a.flags)
	return err
}

// decodeRelocate is cr_read_reloc of the module's cr_relocate.c.
func decodeRelocate(o *op, addr uint64) (string, error) {
	if addr == 0 {
		return "0", nil
	}
	var head [4]byte
	if err := o.read(addr, head[:]); err != nil {
		return fmt.Sprintf("%#x", addr), unix.EFAULT
	}
	count := native.Uint32(head[:])
	if count > abi.MaxRelocate {
		return fmt.Sprintf("{count=%d}", count), unix.EINVAL
	}
	var pairs []string
	pair := addr + uint64(unsafe.Offsetof(abi.RstrtRelocate{}.Path))
	for range count {
		var b [abi.SizeofRelocatePair]byte
		if err := o.read(pair, b[:]); err != nil {
			return fmt.Sprintf("%#x", addr), unix.EFAULT
		}
		from, err1 := readString(o.tid(), native.Uint64(b[:]), pathMax)
		to, err2 := readString(o.tid(), native.Uint64(b[unsafe.Offsetof(abi.RelocatePair{}.NewPath):]), pathMax)
		if err1 != nil || err2 != nil {
			return fmt.Sprintf("%#x", addr), unix.EFAULT
		}
		pairs = append(pairs, from+"="+to)
		pair += uint64(abi.SizeofRelocatePair)
	}
	return "{" + strings.Join(pairs, " ") + "}", nil
}

// rstrtReq is do_rstrt_request_restart of the module's cr_rstrt_req.c.
func (s *supervisor) rstrtReq(o *op) int64 {
	a, err := readRstrtArgs(o)
	if err != nil {
		return failed(unix.EFAULT)
	}
	requester, err := s.procs.of(o.tid())
	if err != nil {
		return failed(unix.ESRCH)
	}
	rs := &restart{src: -1, signal: a.signal, requester: requester}
	r := &request{f: o.f, restart: rs}
	if !s.newRequest(r, s.sc.RstrtLog) {
		return failed(unix.EAGAIN)
	}
	s.wg.Go(func() { // frees the source
		select {
		case <-o.f.closed:
		case <-s.stop:
		}
		rs.srcMu.Lock()
		defer rs.srcMu.Unlock()
		if rs.src >= 0 {
			unix.Close(rs.src)
			rs.src = -1
		}
	})
	if res := s.rstrtCheck(r, requester, a); res != 0 {
		s.mu.Lock()
		rs.over = true
		s.mu.Unlock()
		s.complete(r, res)
	}
	return 0
}

// rstrtCheck opens the source and reads the context's header.
func (s *supervisor) rstrtCheck(r *request, requester *process, a rstrtArgs) int64 {
	src, errno := s.openLocation(r, requester, a.fd, false)
	if errno != 0 {
		s.printk(r, "failed to initialize source file descriptor")
		return failed(errno)
	}
	r.restart.srcMu.Lock()
	defer r.restart.srcMu.Unlock()
	r.restart.src = src
	var st unix.Stat_t
	if err := unix.Fstat(src, &st); err == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR {
		s.printk(r, "source descriptor must not be a directory")
		return failed(unix.EISDIR)
	}
	if s.sc.RstrtNoRead {
		return 0
	}
	head := make([]byte, contextHeaderSize)
	if res := s.readContext(r, head); res != 0 {
		s.printk(r, "failed to read file header")
		return res
	}
	field := func(i int) int32 { return int32(native.Uint32(head[4*i:])) }
	switch {
	case field(0) != 'C' || field(1) != 'R':
		s.printk(r, "file header has invalid signature")
		return failed(unix.EINVAL)
	case field(2) < contextVersionMin || field(2) > contextVersion:
		s.printk(r, "file header has incorrect/unsupported version")
		return failed(unix.EINVAL)
	case field(4) != archX8664:
		s.printk(r, "file header has incorrect architecture (%d, but expecting %d)", field(4), archX8664)
		return -crEBadArch
	}
	return 0
}

// readContext is cr_kread of the module's cr_io.c: all of b or an error. The
// caller holds srcMu.
func (s *supervisor) readContext(r *request, b []byte) int64 {
	n, err := s.newStream(r, r.restart.src).read(b)
	if err == nil && n == len(b) {
		return 0
	}
	errno := unix.EIO
	if err != nil && !errors.As(err, &errno) {
		return failed(unix.EINTR) // abandoned
	}
	if err != nil {
		s.printk(r, "vfs_read returned %d", -int(errno))
	} else {
		s.printk(r, "vfs_read returned 0")
	}
	return failed(errno)
}

// readPayload reads the rest of a context of ours. The module's children do
// that, so it happens when the first of them is complete.
func (s *supervisor) readPayload(r *request) int64 {
	if s.sc.RstrtNoRead {
		return 0
	}
	r.restart.srcMu.Lock()
	defer r.restart.srcMu.Unlock()
	mark := make([]byte, len(payloadMark)+8)
	n, err := s.newStream(r, r.restart.src).read(mark[:len(payloadMark)])
	if err != nil || n == 0 || n == len(payloadMark) && string(mark[:n]) != payloadMark {
		return 0 // somebody else's context
	}
	res := int64(0)
	if n == len(payloadMark) {
		res = s.readContext(r, mark[n:])
	} else {
		s.printk(r, "vfs_read returned 0")
		res = failed(unix.EIO)
	}
	buf := make([]byte, paceChunk)
	for left := native.Uint64(mark[len(payloadMark):]); res == 0 && left > 0; {
		part := buf[:min(left, uint64(len(buf)))]
		res = s.readContext(r, part)
		left -= uint64(len(part))
	}
	if res != 0 {
		s.printk(r, "thaw_threads returned error, aborting. %d", res)
	}
	return res
}

// rstrtProcs is do_rstrt_procs of the module's cr_rstrt_req.c. It waits until
// the process that it asked for last is complete.
func (s *supervisor) rstrtProcs(o *op) int64 {
	r := s.requestOf(o)
	if r == nil {
		return failed(unix.EINVAL)
	}
	nth := s.count("rstrt-procs")
	if d := s.sc.procsBlock(nth); d > 0 {
		switch s.block(o.n, o.f, nil, d, nil) {
		case blockGone, blockClosed:
			return noAnswer
		case blockInterrupted:
			return failed(unix.EINTR)
		}
	}
	rs := r.restart
	end := s.block(o.n, o.f, &r.change, 0, func() bool {
		return rs.over || len(rs.procs) == 0 || rs.procs[len(rs.procs)-1].ready
	})
	switch end {
	case blockGone, blockClosed:
		return noAnswer
	case blockInterrupted:
		return failed(unix.EINTR)
	}
	if res, ok := s.sc.answer("rstrt-procs", nth); ok {
		if res < 0 {
			s.failRestart(r, int64(res))
		}
		return int64(res)
	}

	s.mu.Lock()
	want := s.sc.procs()
	switch i := len(rs.procs); {
	case rs.over:
		s.mu.Unlock()
		return 0
	case i == len(want):
		rs.over = true
		s.mu.Unlock()
		s.wg.Go(func() { s.runJobs(r) })
		return 0
	default:
		rs.procs = append(rs.procs, &restored{index: i, threads: want[i], job: s.sc.job(i)})
		s.mu.Unlock()
		var b [abi.SizeofProcsTbl]byte
		native.PutUint32(b[unsafe.Offsetof(abi.ProcsTbl{}.Threads):], uint32(want[i]))
		native.PutUint32(b[unsafe.Offsetof(abi.ProcsTbl{}.CloneFlags):], uint32(s.sc.cloneFlags()))
		if err := o.write(o.arg, b[:]); err != nil {
			return failed(unix.EFAULT)
		}
		o.more = fmt.Sprintf(" {threads=%d clone_flags=%#x}", want[i], s.sc.cloneFlags())
		return 1
	}
}

// rstrtChild takes a thread in. It is answered when its process goes on as its
// job or when the restart fails.
func (s *supervisor) rstrtChild(o *op) int64 {
	r := s.requestOf(o)
	if r == nil {
		return failed(unix.EINVAL)
	}
	proc, err := s.procs.of(o.tid())
	if err != nil {
		return noAnswer
	}
	rs := r.restart

	// From here on it cannot be asked any more.
	s.askMu.Lock()
	s.mu.Lock()
	s.askMu.Unlock()
	if rs.over {
		s.mu.Unlock()
		return failed(unix.EINVAL)
	}
	var p *restored
	for _, q := range rs.procs {
		if q.proc == proc {
			p = q
			break
		}
		if q.proc == nil && p == nil {
			p = q
		}
	}
	if p == nil || p.ready {
		s.mu.Unlock()
		s.problem("RSTRT_CHILD of a process or thread that RSTRT_PROCS has not asked for")
		return failed(unix.EINVAL)
	}
	if p.proc == nil {
		p.proc = proc
		s.wg.Go(func() { s.watchRestored(r, p) })
	}
	t := s.asking(o.tid())
	s.mu.Unlock()
	if t != nil && !s.omitRestored(o.n, t) {
		return noAnswer
	}

	res, isForced := s.sc.answer("rstrt-child", p.index+1)
	if !isForced && s.sc.RstrtReap != nil && *s.sc.RstrtReap < 0 {
		res = *s.sc.RstrtReap
	}
	if res < 0 {
		s.logOp(o, resultString(int64(res)))
	} else {
		s.logOp(o, "")
	}
	// Only now: the line of the next RSTRT_PROCS comes behind those of all threads.
	s.mu.Lock()
	if rs.over {
		s.mu.Unlock()
		return failed(unix.EINVAL)
	}
	p.calls = append(p.calls, o.n)
	complete := len(p.calls) == p.threads
	first := !rs.payload
	if complete {
		rs.payload = true
	}
	s.mu.Unlock()
	if !complete {
		return noAnswer
	}
	if ids, err := tasks(proc.pid); err == nil && len(ids) != p.threads {
		s.problem("restarted process %d has %d threads instead of %d", p.index+1, len(ids), p.threads)
		s.failRestart(r, failed(unix.EINVAL))
		return noAnswer
	}
	result := int64(res)
	if result == 0 && first {
		result = s.readPayload(r)
	}
	if result < 0 {
		s.failRestart(r, result)
		return noAnswer
	}
	s.mu.Lock()
	p.ready = true
	r.change.wake()
	s.mu.Unlock()
	return noAnswer
}

// watchRestored fails the restart if a process dies in the middle of it.
func (s *supervisor) watchRestored(r *request, p *restored) {
	for {
		s.mu.Lock()
		released := r.restart.released
		s.mu.Unlock()
		if released || s.stopped() {
			return
		}
		if !p.proc.alive() {
			s.printk(r, "rstrt_watchdog: restarted process %d exited during restart", p.index+1)
			s.failRestart(r, failed(unix.ESRCH))
			return
		}
		s.sleep(blockTick)
	}
}

// failRestart ends the restart: all threads get the error, and the request is
// complete with it unless the scenario has another result.
func (s *supervisor) failRestart(r *request, res int64) {
	rs := r.restart
	s.mu.Lock()
	if rs.released {
		s.mu.Unlock()
		return
	}
	rs.over, rs.released = true, true
	var calls []*notif
	for _, p := range rs.procs {
		calls = append(calls, p.calls...)
	}
	s.mu.Unlock()
	for _, n := range calls {
		s.l.answer(n, 0, int(-res))
	}
	if s.sc.RstrtReap != nil {
		res = int64(*s.sc.RstrtReap)
	}
	s.complete(r, res)
}

// runJobs makes all processes go on, and completes the request.
func (s *supervisor) runJobs(r *request) {
	rs := r.restart
	if !s.delay(r, s.sc.RstrtDelay) {
		return
	}
	s.mu.Lock()
	if rs.released {
		s.mu.Unlock()
		return
	}
	rs.released = true
	procs := slices.Clone(rs.procs)
	s.mu.Unlock()

	result := int64(0)
	if len(procs) > 0 {
		result = int64(procs[0].proc.pid)
	}
	isPid := len(procs) > 0 && s.sc.RstrtReap == nil
	for _, p := range procs {
		if err := s.becomeJob(r, p); err != nil {
			s.problem("restarted process %d cannot go on as its job: %v", p.index+1, err)
			for _, n := range p.calls {
				s.l.answer(n, 0, int(unix.EIO))
			}
			result, isPid = failed(unix.EIO), false
		}
	}
	if s.sc.RstrtReap != nil {
		result = int64(*s.sc.RstrtReap)
	}
	s.mu.Lock()
	r.isPid = isPid
	s.mu.Unlock()
	s.complete(r, result)
}

// becomeJob makes one process go on as its job, and waits until it has done so:
// whoever is told that the job runs may look at its name.
func (s *supervisor) becomeJob(r *request, p *restored) error {
	pid := p.proc.pid
	prog, err := newProgram(p.job, pid)
	if err != nil {
		return err
	}
	prog.signal = int(late(r.restart.signal))
	prog.closeFds = s.descriptorsOf(r, pid, prog.path == "")
	if err := sharesMemory(r.restart.requester.pid, pid); err != nil {
		return err
	}
	if err := prog.inject(s.l, pid, p.calls); err != nil {
		return err
	}
	before, _ := os.Readlink(procFile(pid, "exe"))
	s.plan.markJob(p.proc)
	resumed := make(chan error, 1)
	go onThread(func() { resumed <- s.resumeRestored(pid, p.calls) })
	if err := <-resumed; err != nil {
		return err
	}
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		if !p.proc.alive() {
			return nil
		}
		st, err := readStat(pid)
		if err != nil || st.state == 'Z' || st.state == 'X' || st.state == 'T' {
			return nil
		}
		if exe, err := os.Readlink(procFile(pid, "exe")); err != nil || exe != before {
			return nil
		}
		time.Sleep(100 * time.Microsecond)
	}
	s.problem("restarted process %d does not go on as its job", p.index+1)
	return nil
}

// resumeRestored answers all threads of a restarted process. Each stops when it
// leaves the kernel, and its %fs is looked at.
//
// The module sets the base of %fs while a thread is in RSTRT_CHILD, and reads on.
// If the thread has a selector in %fs, the next context switch reloads it and
// loses that base: the process dies of SIGSEGV. Linux before 4.7 sets a selector
// for every base below 4 GiB.
func (s *supervisor) resumeRestored(pid int, calls []*notif) error {
	var threads []*tracee
	for _, n := range calls {
		t := &tracee{s, int(n.Tid)}
		if s.isSignalled(t.tid) {
			continue // traced by omitRestored's request until it has left the kernel
		}
		err := t.seize()
		if err == nil {
			err = t.interrupt()
		}
		if err != nil {
			return ignoreGone(err)
		}
		threads = append(threads, t)
	}
	for _, n := range calls {
		val := int64(answerOther)
		if int(n.Tid) == pid {
			val = answerLeader
		}
		if err := s.l.answer(n, val, 0); err != nil && !errors.Is(err, unix.ENOENT) {
			return err
		}
	}
	for _, t := range threads {
		if err := t.waitFor(unix.PTRACE_CONT, trapStop); err != nil {
			return ignoreGone(err)
		}
		var regs unix.PtraceRegs
		if err := t.ptraceAt(unix.PTRACE_GETREGS, 0, unsafe.Pointer(&regs)); err != nil {
			return ignoreGone(err)
		}
		if regs.Fs != 0 || regs.Fs_base < 1<<32 {
			_ = unix.Kill(pid, unix.SIGKILL)
			return fmt.Errorf("thread %d has selector %#x and base %#x in %%fs: the base is lost on the module", t.tid, regs.Fs, regs.Fs_base)
		}
	}
	for _, t := range threads {
		// One that has gone was ended by the exec of another one.
		if err := ignoreGone(t.detach(0)); err != nil {
			return err
		}
	}
	return nil
}

// ignoreGone is err, unless that says that a thread has ended or the supervisor
// stops.
func ignoreGone(err error) error {
	if errors.Is(err, errGone) || errors.Is(err, errStopped) {
		return nil
	}
	return err
}

// descriptorsOf are those of a restarted process that the module closes: the
// control file and the context and, where no exec does it, all that are
// close-on-exec.
func (s *supervisor) descriptorsOf(r *request, pid int, cloexec bool) []int {
	fds, err := descriptors(pid)
	if err != nil {
		return nil
	}
	r.restart.srcMu.Lock()
	defer r.restart.srcMu.Unlock()
	self := os.Getpid()
	var list []int
	for _, fd := range fds {
		f := s.fileOf(pid, int32(fd))
		switch {
		case f == r.f, f != nil && f.planted,
			r.restart.src >= 0 && sameFile(self, r.restart.src, pid, fd),
			cloexec && closeOnExec(pid, fd):
			list = append(list, fd)
		}
	}
	return list
}

// The types of kcmp(2), <linux/kcmp.h>.
const (
	kcmpFile = 0
	kcmpVM   = 1
)

// sameFile says whether two descriptors are of the same open file.
func sameFile(pid1, fd1, pid2, fd2 int) bool {
	r, _, errno := unix.Syscall6(unix.SYS_KCMP, uintptr(pid1), uintptr(pid2), kcmpFile, uintptr(fd1), uintptr(fd2), 0)
	return errno == 0 && r == 0
}

// sharesMemory is an error if the processes have one address space. What is put
// into the child's text would be in the requester's as well then.
func sharesMemory(requester, child int) error {
	r, _, errno := unix.Syscall6(unix.SYS_KCMP, uintptr(requester), uintptr(child), kcmpVM, 0, 0, 0)
	if errno == 0 && r == 0 {
		return errors.New("it shares its memory with the requester: fork, not vfork")
	}
	return nil
}
