package ctxfile

import (
	"runtime"
	"sync/atomic"
)

const (
	// frameSize is what a frame has of an image, at most and mostly: small
	// enough for many of them to be in memory, and large enough to compress
	// as well as larger ones.
	frameSize = 512 << 10

	// minPacked is the smallest image that is compressed.
	minPacked = 4096

	// maxWorkers is how many frames are worked on at the same time, if there are
	// processors for that. Each worker has memory.
	maxWorkers = 4
)

type frameBuffer [frameSize]byte

// zeros is what a frame of zeros has. Nobody writes to it, so that it takes no
// memory.
var zeros frameBuffer

// processors is runtime.NumCPU, but for tests.
var processors = runtime.NumCPU

// Workers is how many processors compressing and decompressing can use. Whether
// they may is for the program to say, by runtime.GOMAXPROCS.
func Workers() int { return min(maxWorkers, processors()) }

// frames are the buffers of a Writer or Reader, as many as there will ever be.
// A call that has to wait for a pipe gives back what it holds, unless few are
// held like that; so there are always some for those that go on.
type frames struct {
	free   chan *frameBuffer // nil for one that has not been made yet
	most   int32             // may be held by calls that wait for a pipe
	asleep atomic.Int32      // are
}

// newFrames is for asleep buffers that may be held by those who wait, and awake
// ones for the others.
func newFrames(asleep, awake int) *frames {
	f := &frames{free: make(chan *frameBuffer, asleep+awake), most: int32(asleep)}
	for range cap(f.free) {
		f.free <- nil
	}
	return f
}

// get waits for a buffer; nil after an abort.
func (f *frames) get(g *gate) *frameBuffer {
	select {
	case b := <-f.free:
		return made(b)
	default:
	}
	select {
	case b := <-f.free:
		return made(b)
	case <-g.aborting():
		return nil
	}
}

// tryGet is get that does not wait; nil if there is none.
func (f *frames) tryGet() *frameBuffer {
	select {
	case b := <-f.free:
		return made(b)
	default:
		return nil
	}
}

func made(b *frameBuffer) *frameBuffer {
	if b == nil {
		b = new(frameBuffer)
	}
	return b
}

func (f *frames) put(b *frameBuffer) { f.free <- b }

// sleep tells whether a call may keep n buffers while it waits; it has to call
// wake after that.
func (f *frames) sleep(n int) bool {
	if f.asleep.Add(int32(n)) <= f.most {
		return true
	}
	f.wake(n)
	return false
}

func (f *frames) wake(n int) { f.asleep.Add(-int32(n)) }
