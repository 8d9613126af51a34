//go:build linux && amd64

package ctrlsim

import (
	"fmt"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt/kernel/abi"
)

// The operations by which those who are asked answer.

// whose adds to the line of an operation who has made it.
func (o *op) whose(s *supervisor) {
	if p, err := s.procs.of(o.tid()); err == nil {
		if st, err := readStat(p.pid); err == nil {
			o.more = fmt.Sprintf(" (%s)", st.comm)
		}
	}
}

// taskOf is the caller's part in a request, nil if it has none.
func (s *supervisor) taskOf(o *op) *askedTask {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asking(o.tid())
}

// asking is the part of a thread in a request, if it has not come to its end of
// it. The caller holds mu.
func (s *supervisor) asking(tid int) *askedTask {
	if t := s.asked[tid]; t != nil && t.step != stepLeaving {
		return t
	}
	return nil
}

// await waits until ready, which is called with mu held. It is not interrupted
// by anything; false: the caller has ended.
func (s *supervisor) await(n *notif, ready func() bool) bool {
	tick := time.NewTicker(blockTick)
	defer tick.Stop()
	for {
		s.mu.Lock()
		if ready() {
			s.mu.Unlock()
			return true
		}
		changed := s.answered.wait()
		s.mu.Unlock()
		select {
		case <-changed:
		case <-s.stop:
			return false
		case <-tick.C:
			if !s.l.valid(n) {
				return false
			}
		}
	}
}

// register is cr_phase1_register of the module's cr_async.c.
func (s *supervisor) register(o *op) int64 {
	if !s.sc.Ask {
		return 0
	}
	s.askMu.Lock()
	defer s.askMu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.asking(o.tid()) != nil {
		return failed(unix.EAGAIN)
	}
	if _, ok := s.registrationOf(o.tid()); ok {
		return failed(unix.EEXIST)
	}
	s.registered[o.tid()] = registration{f: o.f, fd: int32(o.arg), start: statNumber(o.tid(), statStart)}
	return 0
}

// suspend is do_suspend of the module's cr_async.c, without a limit: it blocks
// until the thread is asked. If nobody is asked that never happens.
func (s *supervisor) suspend(o *op) int64 {
	var asked func() bool
	if s.sc.Ask {
		asked = func() bool {
			t := s.asking(o.tid())
			return t != nil && t.primed
		}
		s.mu.Lock()
		_, ok := s.registrationOf(o.tid())
		ok = ok || s.asking(o.tid()) != nil
		s.mu.Unlock()
		if !ok {
			return failed(unix.EINVAL)
		}
	}
	s.logOp(o, "")
	switch s.block(o.n, o.f, &s.answered, 0, asked) {
	case blockInterrupted:
		return failed(unix.EINTR)
	case blockClosed:
		// As a rule because the process is ending. Then nothing returns.
		for range 20 {
			if !s.l.valid(o.n) || !s.sleep(blockTick) {
				return noAnswer
			}
		}
		return failed(unix.EINTR)
	case blockReady:
		return 0
	}
	return noAnswer
}

// handChkpt is cr_dump_self of the module's file of that name, for a caller without
// callbacks.
func (s *supervisor) handChkpt(o *op) int64 {
	if !s.sc.Ask {
		return 0
	}
	t := s.taskOf(o)
	if t == nil {
		return failed(unix.ESRCH)
	}
	p, k := t.p, t.p.k
	s.mu.Lock()
	omit, failedAlready := p.omit, k.result != 0
	switch {
	case omit:
	case failedAlready:
		s.advance(t, stepDumped)
	default:
		s.advance(t, stepAnswered)
	}
	s.mu.Unlock()
	if omit {
		return s.omit(o, t)
	}
	if !failedAlready {
		if !s.await(o.n, func() bool { return p.phase2 || k.abandoned }) {
			return noAnswer
		}
		s.mu.Lock()
		s.advance(t, stepFrozen)
		s.mu.Unlock()
		if !s.await(o.n, func() bool { return p.come(stepFrozen) || k.abandoned }) {
			return noAnswer
		}
		s.mu.Lock()
		if omit = p.omit; !omit {
			s.advance(t, stepDumped)
		}
		s.mu.Unlock()
		if omit {
			return s.omit(o, t)
		}
	}
	if !s.await(o.n, func() bool { return k.written }) {
		return noAnswer
	}
	s.mu.Lock()
	result := k.result
	s.mu.Unlock()
	if result == 0 && s.sc.Restarted {
		result = 1
	}
	return s.leave(o, t, result)
}

