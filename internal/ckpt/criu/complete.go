package criu

import (
	"fmt"
	"os"
	"sync"
	"syscall"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/ckpt/criu/images"
	"blcr-cli/internal/ctxfile"
)

// longestPagemap is how much is kept of a pagemap. A longer one, of memory in some 50,000
// pieces, is left out of the comparison.
const longestPagemap = 1 << 20

// takenMemory is how much memory of the processes there should be by the pagemaps of a dump,
// in bytes, by the name of the image that has it.
type takenMemory struct {
	mu    sync.Mutex
	sizes map[string]int64
}

// add adds what a pagemap says. One that it cannot read, or has not all of, it leaves to the
// restart.
func (t *takenMemory) add(pagemap []byte) {
	p, err := images.ReadPagemap(pagemap)
	if err != nil || len(pagemap) == longestPagemap {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.sizes == nil {
		t.sizes = make(map[string]int64)
	}
	t.sizes[images.Name("pages", p.PagesID)] = int64(p.Saved) * int64(os.Getpagesize())
}

// checkMemory looks whether all memory that CRIU has sent is in the context. It is called
// when all images have come.
func (c *capture) checkMemory() error {
	w, ok := c.writer.(*ctxfile.Writer)
	if !ok {
		return nil // CRIU writes its images itself.
	}
	for name, want := range c.memory.sizes {
		if got := max(w.Size(name), 0); got != want {
			return &ckpt.Error{Op: "write", Object: "context", Errno: syscall.EIO, Detail: []string{
				fmt.Sprintf("%s has %d bytes of the memory of a process, and should have %d", name, got, want)}}
		}
	}
	return nil
}
