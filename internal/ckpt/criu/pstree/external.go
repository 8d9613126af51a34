package pstree

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/proc"
	"blcr-cli/internal/show"
)

// pipeEnds is which ends of a pipe are open.
type pipeEnds struct {
	read, write bool
	pid, fd     int // one of the descriptors
}

// add adds what a descriptor of a process has open.
func (e pipeEnds) add(pid int, d proc.Descriptor) pipeEnds {
	return pipeEnds{e.read || d.Readable, e.write || d.Writable, pid, d.FD}
}

// reaches reports whether other has the end of a pipe that is missing in e.
func (e pipeEnds) reaches(other pipeEnds) bool {
	return e.read && other.write || e.write && other.read
}

// outside is a look at the pipes of processes that are not in the tree, where one is
// needed: the kernel tells whether the other end of a pipe is open, and not who has it.
type outside struct {
	done     chan struct{} // closed when the rest is valid; nil where no look is needed
	ends     map[uint64]pipeEnds
	complete bool // it has looked at every process
}

// LookOutside begins to look for the pipes of processes outside of the tree, if there
// is a need to, in the background: it takes long where there are many descriptors.
// ExternalPipes has to know it.
//
// What only this process, or the command that waits for it, has the other end of
// counts as closed: these end with the request. Such are a pipe to the process of
// the tree that waits for the checkpoint, and any pipe that was inherited. A pipe that is
// on its way between processes of the tree is not outside either.
func (t *Tree) LookOutside() {
	o := &outside{}
	t.outside = o
	pid, parent := os.Getpid(), os.Getppid()
	if proc.Executable(parent) != proc.Executable(pid) { // it does not wait for this one
		parent = pid
	}
	ours := make(map[uint64]pipeEnds)
	var wanted map[uint64]pipeEnds // nil for all
	if addPipes(pid, ours) == nil && addPipes(parent, ours) == nil && !t.passes {
		wanted = make(map[uint64]pipeEnds)
		for inode := range ours {
			if e := t.pipes[inode]; e.read != e.write {
				wanted[inode] = e
			}
		}
		if len(wanted) == 0 {
			return
		}
	}
	o.done, o.ends = make(chan struct{}), make(map[uint64]pipeEnds)
	in, table := t.contains(), t.table // Refresh replaces it
	go func() {
		defer close(o.done)
		o.complete = true
		for _, other := range nearest(table, t.Root, pid) {
			if in(other) || other == pid || other == parent || table[other].Kernel || table[other].Dead() {
				continue
			}
			if errors.Is(addPipes(other, o.ends), os.ErrPermission) {
				o.complete = false
			}
			if wanted != nil && o.found(wanted) {
				o.complete = false
				return
			}
		}
	}()
}

// found reports whether the other end of all these pipes has been seen.
func (o *outside) found(wanted map[uint64]pipeEnds) bool {
	for inode, e := range wanted {
		if !e.reaches(o.ends[inode]) {
			return false
		}
	}
	return true
}

// nearest orders all processes by how likely they have the other ends of pipes that some have:
// their ancestors, others of their sessions, and the rest.
func nearest(table proc.Table, pids ...int) []int {
	rank := make(map[int]int)
	for _, pid := range pids {
		for p := table[pid]; p != nil && rank[p.Pid] == 0; p = table[p.PPid] {
			rank[p.Pid] = -2
		}
		if p := table[pid]; p != nil {
			for other := range table {
				if table[other].Sid == p.Sid && rank[other] == 0 {
					rank[other] = -1
				}
			}
		}
	}
	return slices.SortedFunc(maps.Keys(table), func(a, b int) int { return rank[a] - rank[b] })
}

// ExternalPipes returns the inodes of the pipes of which one end is in the tree and
// the other is open outside of it, in order. The processes must be frozen. Known is
// false if it is not possible to tell, for want of permission to look at every
// process of the tree.
//
// A pipe whose other end is not open anywhere is not external: it has to be
// restored with what is in it. CRIU's images do not tell the two apart.
func (t *Tree) ExternalPipes() (inodes []uint64, known bool) {
	ends := make(map[uint64]pipeEnds)
	for _, pid := range t.PIDs {
		// Of one that has ended a user may not look at the descriptors, of which it has none.
		if addPipes(pid, ends) != nil && !proc.Ended(pid) {
			return nil, false
		}
	}
	for inode, e := range ends {
		if e.read != e.write && t.outside.has(inode, e) {
			inodes = append(inodes, inode)
		}
	}
	slices.Sort(inodes)
	return inodes, true
}

