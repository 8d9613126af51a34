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

// restore stops those saved processes that were not asked and have children to
// lose: they would see them end. It returns a function that makes them go on,
// without these children.
func (s *supervisor) restore(k *ask) func() {
	s.mu.Lock()
	procs := slices.DeleteFunc(slices.Clone(k.procs), func(p *askedProc) bool { return p.ready || !p.saved })
	s.mu.Unlock()
	release := make(chan struct{})
	var held sync.WaitGroup
	for _, p := range procs {
		if len(s.notSaved(p)) == 0 {
			continue
		}
		tids, _ := tasks(p.pid)
		cleared := make(chan struct{})
		for _, tid := range tids {
			held.Add(1)
			s.wg.Go(func() {
				onThread(func() {
					if tid == p.pid {
						defer close(cleared)
					}
					done := sync.OnceFunc(held.Done)
					defer done()
					tr := &tracee{s, tid}
					if tr.seize() != nil || tr.interrupt() != nil || tr.waitFor(unix.PTRACE_CONT, trapStop) != nil {
						return
					}
					done()
					select {
					case <-release:
					case <-s.stop:
						return
					}
					if tid != p.pid {
						<-cleared
						tr.detach(0)
						return
					}
					if lost, ok := s.lostChildren(p, func() bool { return !ended(tid) }); ok {
						tr.clearUp(-1, lost)
					}
				})
			})
		}
	}
	held.Wait()
	return sync.OnceFunc(func() { close(release) })
}
