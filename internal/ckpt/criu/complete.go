package criu

import (
	"bytes"
	"fmt"
	"os"
	"sync"
	"syscall"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/ckpt/criu/images"
	"blcr-cli/internal/ctxfile"
	"blcr-cli/internal/proc"
)

// longestPagemap is how much is kept of a pagemap. A longer one, of memory in some 50,000
// pieces, is left out of the comparison.
const longestPagemap = 1 << 20

// takenMemory is how much memory of the processes there should be by the pagemaps of a dump,
// in bytes, by the name of the image that has it.
type takenMemory struct {
	mu    sync.Mutex
	sizes map[string]int64

	pagemaps map[string]takenPagemap // by their names
}

// takenPagemap is the beginning of a pagemap, and the image that has its pages.
type takenPagemap struct {
	beginning []byte
	pages     string
}

// keptPagemap is how much is kept of each pagemap, with the lowest addresses, in bytes.
const keptPagemap = 64 << 10

// add adds what a pagemap, or its beginning, says. One that it cannot read it leaves to the
// restart.
func (t *takenMemory) add(name string, pagemap []byte) {
	p, err := images.ReadPagemap(pagemap)
	if p.PagesID == 0 {
		return
	}
	pages := images.Name("pages", p.PagesID)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.sizes == nil {
		t.sizes, t.pagemaps = make(map[string]int64), make(map[string]takenPagemap)
	}
	t.pagemaps[name] = takenPagemap{bytes.Clone(pagemap[:min(len(pagemap), keptPagemap)]), pages}
	if err == nil && len(pagemap) < longestPagemap {
		t.sizes[pages] = int64(p.Saved) * int64(os.Getpagesize())
	}
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

// restoreCode puts the code of the processes into the context as it is. CRIU has them make
// system calls by writing these over the beginning of their code for a moment, also when it
// has already sent their memory; what is on the way to the context is not copied, but the
// same pages. The processes must be frozen, and all images have come. What it cannot
// correct, as in a pipe, it leaves.
func (c *capture) restoreCode() error {
	w, ok := c.writer.(*ctxfile.Writer)
	if !ok {
		return nil // CRIU has copied it.
	}
	page := make([]byte, os.Getpagesize())
	for _, pid := range c.tree.PIDs {
		saved := pid
		if inner, err := proc.InnerPid(pid); err == nil {
			saved = inner
		}
		taken := c.memory.pagemaps[images.Name("pagemap", uint32(saved))]
		for _, address := range proc.Code(pid) {
			n, ok := images.FindPage(taken.beginning, address)
			if !ok || !proc.ReadMemory(pid, uintptr(address), page) {
				continue
			}
			if _, err := w.Patch(taken.pages, int64(n)*int64(len(page)), page); err != nil {
				return contextError(err)
			}
		}
	}
	return nil
}
