package attributes

import (
	"encoding/binary"
	"fmt"
	"math"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/proc"
)

// A counter of eventfd(2) has 64 bits, and CRIU restores the lower 32: eventfd(2) takes no
// more. Larger ones are noted.
//
//	events=5:1ffffffff,7:fffffffffffffffe

// CRIU makes a semaphore (EFD_SEMAPHORE) an ordinary counter, and no call makes it one again. A
// restart has CRIU inherit another one. They are noted with their counters and flags of open(2):
//
//	semaphores=5:3:2,7:0:802

// Semaphore is a descriptor of a process, and the semaphore that it is to lead to.
type Semaphore struct {
	FD       uint32
	Count    uint32
	NonBlock bool
}

// noteSemaphore returns the note of a semaphore; "" for an ordinary counter, and for all before
// Linux 6.5, which does not tell.
func noteSemaphore(pid, fd int) string {
	if is, err := proc.FDInfo(pid, fd, "eventfd-semaphore"); err != nil || is != "1" {
		return ""
	}
	count, err := proc.EventCount(pid, fd)
	if err != nil {
		return ""
	}
	return fmt.Sprintf("%d:%x:%x", fd, uint32(count), proc.OpenFlags(pid, fd)) // of the rest see setCounts
}

// Semaphores returns those of a process, by its number.
func (s Saved) Semaphores(id int32) (all []Semaphore) {
	list, _ := s.value(id, semaphores)
	for text := range strings.SplitSeq(list, ",") {
		words := strings.Split(text, ":")
		if len(words) != 3 {
			continue
		}
		fd, err := strconv.ParseUint(words[0], 10, 32)
		count, err2 := strconv.ParseUint(words[1], 16, 32)
		flags, err3 := strconv.ParseUint(words[2], 16, 32)
		if err == nil && err2 == nil && err3 == nil {
			all = append(all, Semaphore{uint32(fd), uint32(count), flags&unix.O_NONBLOCK != 0})
		}
	}
	return all
}

// setCounts adds to the counters in a list, which anyone may have made, what CRIU has left
// out. A counter that several descriptors have is added to once.
func setCounts(pid int, list string) {
	for text := range strings.SplitSeq(list, ",") {
		number, value, _ := strings.Cut(text, ":")
		fd, err := strconv.Atoi(number)
		want, err2 := strconv.ParseUint(value, 16, 64)
		if err != nil || err2 != nil || want == math.MaxUint64 { // which no counter reaches: to add that would block
			return
		}
		now, err := proc.EventCount(pid, fd)
		if err != nil || now != want&math.MaxUint32 || now == want {
			continue
		}
		own, err := proc.CopyDescriptor(pid, fd)
		if err != nil {
			continue
		}
		_, _ = unix.Write(own, binary.NativeEndian.AppendUint64(nil, want-now))
		unix.Close(own)
	}
}
