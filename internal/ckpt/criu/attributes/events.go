package attributes

import (
	"encoding/binary"
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
