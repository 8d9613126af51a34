package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt/criu/binary"
	"blcr-cli/internal/proc"
)

// patience is the time limit for each step.
const patience = 2 * time.Minute

// bench is the state that all measurements share.
type bench struct {
	runs int
	of   sizes
	also []string

	compress string // the argument of --compress; "" without it
	lazy     bool   // measure cr_restart --lazy as well
	cold     bool   // measure restarts that have to read from the disk as well

	processes int // of the target
	threads   int // of its first process, besides its own
	rows      []row

	checkpoint, restart string // the commands

	self string // this program, which is also that of the targets
	criu *binary.Binary
	dir  string
	over bool // a limit was exceeded

	mu     sync.Mutex
	pid    int // the target's pid, which stays the same after a restart; 0 for none
	closed bool
}

// close ends the target and removes the files.
func (b *bench) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return
	}
	b.closed = true
	// Its pid may belong to another process by now.
	if b.pid != 0 && proc.Executable(b.pid) == b.self {
		_ = unix.Kill(b.pid, unix.SIGKILL)
	}
	os.RemoveAll(b.dir)
}

func (b *bench) setPid(pid int) {
	b.mu.Lock()
	b.pid = pid
	b.mu.Unlock()
}

// path returns the path of a file in the scratch directory.
func (b *bench) path(name string) string { return filepath.Join(b.dir, name) }

// room returns nil if there is room for a target of that size: in memory the target and
// three copies in the page cache, on disk the copies.
func (b *bench) room(size int64) error {
	var st unix.Statfs_t
	if err := unix.Statfs(b.dir, &st); err != nil {
		return os.NewSyscallError("statfs", err)
	}
	if free := int64(st.Bavail) * int64(st.Bsize); free < 3*size {
		return fmt.Errorf("%d MiB: %s has %d MiB free of three times that", size>>20, b.dir, free>>20)
	}
	info, _ := os.ReadFile("/proc/meminfo")
	if available := kilobytes(info, "MemAvailable"); available < 4*size {
		return fmt.Errorf("%d MiB: there are %d MiB of memory of four times that", size>>20, available>>20)
	}
	return nil
}

// victim is a running target.
type victim struct {
	b    *bench
	pid  int
	tree []int // the processes that kill has ended
	*shared
	file *os.File
}

// start starts a target and waits until it has filled its memory.
func (b *bench) start(size int64) (*victim, error) {
	file, err := os.Create(b.path("shared"))
	if err != nil {
		return nil, err
	}
	if err := file.Truncate(int64(os.Getpagesize())); err != nil {
		return nil, err
	}
	s, err := mapShared(file)
	if err != nil {
		return nil, err
	}
	kind := fillNoise
	if b.compress != "" {
		kind = fillHalf
	}
	cmd := exec.Command(b.self, targetArg, strconv.FormatInt(size, 10), file.Name(), kind, strconv.Itoa(b.processes), strconv.Itoa(b.threads))
	// Few threads, and no garbage collection that changes the memory.
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1", "GOGC=off")
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	v := &victim{b: b, pid: cmd.Process.Pid, shared: s, file: file}
	_ = cmd.Process.Release() // it is waited for by its pid, as after a restart
	b.setPid(v.pid)
	if err := v.await(func() bool { return s.ready.Load() == int64(b.processes) && s.first.Load() != 0 }); err != nil {
		return nil, err
	}
	return v, nil
}

// await waits for a condition that the target fulfils.
func (v *victim) await(done func() bool) error {
	for deadline := time.Now().Add(patience); !done(); time.Sleep(waitNap) {
		if time.Now().After(deadline) {
			return errors.New("the target does not run")
		}
	}
	return nil
}

// kill ends the target, and what it has started. It waits for the target if that is a
// child of this process.
func (v *victim) kill(child bool) error {
	v.tree, _ = proc.Descend(v.pid)
	if err := unix.Kill(v.pid, unix.SIGKILL); err != nil {
		return os.NewSyscallError("kill", err)
	}
	if !child {
		return nil
	}
	if err := reap(v.pid); err != nil {
		return err
	}
	return v.awaitTree()
}

// awaitTree waits until no process that kill has ended is left: their pids have to be
// free for the next restart. Those that have lost their parent are children of this
// process now.
func (v *victim) awaitTree() error {
	return v.await(func() bool {
		return !slices.ContainsFunc(v.tree, func(pid int) bool {
			_, _ = unix.Wait4(pid, nil, unix.WNOHANG|unix.WALL, nil)
			return unix.Kill(pid, 0) == nil
		})
	})
}

func reap(pid int) error {
	for {
		_, err := unix.Wait4(pid, nil, unix.WALL, nil)
		if err != unix.EINTR {
			return os.NewSyscallError("wait", err)
		}
	}
}

// inTurn returns the ways in the order of a round. Each round begins with another one: what
// a way leaves behind for the next, as blocks of the disk to be freed and the disk's own
// buffers to be written, is not always paid by the same.
func inTurn(ways []way, round int) []way {
	first := round % len(ways)
	return slices.Concat(ways[first:], ways[:first])
}

// measure runs all ways in turn, the restarts after the checkpoints.
func (b *bench) measure(ways []way, size int64) error {
	v, err := b.start(size)
	if err != nil {
		return err
	}
	defer v.file.Close()
	for round := range b.runs + 1 {
		for _, w := range inTurn(ways, round) {
			if err := w.clear(); err != nil {
				return err
			}
			unix.Sync()
			v.reset()
			start := now()
			if err := w.save(v); err != nil {
				return fmt.Errorf("%s: checkpoint: %w", w, err)
			}
			total := now() - start
			if round == 0 {
				continue // the first round, with cold caches
			}
			t := w.times()
			if c, is := w.(*command); is {
				fi, err := os.Stat(c.context)
				if err != nil {
					return err
				}
				t.size = fi.Size()
			}
			t.total = append(t.total, time.Duration(total))
			if _, is := w.(*copying); !is {
				t.frozen = append(t.frozen, time.Duration(v.gap.Load()))
			}
		}
	}
	if err := v.kill(true); err != nil {
		return err
	}
	states := []bool{false}
	if b.cold {
		states = append(states, true)
	}
	for _, cold := range states {
		for round := range b.runs + 1 {
			for _, w := range inTurn(ways, round) {
				if _, is := w.(*copying); is {
					continue
				}
				err := w.warm()
				unix.Sync()
				if cold {
					err = w.drop()
				}
				if err != nil {
					return err
				}
				r, err := w.bringBack(v)
				if err != nil {
					return fmt.Errorf("%s: restart: %w", w, err)
				}
				if round == 0 {
					continue
				}
				t := w.times()
				switch {
				case cold:
					t.cold = append(t.cold, r.runs)
				default:
					t.restart = append(t.restart, r.runs)
					t.placed = append(t.placed, r.placed)
				}
			}
		}
	}
	b.setPid(0)
	for _, w := range ways {
		if err := w.clear(); err != nil {
			return err
		}
	}
	return nil
}