// has reports whether the other end of a pipe is open outside of the tree, of which one end
// is open in it.
func (o *outside) has(inode uint64, e pipeEnds) bool {
	if o.done != nil {
		<-o.done
		if e.reaches(o.ends[inode]) {
			return true
		}
		if o.complete {
			return false
		}
	}
	return e.otherEnd()
}

// otherEnd reports whether the other end of a pipe is open anywhere, by what the kernel
// shows of the end that is open here, in which nothing is read or written. It is true if
// that cannot be asked.
func (e pipeEnds) otherEnd() bool {
	flags, gone := unix.O_RDONLY, int16(unix.POLLHUP)
	if e.write {
		flags, gone = unix.O_WRONLY, unix.POLLERR
	}
	fd, err := unix.Open(proc.Open(e.pid, e.fd), flags|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return true
	}
	defer unix.Close(fd)
	fds := []unix.PollFd{{Fd: int32(fd)}}
	for {
		_, err := unix.Poll(fds, 0)
		if err != unix.EINTR {
			return err != nil || fds[0].Revents&gone == 0
		}
	}
}

// addPipes adds the ends of pipes that a process has open.
func addPipes(pid int, ends map[uint64]pipeEnds) error {
	for d, err := range proc.Pipes(pid) {
		if err != nil {
			return err
		}
		if inode, ok := inodeOf(d, "pipe"); ok {
			ends[inode] = ends[inode].add(pid, d)
		}
	}
	return nil
}

// Sockets returns the inodes of sockets that the processes have open, each once:
// all of them, unless there are more than limit.
func (t *Tree) Sockets(limit int) []uint64 {
	var inodes []uint64
	seen := make(map[uint64]bool)
	for _, pid := range t.PIDs {
		for d, err := range proc.Descriptors(pid) {
			if err != nil {
				break // CRIU will report what is wrong
			}
			inode, ok := inodeOf(d, "socket")
			if !ok || seen[inode] {
				continue
			}
			if len(inodes) == limit {
				return inodes
			}
			seen[inode] = true
			inodes = append(inodes, inode)
		}
	}
	return inodes
}

// inodeOf returns the inode of what a descriptor leads to, if it is of that kind.
func inodeOf(d proc.Descriptor, kind string) (inode uint64, ok bool) {
	number, ok := strings.CutPrefix(d.Link, kind+":[")
	if !ok {
		return 0, false
	}
	inode, err := strconv.ParseUint(strings.TrimSuffix(number, "]"), 10, 64)
	return inode, err == nil
}

// WriteLease reports whether a process has a lease on a file for writing (F_SETLEASE), or one
// that has left it to its children. CRIU opens each file to look for a build ID, unless it is
// told to compare sizes only. The kernel would ask for such a lease, and have CRIU wait for it,
// 45 seconds, with the process that could give it up frozen.
func (t *Tree) WriteLease() bool { return len(t.writeLeases()) > 0 }

func (t *Tree) writeLeases() []proc.Lock {
	locks, _ := proc.Locks()
	return slices.DeleteFunc(locks, func(l proc.Lock) bool {
		return l.Kind != "LEASE" || !l.Write || !slices.Contains(t.PIDs, l.PID) && !proc.Ended(l.PID)
	})
}

// leases refuses such a lease on a removed file, which CRIU reads.
func (p *preflight) leases(s *subject) {
	if p.leased == nil {
		p.leased = make(map[fileID]bool)
		for _, l := range p.writeLeases() {
			p.leased[fileID{l.Dev, l.Ino}] = true
		}
	}
	if len(p.leased) == 0 {
		return
	}
	for d, err := range proc.Descriptors(s.Pid) {
		var st unix.Stat_t
		if err == nil && strings.HasPrefix(d.Link, "/") && unix.Stat(proc.Open(s.Pid, d.FD), &st) == nil && st.Nlink == 0 && p.leased[fileID{st.Dev, st.Ino}] {
			p.refuse(unix.EOPNOTSUPP, s, fmt.Sprintf("has %s open as descriptor %d, a removed file, with a lease for writing (F_SETLEASE), which criu breaks by reading the file", show.Name(d.Link), d.FD),
				"the program has to give the lease up before it is saved")
		}
	}
}
