package ctxfile

import (
	"sync"
	"sync/atomic"
)

const (
	bufferSize = 128 << 10

	// fewBuffers is how many calls may keep a buffer while they wait for more
	// data. Beyond that they write what they have and give the buffer back, so
	// that memory stays flat however many members are open at once.
	fewBuffers = 64
)

var (
	buffers      = sync.Pool{New: func() any { return new([bufferSize]byte) }}
	buffersInUse atomic.Int32
)

func getBuffer() *[bufferSize]byte {
	buffersInUse.Add(1)
	return buffers.Get().(*[bufferSize]byte)
}

func putBuffer(b *[bufferSize]byte) {
	buffersInUse.Add(-1)
	buffers.Put(b)
}

// buffersScarce tells whether many buffers are in use.
func buffersScarce() bool { return buffersInUse.Load() > fewBuffers }
