package ctxfile

import "golang.org/x/sys/unix"

// writeBackStep is how much the kernel is told at a time to write to the disk.
const writeBackStep = 8 << 20

// WriteEarly has the disk begin with memory while Pipe still moves more into the file. It
// is for a caller that will wait for the disk: Pipe takes longer. It is to be called
// before the other methods.
func (w *Writer) WriteEarly() { w.early = true }

// writeBack has the kernel begin to write ranges of the file to the disk until there are no
// more, or Close was called, which waits for it. calls.begin was called for it.
func (w *Writer) writeBack(ranges <-chan extent) {
	defer w.trimIfOver()
	defer w.calls.end()
	var next extent
	for x := range ranges {
		if x.offset != next.end() {
			next = x
		} else {
			next.length += x.length
		}
		if next.length < writeBackStep {
			continue
		}
		if w.closing.Load() || w.calls.isAborted() || unix.SyncFileRange(w.out.fd, w.out.base+next.offset, next.length, unix.SYNC_FILE_RANGE_WRITE) != nil {
			break
		}
		next = extent{next.end(), 0}
	}
	for range ranges {
	}
}
