package ctxfile

import (
	"runtime"
	"sync/atomic"
)

// maxWorkers is how many frames are compressed or decompressed at the same time,
// if there are processors for that. Each worker has memory.
const maxWorkers = 4

// processors is runtime.NumCPU, except in tests.
var processors = runtime.NumCPU

// Workers is how many processors compressing and decompressing can use. Whether
// they may use them is for the program to say, with runtime.GOMAXPROCS.
func Workers() int { return min(maxWorkers, processors()) }

// FrameSize is what one frame has of a compressed member at most, in bytes. ReadAt
// decompresses and checks whole frames, most of which begin at multiples of it.
const FrameSize = frameSize

type frameBuffer [frameSize]byte

// zeroFrame is the content of a frame of zeros. It is never written to, so it
// takes no memory.
var zeroFrame frameBuffer

// framePool is the fixed number of frame buffers that a Writer or a Reader has. A
// call that waits for a pipe gives its buffers back, unless few buffers are kept
// by such calls. So calls that do not wait always find one in the end.
type framePool struct {
	free    chan *frameBuffer // nil stands for one that has not been allocated yet
	maxKept int32             // buffers, by calls that wait for a pipe
	kept    atomic.Int32
}

// newFramePool makes a pool of kept buffers that calls may keep while they wait
// for a pipe, and active ones besides.
func newFramePool(kept, active int) *framePool {
	p := &framePool{free: make(chan *frameBuffer, kept+active), maxKept: int32(kept)}
	for range cap(p.free) {
		p.free <- nil
	}
	return p
}

// get waits for a buffer. It returns nil after abort.
func (p *framePool) get(calls *callGroup) *frameBuffer {
	if b := p.tryGet(); b != nil {
		return b
	}
	select {
	case b := <-p.free:
		return allocated(b)
	case <-calls.aborted.Done():
		return nil
	}
}

// tryGet returns a buffer if one is free, else nil.
func (p *framePool) tryGet() *frameBuffer {
	select {
	case b := <-p.free:
		return allocated(b)
	default:
		return nil
	}
}

func allocated(b *frameBuffer) *frameBuffer {
	if b == nil {
		b = new(frameBuffer)
	}
	return b
}

func (p *framePool) put(b *frameBuffer) { p.free <- b }

// keep tells whether a call may keep n buffers while it waits for a pipe. If so,
// it has to call resume after the wait.
func (p *framePool) keep(n int) bool {
	if p.kept.Add(int32(n)) <= p.maxKept {
		return true
	}
	p.resume(n)
	return false
}

func (p *framePool) resume(n int) { p.kept.Add(-int32(n)) }
