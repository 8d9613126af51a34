//go:build linux && amd64

package ctrlsim

import (
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt/kernel/abi"
)

// ask is a checkpoint request as those see it who are asked: cr_chkpt_req_t of
// the module's cr_chkpt_req.c. Everything that changes in it and in what it is
// made of is under supervisor.mu.
type ask struct {
	r         *request
	requester int
	target    int
	scope     int32
	signal    int32
	dest      string

	procs     []*askedProc
	result    int64 // 0 or the first failure
	written   bool  // the context is, or never will be
	abandoned bool  // by the requester
	saved     int   // processes; valid when written
	omitted   int

	released chan struct{} // closed when written

	over func(result int64, saved, omitted int) // instead of completing r
}

// askedProc is a process in a request.
type askedProc struct {
	k     *ask
	pid   int
	ready bool // has a handler for the signal; if not it counts as saved
	omit  bool // is to be left out, whatever its other threads say
	saved bool // valid when k.written

	tasks    []*askedTask // those that are not through
	phase2   bool         // those that are not of phase 1 have been asked
	waiting  int          // threads that have left themselves out and wait for the others
	finished bool         // its last thread has come to its end of it
	parted   bool         // and has cleared up

	fd      int32 // that it has registered, or -1
	plantMu sync.Mutex
	planted int32 // that it has got from us, or -1
}

// askedTask is a thread in a request.
type askedTask struct {
	p         *askedProc
	tid       int
	stack     uint64 // changes by exec
	phase1    bool
	triggered bool // it is being asked
	discard   bool // the signal is not for it any more
	primed    bool // it finds the signal when it leaves the kernel
	step      int
}

// What a thread has come to. Each of the barriers of the module's cr_dump_self.c
// is open when all that it is for have come that far.
const (
	stepAsked    = iota
	stepAnswered // by HAND_CHKPT
	stepFrozen   // with both phases over
	stepDumped
	stepLeaving
)

// registration is what HAND_PHASE1 leaves.
type registration struct {
	f     *file
	fd    int32
	start uint64 // of the thread
}

// registrationOf is a thread's registration. The caller holds mu.
func (s *supervisor) registrationOf(tid int) (registration, bool) {
	reg, ok := s.registered[tid]
	return reg, ok && reg.start == statNumber(tid, statStart)
}

// newAsk finds out who is in scope and asks them. It is the part of do_chkpt_req
// of the module's cr_chkpt_req.c that comes after the checks.
func (s *supervisor) newAsk(r *request, requester int, dest string, a chkptArgs) (*ask, unix.Errno) {
	k := &ask{r: r, requester: requester, target: int(a.target), scope: a.scope, signal: a.signal,
		dest: dest, released: make(chan struct{})}
	target, err := targetOf(a, requester)
	if err != nil {
		return nil, unix.ESRCH
	}
	if errno := s.askScope(k, a.scope, target); errno != 0 {
		return nil, errno
	}
	return k, 0
}

// askScope adds everybody in a scope to a request and asks them.
func (s *supervisor) askScope(k *ask, scope int32, target int) unix.Errno {
	s.askMu.Lock()
	defer s.askMu.Unlock()
	first, unready, errno := s.add(k, scope, target)
	if errno != 0 {
		return errno
	}
	if s.sc.Restarted {
		s.hold(unready)
	}
	s.trigger(first)
	return 0
}