// handAbort is cr_chkpt_abort of the module's cr_chkpt_req.c, of a process that
// leaves itself out.
func (s *supervisor) handAbort(o *op) int64 {
	if !s.sc.Ask {
		return 0
	}
	t := s.taskOf(o)
	if t == nil {
		return failed(unix.ESRCH)
	}
	if o.arg != abi.CheckpointOmit {
		s.problem("HAND_ABORT %#x: the simulator knows only how to omit", o.arg)
		return failed(unix.EINVAL)
	}
	return s.omit(o, t)
}

// omit leaves the caller's process out, and waits for its other threads.
func (s *supervisor) omit(o *op, t *askedTask) int64 {
	p := t.p
	s.mu.Lock()
	if !p.omit {
		p.omit = true
		p.k.omitted++
	}
	p.waiting++
	s.mu.Unlock()
	res := s.depart(o, t, -crEOmitted)
	over := func() bool { return p.come(stepFrozen) || p.k.abandoned }
	if res != noAnswer {
		s.await(o.n, over)
	}
	s.mu.Lock()
	answered := res != noAnswer && over()
	s.mu.Unlock()
	if answered {
		s.finish(o, res) // its other threads may have ended the process by now
	}
	s.mu.Lock()
	p.waiting--
	s.answered.wake()
	s.mu.Unlock()
	return noAnswer
}

// omitRestored does the same for a thread that comes into RSTRT_CHILD, as
// lookup_task of the module's cr_rstrt_req.c does: it never handles the signal,
// and what was put into its process is closed with the rest when that becomes a
// job. False: the caller has ended.
func (s *supervisor) omitRestored(n *notif, t *askedTask) bool {
	p := t.p
	s.mu.Lock()
	if !p.omit {
		p.omit = true
		p.k.omitted++
	}
	t.discard = true
	s.remove(t)
	p.waiting++
	s.mu.Unlock()
	ok := s.await(n, func() bool { return p.come(stepFrozen) || p.k.abandoned })
	s.mu.Lock()
	p.waiting--
	s.answered.wake()
	s.mu.Unlock()
	return ok
}

// depart takes a thread out of the request at once. If it is the last of its
// process it does what is left to do there, and gives its own answer.
func (s *supervisor) depart(o *op, t *askedTask, res int64) int64 {
	s.mu.Lock()
	last := len(t.p.tasks) == 1
	if last {
		t.p.finished = true
		s.advance(t, stepLeaving)
	} else {
		s.remove(t)
	}
	s.mu.Unlock()
	if last {
		return s.part(o, t, res)
	}
	return res
}

// leave is cr_chkpt_task_complete of the module's cr_chkpt_req.c: the last
// thread of a process clears up and the others wait for that. It answers before
// the thread is out of the request, so that the request's end comes after that
// in the transcript.
func (s *supervisor) leave(o *op, t *askedTask, res int64) int64 {
	s.mu.Lock()
	s.advance(t, stepLeaving)
	last := t.p.come(stepLeaving) && !t.p.finished
	if last {
		t.p.finished = true
	}
	s.mu.Unlock()
	if last {
		return s.part(o, t, res)
	}
	ok := s.await(o.n, func() bool { return t.p.parted || s.asked[t.tid] != t || t.p.k.abandoned })
	if ok {
		s.finish(o, res)
	}
	s.mu.Lock()
	s.remove(t)
	s.mu.Unlock()
	return noAnswer
}

