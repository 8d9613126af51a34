package main

import (
	"encoding/binary"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The target is another process of this program, with memory of a given size and one
// thread that only reads the clock. It reports what it reads in a page of a file that
// both processes have mapped, so that neither needs a system call. The page belongs to
// the file and is not in any context. The clock is CLOCK_REALTIME, the only one that is
// the same in a restored process: criu continues CLOCK_MONOTONIC with the value at the
// dump.

// targetArg makes this program a target: targetArg SIZE FILE FILL PROCESSES
// THREADS. A target of several processes has as many children, with an equal part of the
// memory each. The threads are further ones, of the first process, that wait.
const targetArg = "target"

// nap is the time that the target sleeps between two readings, so that it does not take
// processor time from the programs that are measured. What waits for the target sleeps
// longer: to wake up often would take time from those that use all processors.
const (
	nap     = 100 * time.Microsecond
	waitNap = 2 * time.Millisecond
)

// shared is the page, with times in nanoseconds.
type shared struct {
	first atomic.Int64 // the first reading since reset
	gap   atomic.Int64 // the longest time between two readings since reset
	ready atomic.Int64 // processes that have filled their memory
}

// reset makes the target start over.
func (s *shared) reset() {
	s.gap.Store(0)
	s.first.Store(0)
}

// now returns the time in nanoseconds.
func now() int64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_REALTIME, &t); err != nil {
		panic(err) // no measurement is possible without it
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

// target is the main function of a target. It returns only if it fails.
func target(args []string) error {
	runtime.LockOSThread() // the parent of the children, until the end
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
	processes, err := strconv.Atoi(args[3])
	if err != nil {
		return err
	}
	threads, err := strconv.Atoi(args[4])
	if err != nil {
		return err
	}
	for range threads {
		go func() {
			runtime.LockOSThread() // as long as this goroutine waits, the thread does
			select {}
		}()
	}
	for range processes - 1 {
		child := exec.Command(os.Args[0], targetArg, strconv.Itoa(size/processes), args[1], args[2], "0", "0")
		// It ends with this process, also when both have been restored.
		child.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
		if err := child.Start(); err != nil {
			return err
		}
	}
	size /= max(processes, 1)
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
	s.ready.Add(1)
	if processes == 0 { // a child, which has nothing to report
		runtime.KeepAlive(memory)
		select {}
	}
	last := now()
	for {
		t := unix.NsecToTimespec(int64(nap))
		_ = unix.Nanosleep(&t, nil) // it may be shorter after a checkpoint, which does no harm
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

// fill fills memory with data that does not compress; no two pages are equal.
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

// The content of the target's memory.
const (
	fillNoise = "noise" // does not compress
	fillHalf  = "half"  // half is empty, a quarter is noise, a quarter is program code
)

// empty clears half of the memory, in ranges of different lengths, and fills half of
// the rest with typical content of programs: the file of this program, repeatedly, with
// the copies so far apart that a compressor does not find another copy nearby.
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
