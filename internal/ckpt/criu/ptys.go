package criu

import (
	"context"
	"maps"
	"os"
	"slices"
	"strconv"
	"time"

	"blcr-cli/internal/ckpt/criu/explain"
	"blcr-cli/internal/ckpt/criu/images"
)

// ptysTried is how far the number of a pseudo terminal may be above the first one that is
// free: criu makes as many terminals, one after the other, to get the one that it wants
// (__pty_open_ptmx_index).
const ptysTried = 32

// renumber gives pseudo terminals of the job's own, which criu makes again, other numbers
// where criu could not have theirs. The job has them by descriptors; a name that it has kept
// is that of another terminal. It returns the terminals as they are then.
func (p *plan) renumber(ttys []images.TTY) ([]images.TTY, error) {
	inUse := ptysInUse()
	for _, n := range p.ptysTaken {
		inUse[n] = true
	}
	numbers := otherPTYs(images.OwnPTYs(ttys), inUse)
	if len(numbers) == 0 {
		return ttys, nil
	}
	ttyInfo, files, err := images.RenumberPTYs(p.images[images.TTYInfoName], p.images[images.FilesName], numbers)
	if err != nil {
		return nil, err
	}
	p.images[images.TTYInfoName], p.images[images.FilesName] = ttyInfo, files
	return images.TTYs(ttyInfo)
}

// outrun reports whether the restore has failed because another program has the number of a
// pseudo terminal, and gives that another one. It may have taken it since the plan was made, or
// has the slave open of a terminal whose master is closed, and which has no name any more. It is
// false if err is another error, or if it is too late.
func (r *restart) outrun(ctx context.Context, err error, deadline time.Time) bool {
	if err == nil || r.criu == nil || ctx.Err() != nil || !time.Now().Before(deadline) || r.extracted.Path != "" {
		return false
	}
	taken, ok := explain.TerminalInUse(r.criu.Errors())
	if !ok {
		return false
	}
	r.plan.ptysTaken = append(r.plan.ptysTaken, taken)
	ttys, err := images.TTYs(r.plan.images[images.TTYInfoName])
	if err == nil {
		_, err = r.plan.renumber(ttys)
	}
	if err == nil && r.inMemory >= 0 {
		r.closeInMemory()
		r.inMemory = r.imagesInMemory(ctx)
	}
	return err == nil
}

// otherPTYs returns new numbers for those of own that cannot be had, by the old ones.
func otherPTYs(own, inUse map[uint32]bool) map[uint32]uint32 {
	first := uint32(0)
	for inUse[first] {
		first++
	}
	// Of many, each has to be the next one when criu comes to it, in their order.
	had := func(n uint32) bool { return !inUse[n] && n-first < ptysTried && len(own) <= ptysTried }
	numbers := make(map[uint32]uint32)
	next := first
	for _, n := range slices.Sorted(maps.Keys(own)) {
		if had(n) {
			continue
		}
		for inUse[next] || own[next] && had(next) {
			next++
		}
		if n != next {
			numbers[n] = next
		}
		next++
	}
	return numbers
}

// ptysInUse returns the numbers of the pseudo terminals that have a name.
func ptysInUse() map[uint32]bool {
	inUse := make(map[uint32]bool)
	entries, _ := os.ReadDir("/dev/pts")
	for _, entry := range entries {
		if n, err := strconv.ParseUint(entry.Name(), 10, 32); err == nil {
			inUse[uint32(n)] = true
		}
	}
	return inUse
}