// part is what the last thread of a process does: it raises the request's
// signal, and the descriptor that we have planted is closed by it. After a
// restart its process finds nothing of those children that were not saved.
func (s *supervisor) part(o *op, t *askedTask, res int64) int64 {
	p, k := t.p, t.p.k
	defer func() {
		s.mu.Lock()
		p.parted = true
		s.remove(t)
		s.mu.Unlock()
	}()
	p.plantMu.Lock()
	planted := p.planted
	p.planted = -1
	p.plantMu.Unlock()

	s.mu.Lock()
	signal := late(k.signal)
	saved := k.result == 0 && k.written && p.saved && !p.omit
	s.mu.Unlock()
	var lost []int
	if saved && s.sc.Restarted {
		signal = 0
		var ok bool
		if lost, ok = s.lostChildren(p, func() bool { return s.l.valid(o.n) }); !ok {
			return noAnswer
		}
	}
	if signal > 0 && saved {
		unix.Kill(p.pid, unix.Signal(signal))
	}
	if planted < 0 && len(lost) == 0 {
		s.finish(o, res)
		return noAnswer
	}
	done := make(chan struct{})
	s.wg.Go(func() {
		defer close(done)
		onThread(func() {
			tr := &tracee{s, t.tid}
			err := tr.seize()
			if err == nil {
				err = tr.interrupt()
			}
			s.finish(o, res) // it goes no further than to the border
			if err == nil {
				err = tr.waitFor(unix.PTRACE_CONT, trapStop)
			}
			if err == nil {
				err = tr.clearUp(planted, lost)
			}
			if tr.trouble(err) {
				s.problem("process %d cannot be cleared up: %v", p.pid, err)
			}
		})
	})
	<-done
	return noAnswer
}

// clearUp closes a descriptor and reaps children in the stopped thread, and
// lets go of it.
func (t *tracee) clearUp(fd int32, children []int) error {
	if fd >= 0 {
		if _, err := t.call(unix.SYS_CLOSE, uint64(fd)); err != nil {
			return err
		}
	}
	for _, pid := range children {
		if _, err := t.call(unix.SYS_WAIT4, uint64(pid), 0, unix.WNOHANG|unix.WALL, 0); err != nil {
			return err
		}
	}
	return t.detach(0)
}

// handChkptInfo is about the request that the caller is asked by.
func (s *supervisor) handChkptInfo(o *op) int64 {
	t := s.taskOf(o)
	if t == nil {
		return failed(unix.ESRCH)
	}
	s.mu.Lock()
	k, signal := t.p.k, t.p.k.signal
	s.mu.Unlock()
	var b [abi.SizeofChkptInfo]byte
	if err := o.read(o.arg, b[:]); err != nil {
		return failed(unix.EFAULT)
	}
	var l abi.ChkptInfo
	dest := native.Uint64(b[unsafe.Offsetof(l.Dest):])
	native.PutUint32(b[unsafe.Offsetof(l.Requester):], uint32(k.requester))
	native.PutUint32(b[unsafe.Offsetof(l.Target):], uint32(k.target))
	native.PutUint32(b[unsafe.Offsetof(l.Scope):], uint32(k.scope))
	native.PutUint32(b[unsafe.Offsetof(l.Signal):], uint32(signal))
	if o.write(dest, append([]byte(k.dest), 0)) != nil || o.write(o.arg, b[:]) != nil {
		return failed(unix.EFAULT)
	}
	o.more = fmt.Sprintf(" {requester=%d target=%d scope=%d signal=%d dest=%q}%s",
		k.requester, k.target, k.scope, signal, k.dest, o.more)
	return 0
}

type fwdArgs struct{ target, scope int32 }

func readFwdArgs(o *op) (a fwdArgs, err error) {
	var b [abi.SizeofFwdArgs]byte
	if err := o.read(o.arg, b[:]); err != nil {
		return a, err
	}
	return fwdArgs{
		target: int32(native.Uint32(b[unsafe.Offsetof(abi.FwdArgs{}.Target):])),
		scope:  int32(native.Uint32(b[unsafe.Offsetof(abi.FwdArgs{}.Scope):])),
	}, nil
}

func decodeFwd(_ *supervisor, o *op) error {
	a, err := readFwdArgs(o)
	if err == nil {
		o.args = fmt.Sprintf("{target=%d scope=%d}", a.target, a.scope)
	}
	return err
}

// forward is do_chkpt_fwd of the module's cr_chkpt_req.c.
func (s *supervisor) forward(o *op) int64 {
	if !s.sc.Ask {
		return 0
	}
	a, err := readFwdArgs(o)
	if err != nil {
		return failed(unix.EFAULT)
	}
	t := s.taskOf(o)
	if t == nil {
		return failed(unix.ESRCH)
	}
	target, err := targetOf(chkptArgs{target: a.target, scope: a.scope}, t.p.pid)
	if err != nil {
		return failed(unix.ESRCH)
	}
	return failed(s.askScope(t.p.k, a.scope, target))
}
