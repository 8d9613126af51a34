package ctxfile

import (
	"sync"
	"sync/atomic"
)

const (
	bufferSize = 128 << 10

	// fewBuffers is how many calls may keep a buffer while they wait for more
	// to put into it. Beyond that they write out what they have, so that
	// memory stays flat however many images are open at once.
	fewBuffers = 64
)

var (
	buffers   = sync.Pool{New: func() any { return new([bufferSize]byte) }}
	inBuffers atomic.Int32
)

func getBuffer() *[bufferSize]byte {
	inBuffers.Add(1)
	return buffers.Get().(*[bufferSize]byte)
}

func putBuffer(b *[bufferSize]byte) {
	inBuffers.Add(-1)
	buffers.Put(b)
}

// scarce tells whether there are many buffers out.
func scarce() bool { return inBuffers.Load() > fewBuffers }
