package ctxfile

import (
	"bytes"
	"sync"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
)

// Levels of compression are those of zstd(1). The levels 1 and 2, 3 to 5, and 6 to
// 22 do not differ.
const (
	MinLevel     = 1
	DefaultLevel = 1 // the processes may be frozen meanwhile
	MaxLevel     = 22
)

// minCompressed is the size of the smallest member that is compressed.
const minCompressed = 4096

// compressor compresses the members of a Writer.
type compressor struct {
	w      *Writer
	speed  zstd.EncoderLevel
	frames *framePool
	idle   chan *encoder // nil stands for one that has not been made yet
}

// encoder compresses one frame at a time.
type encoder struct {
	zstd *zstd.Encoder
	out  []byte
}

func newCompressor(w *Writer, level int) *compressor {
	c := &compressor{w: w, frames: newFramePool(2, 2*Workers())}
	n := Workers()
	switch {
	case level < 3:
		c.speed = zstd.SpeedFastest
	case level < 6:
		c.speed = zstd.SpeedDefault
	default:
		// zstd.SpeedBestCompression has tables of 37 MiB.
		c.speed = zstd.SpeedBetterCompression
		n = min(n, 2) // of 4 MiB each
	}
	c.idle = make(chan *encoder, n)
	for range n {
		c.idle <- nil
	}
	return c
}

func (c *compressor) newEncoder() *encoder {
	e, err := zstd.NewWriter(nil,
		zstd.WithEncoderLevel(c.speed), zstd.WithEncoderConcurrency(1),
		zstd.WithWindowSize(frameSize), zstd.WithLowerEncoderMem(true),
		zstd.WithEncoderCRC(false)) // the index has a checksum
	if err != nil {
		panic(err) // an option would be out of its range
	}
	return &encoder{zstd: e, out: make([]byte, 0, e.MaxEncodedSize(frameSize))}
}

// storeFrame compresses b and stores it as a frame.
func (c *compressor) storeFrame(b []byte) (frame, error) {
	f := frame{length: uint32(len(b))}
	if bytes.Equal(b, zeroFrame[:len(b)]) {
		return f, nil
	}
	e := <-c.idle // never a long wait, unless the output has to wait
	defer func() { c.idle <- e }()
	if c.w.calls.isAborted() {
		return f, unix.ECANCELED
	}
	if e == nil {
		e = c.newEncoder()
	}
	stored := e.zstd.EncodeAll(b, e.out)
	if len(stored) > len(b)-len(b)/16 {
		stored = b // decompressing it would cost more than it saves
	}
	f.sum = frameSum(stored, b)
	x, err := c.w.out.store(stored, false, -1)
	f.offset, f.stored = x.offset, uint32(len(stored))
	return f, err
}

// frameWriter cuts a member into frames and has them compressed. One goroutine
// uses it; each frame that is being compressed has one more.
type frameWriter struct {
	*compressor
	entry *entry
	buf   *frameBuffer // being filled, or nil
	n     int          // how much of buf is used
	kept  bool         // buf is kept during a wait

	counted bool // what is written now has been added to Writer.stored before

	jobs sync.WaitGroup
	mu   sync.Mutex // of err and entry.frames
	err  error      // of the first frame that failed
}

func (w *frameWriter) room() ([]byte, error) {
	if w.buf == nil {
		if w.buf, w.n = w.frames.get(w.w.calls), 0; w.buf == nil {
			return nil, unix.ECANCELED
		}
	}
	return w.buf[w.n:], nil
}

func (w *frameWriter) filled(n int) error {
	if w.n += n; w.n < frameSize {
		return nil
	}
	return w.submit()
}

func (w *frameWriter) pause() error {
	if w.n > 0 && w.frames.keep(1) {
		w.kept = true
		return nil
	}
	return w.submit()
}

func (w *frameWriter) resume() {
	if w.kept {
		w.frames.resume(1)
		w.kept = false
	}
}

// write adds b to the member.
func (w *frameWriter) write(b []byte) error {
	for len(b) > 0 {
		room, err := w.room()
		if err != nil {
			return err
		}
		n := copy(room, b)
		b = b[n:]
		if err := w.filled(n); err != nil {
			return err
		}
	}
	return nil
}

// submit has the frame being filled compressed and stored, in the background.
func (w *frameWriter) submit() error {
	b, n := w.buf, w.n
	w.buf, w.n = nil, 0
	if b == nil || n == 0 {
		if b != nil {
			w.frames.put(b)
		}
		return nil
	}
	w.mu.Lock()
	err := w.err
	e := w.entry
	at, counted := len(e.frames), w.counted
	e.frames = append(e.frames, frame{})
	e.size += int64(n)
	w.mu.Unlock()
	if err != nil {
		w.frames.put(b)
		return err
	}
	w.jobs.Go(func() {
		f, err := w.storeFrame(b[:n])
		w.frames.put(b)
		w.mu.Lock()
		defer w.mu.Unlock()
		if e.frames[at] = f; err != nil && w.err == nil {
			w.err = fail("write", e.name, err)
		}
		if !counted {
			w.w.stored.Add(int64(n))
		}
	})
	return nil
}

// finish has the rest compressed, and returns when all is stored. A member that is
// too small for that is returned, to be stored as it is.
func (w *frameWriter) finish() (plain []byte, err error) {
	w.resume()
	if len(w.entry.frames) == 0 && w.n < minCompressed {
		if w.buf == nil {
			return nil, nil
		}
		return w.buf[:w.n], nil
	}
	err = w.submit()
	w.jobs.Wait()
	w.entry.compressed = true
	if err == nil {
		err = w.err
	}
	return nil, err
}

// release gives back what the member needed.
func (w *frameWriter) release() {
	w.resume()
	if w.buf != nil {
		w.frames.put(w.buf)
		w.buf = nil
	}
	w.jobs.Wait()
}
