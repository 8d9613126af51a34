//go:build linux && amd64

package ctrlsim

import (
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// A process that is to go on as if it had been restarted is the same process
// still. What is different for it: those children that were not saved with it
// are not there.

// lostChildren are these children of a saved process, when all have ended. It
// gives up when wanted does not hold any more.
func (s *supervisor) lostChildren(p *askedProc, wanted func() bool) ([]int, bool) {
	lost := s.notSaved(p)
	for _, pid := range lost {
		for !ended(pid) {
			if !wanted() || !s.sleep(blockTick) {
				return nil, false
			}
		}
	}
	return lost, true
}

func (s *supervisor) notSaved(p *askedProc) []int {
	s.mu.Lock()
	var saved []int
	for _, q := range p.k.procs {
		if q.saved {
			saved = append(saved, q.pid)
		}
	}
	s.mu.Unlock()
	return slices.DeleteFunc(children(p.pid), func(pid int) bool { return slices.Contains(saved, pid) })
}

// hold stops processes that cannot be asked until the context is written, and
// has those that are saved lose their children then. Otherwise they could see
// an end that they must not.
func (s *supervisor) hold(procs []*askedProc) {
	var held sync.WaitGroup
	for _, p := range procs {
		tids, _ := tasks(p.pid)
		cleared := make(chan struct{})
		for _, tid := range tids {
			held.Add(1)
			s.wg.Go(func() {
				onThread(func() {
					if tid == p.pid {
						defer close(cleared)
					}
					s.holdThread(p, tid, cleared, sync.OnceFunc(held.Done))
				})
			})
		}
	}
	held.Wait()
}

// holdThread calls held when the thread cannot go on. The first thread of a
// process does what is to be done for all, and they wait until cleared.
func (s *supervisor) holdThread(p *askedProc, tid int, cleared <-chan struct{}, held func()) {
	defer held()
	tr := &tracee{s, tid}
	if tr.seize() != nil || tr.interrupt() != nil {
		return
	}
	held()
	if tr.waitFor(unix.PTRACE_CONT, trapStop) != nil {
		return
	}
	select {
	case <-p.k.released:
	case <-s.stop:
		return
	}
	if tid != p.pid {
		select {
		case <-cleared:
			tr.detach(0)
		case <-s.stop:
		}
		return
	}
	s.mu.Lock()
	saved := p.k.result == 0 && p.saved
	s.mu.Unlock()
	var lost []int
	if saved {
		lost, _ = s.lostChildren(p, func() bool { return !ended(tid) })
	}
	tr.clearUp(-1, lost)
}
