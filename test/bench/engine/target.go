package main

import (
	"encoding/binary"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The target is this program once more, with memory of a given size and one
// thread that does nothing but look at the clock. What it sees there it tells
// by a page of a file that both have mapped, so that telling costs neither a
// system call: the page is the file's and not in any context. The clock is
// CLOCK_REALTIME, the only one that is the same in a restored process: criu has it
// go on with the CLOCK_MONOTONIC that it had when it was saved.

// targetArg makes this program a target: targetArg SIZE FILE FILL.
const targetArg = "target"

// nap is how long the target sleeps between two looks, for not to take a
// processor from those who are measured.
const nap = 100 * time.Microsecond

// shared is the page, with times in nanoseconds.
type shared struct {
	first atomic.Int64 // the first look since reset
	gap   atomic.Int64 // the longest between two looks since reset
}

// reset has the target begin anew.
func (s *shared) reset() {
	s.gap.Store(0)
	s.first.Store(0)
}

// now is the time, in nanoseconds.
func now() int64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_REALTIME, &t); err != nil {
		panic(err) // there is none without it
	}
	return t.Nano()
}

// mapShared maps the page, which is the whole file.
func mapShared(file *os.File) (*shared, error) {
	page, err := unix.Mmap(int(file.Fd()), 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, os.NewSyscallError("mmap", err)
	}
	return (*shared)(unsafe.Pointer(&page[0])), nil
}

// target is a target's main. It returns only if it fails.
func target(args []string) error {
	size, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	file, err := os.OpenFile(args[1], os.O_RDWR, 0)
	if err != nil {
		return err
	}
	s, err := mapShared(file)
	if err != nil {
		return err
	}
	memory, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return os.NewSyscallError("mmap", err)
	}
	fill(memory)
	if args[2] == fillHalf {
		if err := empty(memory); err != nil {
			return err
		}
	}
	runtime.LockOSThread()
	last := now()
	for {
		t := unix.NsecToTimespec(int64(nap))
		_ = unix.Nanosleep(&t, nil) // shorter after a checkpoint, which does no harm
		n := now()
		if n-last > s.gap.Load() {
			s.gap.Store(n - last)
		}
		if s.first.Load() == 0 {
			s.first.Store(n)
		}
		last = n
	}
}

// fill fills memory with what does not compress, no page like another.
func fill(memory []byte) {
	block := make([]byte, 1<<20)
	var seed [32]byte
	_, _ = rand.NewChaCha8(seed).Read(block)
	for n := 0; n < len(memory); n += os.Getpagesize() {
		page := memory[n:min(n+os.Getpagesize(), len(memory))]
		copy(page, block[n%len(block):])
		binary.NativeEndian.PutUint64(page, uint64(n))
	}
}

// What the target's memory is filled with.
const (
	fillNoise = "noise" // nothing compresses
	fillHalf  = "half"  // half of it is empty, a quarter is noise
)

// empty empties half of the memory, in stretches of different lengths, and puts
// what programs consist of into half of the rest: this one, over and over, but
// not so that a copy would be found near another.
func empty(memory []byte) error {
	program, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return err
	}
	random := rand.New(rand.NewPCG(1, 2))
	at := 0
	for n := 0; len(memory) > 0; n++ {
		part := memory[:min(len(memory), (1+random.IntN(256))*os.Getpagesize())]
		memory = memory[len(part):]
		switch n % 4 {
		case 0, 2:
			clear(part)
		case 1:
			for len(part) > 0 {
				m := copy(part, program[at:])
				part, at = part[m:], (at+m)%len(program)
			}
		}
	}
	return nil
}