// add is build_req of the module's cr_chkpt_req.c: all or, with an error, nobody
// is added. It returns the threads that are to be asked first, and those
// processes that cannot be asked.
func (s *supervisor) add(k *ask, scope int32, target int) (first []*askedTask, unready []*askedProc, _ unix.Errno) {
	found := s.inScope(scope, target)
	if len(found) == 0 {
		return nil, nil, unix.ESRCH
	}
	var procs []*askedProc
	for _, st := range found {
		switch {
		case st.state == 'Z' || st.state == 'X':
			s.printk(k.r, "Skipped zombie process %d - a post-restart wait() will not find this process", st.pid)
			continue
		case unix.Kill(st.pid, 0) == unix.EPERM:
			s.printk(k.r, "Bad permissions to checkpoint task %d", st.pid)
			return nil, nil, unix.EPERM
		}
		p, errno := s.newAskedProc(k, st)
		if errno != 0 {
			return nil, nil, errno
		}
		if p != nil {
			procs = append(procs, p)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range procs {
		k.procs = append(k.procs, p)
		if !p.ready {
			unready = append(unready, p)
			s.unready[p.pid] = true
		}
		for _, t := range p.tasks {
			s.asked[t.tid] = t
		}
		first = append(first, s.firstPhase(p)...)
	}
	return first, unready, 0
}

// inScope are the processes in a scope, as far as they run under this
// supervisor, zombies included.
func (s *supervisor) inScope(scope int32, target int) []stat {
	all := allProcesses()
	ours := s.ours(all)
	tree := map[int]bool{target: true}
	if scope == abi.ScopeTree {
		addBelow(tree, all)
	}
	return slices.DeleteFunc(all, func(st stat) bool {
		in := tree[st.pid]
		switch scope {
		case abi.ScopePgrp:
			in = st.pgrp == target
		case abi.ScopeSess:
			in = st.session == target
		}
		return !in || !ours[st.pid]
	})
}

// ours are those that run under this supervisor, by pid.
func (s *supervisor) ours(all []stat) map[int]bool {
	ours := map[int]bool{s.main: true}
	for _, p := range s.procs.live() {
		ours[p.pid] = true
	}
	addBelow(ours, all)
	return ours
}

// newAskedProc is add_proc of the module's cr_chkpt_req.c. It gives nil if the
// process is in the request already or has just ended.
func (s *supervisor) newAskedProc(k *ask, st stat) (*askedProc, unix.Errno) {
	tids, err := tasks(st.pid)
	if err != nil {
		return nil, 0
	}
	status, err := readStatus(st.pid)
	if err != nil {
		return nil, 0
	}
	p := &askedProc{k: k, pid: st.pid, fd: -1, planted: -1}
	p.ready = status.handles()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, q := range k.procs {
		if q.pid == st.pid && (!q.ready || len(q.tasks) > 0 || q.waiting > 0) {
			return nil, 0
		}
	}
	if s.restarting(st.pid) || s.unready[st.pid] {
		return nil, unix.EBUSY
	}
	for _, tid := range tids {
		if ended(tid) {
			continue
		}
		if s.asked[tid] != nil {
			return nil, unix.EBUSY
		}
		t := &askedTask{p: p, tid: tid, stack: statNumber(tid, statStack)}
		if reg, ok := s.registrationOf(tid); ok {
			p.fd, t.phase1 = reg.fd, true
		}
		p.tasks = append(p.tasks, t)
	}
	if !p.ready {
		p.tasks = nil
	}
	return p, 0
}

// restarting says whether a process is in RSTRT_CHILD. The caller holds mu.
func (s *supervisor) restarting(pid int) bool {
	for _, f := range s.files {
		if f.req == nil || f.req.restart == nil || f.req.done {
			continue
		}
		for _, q := range f.req.restart.procs {
			if q.proc != nil && q.proc.pid == pid {
				return true
			}
		}
	}
	return false
}

// firstPhase are the threads of phase 1, or all if there are none. The caller
// holds mu.
func (s *supervisor) firstPhase(p *askedProc) []*askedTask {
	var first []*askedTask
	for _, t := range p.tasks {
		if t.phase1 {
			t.triggered = true
			first = append(first, t)
		}
	}
	if first == nil {
		return s.secondPhase(p)
	}
	return first
}

// secondPhase are the other ones.
func (s *supervisor) secondPhase(p *askedProc) []*askedTask {
	p.phase2 = true
	var second []*askedTask
	for _, t := range p.tasks {
		if !t.phase1 && !t.triggered {
			t.triggered = true
			second = append(second, t)
		}
	}
	return second
}

// trigger asks threads. When it returns none of them makes a step outside the
// kernel any more before it has handled the signal.
func (s *supervisor) trigger(tasks []*askedTask) {
	var primed sync.WaitGroup
	primed.Add(len(tasks)) // before the first of them waits
	for _, t := range tasks {
		s.wg.Go(func() {
			onThread(func() {
				done := sync.OnceFunc(primed.Done)
				defer done()
				s.askThread(t, func() { done(); primed.Wait() })
			})
		})
	}
	primed.Wait()
}

// askThread sends the signal to one thread. It calls primed when that is on its
// way, to wait for the others: nobody may have answered, or even have ended,
// before everybody is asked.
func (s *supervisor) askThread(t *askedTask, primed func()) {
	tr := &tracee{s, t.tid}
	defer s.setSignalled(t, false)
	err := func() error {
		if err := tr.seize(); err != nil {
			return err
		}
		if err := tr.interrupt(); err != nil {
			return err
		}
		// The module looks for the handler and sends the signal in one step. Here the
		// thread may have removed the handler in between, before an exec, and would die.
		// It is dropped, as it would be at the exec.
		if st, err := readStatus(t.tid); err != nil || !st.handles() {
			return errGone
		}
		if err := unix.Tgkill(t.p.pid, t.tid, unix.Signal(abi.Sig)); err != nil {
			return errGone
		}
		s.setSignalled(t, true)
		primed()
		if err := tr.waitFor(unix.PTRACE_CONT, trapStop); err != nil {
			return err
		}
		s.mu.Lock()
		discard := t.discard
		s.mu.Unlock()
		if discard {
			return tr.discard()
		}
		fd, err := s.descriptor(t.p, tr)
		if err != nil {
			return err
		}
		return tr.deliver(fd)
	}()
	switch err {
	case nil, errStopped:
	default:
		if tr.trouble(err) {
			s.problem("thread %d of process %d cannot be asked: %v", t.tid, t.p.pid, err)
		}
		s.mu.Lock()
		s.remove(t)
		s.mu.Unlock()
	}
}

func (s *supervisor) setSignalled(t *askedTask, yes bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if yes {
		t.primed = true
		s.signalled[t.tid] = true
	} else {
		delete(s.signalled, t.tid)
	}
	s.answered.wake()
}

// isSignalled says whether a thread would be interrupted by signal 64, even if
// it blocks that at the moment.
func (s *supervisor) isSignalled(tid int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.signalled[tid]
}

// descriptor is the one of the control file in a process. If it has none it
// gets one, from the first of its threads that has stopped.
func (s *supervisor) descriptor(p *askedProc, tr *tracee) (int32, error) {
	p.plantMu.Lock()
	defer p.plantMu.Unlock()
	if p.fd >= 0 {
		return p.fd, nil
	}
	if p.planted < 0 {
		fd, err := tr.call(unix.SYS_OPENAT, 0, 0, unix.O_WRONLY)
		if err != nil {
			return -1, err
		}
		if fd < 0 {
			return -1, unix.Errno(-fd)
		}
		p.planted = int32(fd)
	}
	return p.planted, nil
}

// advance takes a thread a step further. The caller holds mu.
func (s *supervisor) advance(t *askedTask, step int) {
	t.step = max(t.step, step)
	s.phase(t.p)
	s.answered.wake()
}

// phase asks the other threads of a process when those of phase 1 have answered.
func (s *supervisor) phase(p *askedProc) {
	if p.phase2 || p.k.abandoned || slices.ContainsFunc(p.tasks, func(t *askedTask) bool { return t.phase1 && t.step == stepAsked }) {
		return
	}
	if second := s.secondPhase(p); len(second) > 0 {
		s.wg.Go(func() { s.trigger(second) })
	}
}

// remove takes a thread out of its request. The caller holds mu.
func (s *supervisor) remove(t *askedTask) {
	p := t.p
	if s.asked[t.tid] != t {
		return
	}
	delete(s.asked, t.tid)
	p.tasks = slices.DeleteFunc(p.tasks, func(u *askedTask) bool { return u == t })
	if !p.finished && p.come(stepLeaving) { // nobody is left who could clear up
		p.finished, p.parted = true, true
	}
	s.phase(p)
	s.answered.wake()
}

// come says whether all threads of a process, or all others of them, have come
// to a step.
func (p *askedProc) come(step int) bool {
	return !slices.ContainsFunc(p.tasks, func(t *askedTask) bool { return t.step < step })
}

// come is the same for everybody in the request.
func (k *ask) come(step int) bool {
	return !slices.ContainsFunc(k.procs, func(p *askedProc) bool { return !p.come(step) })
}

// through says whether nobody is in the request any more.
func (k *ask) through() bool {
	return !slices.ContainsFunc(k.procs, func(p *askedProc) bool { return len(p.tasks) > 0 || p.waiting > 0 })
}

// pids are the processes in a request, the target first.
func (s *supervisor) pids(k *ask) []int {
	s.mu.Lock()
	defer s.mu.Unlock()
	var pids []int
	for _, p := range k.procs {
		pids = append(pids, p.pid)
	}
	slices.SortStableFunc(pids, func(a, b int) int {
		switch k.target {
		case a:
			return -1
		case b:
			return 1
		}
		return 0
	})
	return pids
}

// drive takes a request to its end: when everybody has answered dump writes the
// context, which takes at least as long as delay.
func (s *supervisor) drive(k *ask, delay time.Duration, dump func() (int64, bool)) {
	end := time.Now().Add(min(delay, 24*time.Hour))
	switch s.watch(k, true, func() bool { return k.come(stepDumped) && !time.Now().Before(end) }) {
	case watchStopped:
		s.announce(k, noAnswer, 0, 0)
		return
	case watchAbandoned:
		s.abandon(k)
	default:
		s.save(k, dump)
	}
	if s.watch(k, false, k.through) == watchStopped {
		s.announce(k, noAnswer, 0, 0)
		return
	}
	s.mu.Lock()
	result, saved, omitted := k.result, k.saved, k.omitted
	s.mu.Unlock()
	if result == 0 && saved == 0 {
		result = failed(unix.ESRCH)
	}
	s.announce(k, result, saved, omitted)
}

// announce ends a request for the requester; noAnswer is for one that is not
// over when the supervisor stops.
func (s *supervisor) announce(k *ask, result int64, saved, omitted int) {
	switch {
	case k.over != nil:
		k.over(result, saved, omitted)
		k.over = func(int64, int, int) {}
	case result == noAnswer:
	case s.sc.ChkptReap != nil && (result == 0 || saved == 0):
		s.complete(k.r, int64(*s.sc.ChkptReap))
	default:
		s.complete(k.r, result)
	}
}

// save writes the context, if there is anybody to be saved.
func (s *supervisor) save(k *ask, dump func() (int64, bool)) {
	s.mu.Lock()
	result, saved := k.result, 0
	for _, p := range k.procs {
		if p.saved = !p.omit && (len(p.tasks) > 0 || !p.ready); p.saved {
			saved++
		}
	}
	s.mu.Unlock()
	if result == 0 && saved > 0 {
		var ok bool
		if result, ok = dump(); !ok {
			result = failed(unix.EINTR)
		}
	}
	s.mu.Lock()
	if k.result == 0 {
		k.result = result
	}
	k.saved, k.written = saved, true
	s.release(k)
	result = k.result
	signal, omitted := k.signal, k.omitted
	own := false // the requester is saved itself
	var unready []int
	for _, p := range k.procs {
		if p.saved && !p.ready {
			unready = append(unready, p.pid)
		}
		own = own || p.saved && p.pid == k.requester
	}
	s.answered.wake()
	s.mu.Unlock()
	if result == 0 && !s.sc.Restarted {
		s.sendAll(unready, signal)
	}
	if result == 0 && s.sc.Restarted {
		// Before its children that it lost can end, one of them has to know.
		if own {
			result = -crERestarted
		} else if saved == 0 {
			result = failed(unix.ESRCH)
		}
		s.announce(k, result, saved, omitted)
	}
}

// release lets those go who cannot be asked. The caller holds mu.
func (s *supervisor) release(k *ask) {
	for _, p := range k.procs {
		if !p.ready {
			delete(s.unready, p.pid)
		}
	}
	close(k.released)
}

// abandon is for a request that nobody waits for any more: those who have
// answered go on, and those who have not yet need not wait.
func (s *supervisor) abandon(k *ask) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if k.result == 0 {
		k.result = failed(unix.EINTR)
	}
	k.abandoned, k.written = true, true
	s.release(k)
	for _, p := range k.procs {
		for _, t := range slices.Clone(p.tasks) {
			if !t.triggered {
				s.remove(t)
			}
		}
	}
	s.answered.wake()
}

// watchEnd says how watch has ended.
type watchEnd int

const (
	watchReady watchEnd = iota
	watchAbandoned
	watchStopped
)

// watchTick is how often the watchdog looks for threads that have ended.
const watchTick = 10 * time.Millisecond

// watch waits until ready, which is called with mu held. Meanwhile it is the
// module's watchdog.
func (s *supervisor) watch(k *ask, abandonable bool, ready func() bool) watchEnd {
	closed := k.r.f.closed
	if !abandonable {
		closed = nil
	}
	tick := time.NewTicker(watchTick)
	defer tick.Stop()
	for {
		s.mu.Lock()
		if ready() {
			s.mu.Unlock()
			return watchReady
		}
		changed := s.answered.wait()
		s.mu.Unlock()
		select {
		case <-changed:
		case <-closed:
			return watchAbandoned
		case <-s.stop:
			return watchStopped
		case <-tick.C:
			s.dropEnded(k)
		}
	}
}

// dropEnded takes those threads out of a request that have ended or have become
// another program by exec.
func (s *supervisor) dropEnded(k *ask) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range k.procs {
		for _, t := range slices.Clone(p.tasks) {
			if ended(t.tid) || statNumber(t.tid, statStack) != t.stack {
				s.remove(t)
			}
		}
	}
}
