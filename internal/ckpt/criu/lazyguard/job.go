package lazyguard

import (
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt/criu/memory"
	"blcr-cli/internal/ckpt/criu/pstree"
	"blcr-cli/internal/proc"
)

// job is what the guard knows of the job.
type job struct {
	root  int // 0 if it is not known yet
	end   int // a pidfd of it
	uffds []int
	sweep int // at how many of them those that are not needed are closed
}

// leastSwept is how many userfaultfds there are at least when that is done.
const leastSwept = 32

// keep adds userfaultfds. A job may make many processes, most of which end soon.
func (j *job) keep(uffds []int) {
	if len(j.uffds) >= max(j.sweep, leastSwept) {
		j.uffds = slices.DeleteFunc(j.uffds, func(uffd int) bool {
			gone := memory.Gone(uffd)
			if gone {
				unix.Close(uffd)
			}
			return gone
		})
		j.sweep = 2 * len(j.uffds)
	}
	j.uffds = append(j.uffds, uffds...)
}

// kill kills all processes whose memory is missing. It returns when their address spaces are
// gone: until then whoever needs a page has to wait for it.
func (j *job) kill() {
	if j.root != 0 && !ended(j.end) {
		pstree.Signal(j.root, int32(unix.SIGKILL))
	}
	// A process that cannot be found or killed now may be so later.
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		time.Sleep(pause)
		j.uffds = slices.DeleteFunc(j.uffds, memory.Gone)
		if len(j.uffds) == 0 {
			return
		}
		j.killOwners()
	}
}

// process is one whose memory may be that of a userfaultfd.
type process struct {
	pid, pidfd int
	mappings   []proc.Registered
}

// killOwners kills the processes that it finds whose memory is that of the userfaultfds: they
// need not descend from the job's root any more, nor does the kernel say whose it is. So each
// userfaultfd registers one of its mappings for write protection, and whose memory is
// registered so since then is looked for in all processes. That changes no page: some
// processes still run.
func (j *job) killOwners() {
	candidates := registered()
	for _, uffd := range j.uffds {
		mark(uffd, candidates)
	}
	for _, p := range candidates {
		if slices.ContainsFunc(proc.RegisteredMappings(p.pid), p.marked) {
			_ = unix.PidfdSendSignal(p.pidfd, unix.SIGKILL, nil, 0)
		}
		unix.Close(p.pidfd)
	}
}

// marked reports whether a mapping has been registered for write protection since. It may be
// a part of what it was.
func (p process) marked(now proc.Registered) bool {
	return now.WriteProtect && slices.ContainsFunc(p.mappings, func(before proc.Registered) bool {
		return !before.WriteProtect && before.Start < now.End && now.Start < before.End
	})
}

// registered returns all processes with memory that a userfaultfd is for.
func registered() (found []process) {
	all, err := proc.Programs()
	if err != nil {
		return nil
	}
	for pid := range all {
		// First, so that it is the process whose mappings are read.
		pidfd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			continue
		}
		mappings := proc.RegisteredMappings(pid)
		if len(mappings) == 0 {
			unix.Close(pidfd)
			continue
		}
		found = append(found, process{pid, pidfd, mappings})
	}
	return found
}

// mark registers a mapping of a userfaultfd's for write protection that is not yet.
func mark(uffd int, candidates []process) {
	for _, p := range candidates {
		for _, m := range p.mappings {
			if !m.WriteProtect && memory.RegisterWriteProtect(uffd, m.Start, m.End) == nil {
				return
			}
		}
	}
}
