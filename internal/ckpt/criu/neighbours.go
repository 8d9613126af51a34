package criu

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"blcr-cli/internal/ckpt/criu/images"
	"blcr-cli/internal/proc"
)

// A pipe of which only one end is in the tree is either one to somebody outside,
// which at a restart leads to cr_restart's surroundings, or one whose other end
// has been closed, which must come back with what is still in it. The images do
// not tell which, so it is noted with them.

// pipeEnds is which ends of a pipe are open.
type pipeEnds struct{ read, write bool }

// noteNeighbours writes the note. To be called while the tree is frozen, after
// lookAgain.
func (c *capture) noteNeighbours() error {
	ends := make(map[uint64]pipeEnds)
	for _, pid := range c.scope.tree {
		if err := addPipes(pid, ends); err != nil {
			// Criu has just read them all, so this is about us; a restart then
			// has to believe the worst.
			return nil
		}
	}
	half := make(map[uint64]pipeEnds)
	for inode, e := range ends {
		if e.read != e.write {
			half[inode] = e
		}
	}
	var note strings.Builder
	if len(half) > 0 {
		others := c.others.get()
		if !others.complete {
			return nil // might be anybody's
		}
		for inode, e := range half {
			if other := others.ends[inode]; e.read && other.write || e.write && other.read {
				fmt.Fprintf(&note, "%d\n", inode)
			}
		}
	}
	if err := c.writer.Bytes(images.ExternalPipesName, []byte(note.String())); err != nil {
		return contextError(err)
	}
	return nil
}

// pipesOfOthers is a look at the pipes of everybody outside the tree. It takes
// long where there are many, so it goes on while criu begins.
type pipesOfOthers struct {
	done     chan struct{}
	ends     map[uint64]pipeEnds
	complete bool // nothing was forbidden to look at
}

// lookAtOthers begins.
func lookAtOthers(s *scope) *pipesOfOthers {
	o := &pipesOfOthers{done: make(chan struct{}), ends: make(map[uint64]pipeEnds), complete: true}
	inside := make(map[int]bool)
	for _, pid := range s.tree {
		inside[pid] = true
	}
	// What only we hold the other end of, or who waits for us, ends with us: a
	// pipe to the one that waits for us in the tree, one that we have inherited.
	inside[os.Getpid()] = true
	if parent := os.Getppid(); proc.Executable(parent) == proc.Executable(os.Getpid()) {
		inside[parent] = true
	}
	go func() {
		defer close(o.done)
		for pid, p := range s.table {
			if inside[pid] || p.Kernel || p.Dead() {
				continue
			}
			if err := addPipes(pid, o.ends); errors.Is(err, os.ErrPermission) {
				o.complete = false
				return
			}
		}
	}()
	return o
}

// get waits for the result.
func (o *pipesOfOthers) get() *pipesOfOthers {
	<-o.done
	return o
}

// addPipes adds the ends of pipes that a process has open.
func addPipes(pid int, ends map[uint64]pipeEnds) error {
	for d, err := range proc.Descriptors(pid) {
		if err != nil {
			return err
		}
		var inode uint64
		if n, _ := fmt.Sscanf(d.Link, "pipe:[%d]", &inode); n != 1 {
			continue
		}
		e := ends[inode]
		e.read = e.read || d.Readable
		e.write = e.write || d.Writable
		ends[inode] = e
	}
	return nil
}

// mostSockets is how many sockets criu is told of. Every one costs an argument.
const mostSockets = 4096

// sockets are criu's options for the sockets of the tree. Those whose peer is
// outside of it, as is the standard output of what a daemon has started, it
// saves only when told to; the others it does not mind.
func (c *capture) sockets() []string {
	var options []string
	seen := make(map[uint64]bool)
	for _, pid := range c.scope.tree {
		for d, err := range proc.Descriptors(pid) {
			if err != nil {
				break // criu will say what is wrong
			}
			var inode uint64
			if n, _ := fmt.Sscanf(d.Link, "socket:[%d]", &inode); n == 1 && !seen[inode] && len(seen) < mostSockets {
				seen[inode] = true
				options = append(options, "--external", fmt.Sprintf("unix[%d]", inode))
			}
		}
	}
	return options
}
