package ctxfile

import (
	"bytes"
	"sync"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
)

// Levels of compression are those of zstd(1), as far as they make a difference.
const (
	MinLevel     = 1
	DefaultLevel = 1 // the processes are frozen meanwhile
	MaxLevel     = 22
)

// packing is what a Writer compresses with.
type packing struct {
	w      *Writer
	speed  zstd.EncoderLevel
	frames *frames
	idle   chan *packer // nil for one that has not been made yet
}

// packer compresses one frame at a time.
type packer struct {
	zstd *zstd.Encoder
	out  []byte
}

func newPacking(w *Writer, level int) *packing {
	p := &packing{w: w, frames: newFrames(2, 2*Workers())}
	n := Workers()
	switch {
	case level < 3:
		p.speed = zstd.SpeedFastest
	case level < 6:
		p.speed = zstd.SpeedDefault
	default:
		// There is a better one, with tables of 37 MiB.
		p.speed = zstd.SpeedBetterCompression
		n = min(n, 2) // of 4 MiB
	}
	p.idle = make(chan *packer, n)
	for range n {
		p.idle <- nil
	}
	return p
}

func (p *packing) newPacker() *packer {
	e, err := zstd.NewWriter(nil,
		zstd.WithEncoderLevel(p.speed), zstd.WithEncoderConcurrency(1),
		zstd.WithWindowSize(frameSize), zstd.WithLowerEncoderMem(true),
		zstd.WithEncoderCRC(false)) // there is one in the index
	if err != nil {
		panic(err) // an option would be out of its range
	}
	return &packer{zstd: e, out: make([]byte, 0, e.MaxEncodedSize(frameSize))}
}

// pack stores b as a frame.
func (p *packing) pack(b []byte) (frame, error) {
	f := frame{length: uint32(len(b))}
	if bytes.Equal(b, zeros[:len(b)]) {
		return f, nil
	}
	f.sum = checksum(0, b)
	k := <-p.idle // never for long, but for output that has to wait
	defer func() { p.idle <- k }()
	if p.w.gate.isAborted() {
		return f, unix.ECANCELED
	}
	if k == nil {
		k = p.newPacker()
	}
	stored := k.zstd.EncodeAll(b, k.out)
	if len(stored) > len(b)-len(b)/16 {
		stored = b // it does not pay
	}
	x, err := p.w.out.store(stored, false, -1)
	f.offset, f.stored = x.offset, uint32(len(stored))
	return f, err
}

// packed is an image on its way through a packing. One goroutine uses it, and
// the frames of it that are being packed each have one more.
type packed struct {
	*packing
	entry *entry
	buf   *frameBuffer // being filled, or nil
	n     int          // of buf
	kept  bool         // buf, while waiting

	jobs sync.WaitGroup
	mu   sync.Mutex // of what follows, and the entry's frames
	err  error      // of a frame
}

// room returns the free part of the frame being filled, which is not empty.
func (p *packed) room() ([]byte, error) {
	if p.buf == nil {
		if p.buf, p.n = p.frames.get(&p.w.gate), 0; p.buf == nil {
			return nil, unix.ECANCELED
		}
	}
	return p.buf[p.n:], nil
}

// filled notes that there are n bytes more in the frame.
func (p *packed) filled(n int) error {
	if p.n += n; p.n < frameSize {
		return nil
	}
	return p.submit()
}

// write adds b to the image.
func (p *packed) write(b []byte) error {
	for len(b) > 0 {
		room, err := p.room()
		if err != nil {
			return err
		}
		n := copy(room, b)
		b = b[n:]
		if err := p.filled(n); err != nil {
			return err
		}
	}
	return nil
}

// submit has the frame packed.
func (p *packed) submit() error {
	b, n := p.buf, p.n
	p.buf, p.n = nil, 0
	if b == nil || n == 0 {
		if b != nil {
			p.frames.put(b)
		}
		return nil
	}
	p.mu.Lock()
	err := p.err
	e := p.entry
	at := len(e.frames)
	e.frames = append(e.frames, frame{})
	e.size += int64(n)
	p.mu.Unlock()
	if err != nil {
		p.frames.put(b)
		return err
	}
	p.jobs.Go(func() {
		f, err := p.pack(b[:n])
		p.frames.put(b)
		p.mu.Lock()
		defer p.mu.Unlock()
		if e.frames[at] = f; err != nil && p.err == nil {
			p.err = fail("write", e.name, err)
		}
		p.w.stored.Add(int64(n))
	})
	return nil
}

// copy reads as much as there is. It is a step of pipe.read.
func (p *packed) copy(fd int) (bool, error) {
	p.resume()
	for {
		if p.w.gate.isAborted() {
			return false, unix.ECANCELED
		}
		room, err := p.room()
		if err != nil {
			return false, err
		}
		n, err := unix.Read(fd, room)
		switch {
		case err == unix.EINTR:
		case err == unix.EAGAIN:
			return false, p.pause()
		case err != nil:
			return false, err
		case n == 0:
			return true, nil
		default:
			if err := p.filled(n); err != nil {
				return false, err
			}
		}
	}
}

// pause is called before a wait, which may be long, and resume after it.
func (p *packed) pause() error {
	if p.n > 0 && p.frames.sleep(1) {
		p.kept = true
		return nil
	}
	return p.submit()
}

func (p *packed) resume() {
	if p.kept {
		p.frames.wake(1)
		p.kept = false
	}
}

// finish packs the rest, if it pays, and returns when all is stored. It returns
// what is better stored as it is.
func (p *packed) finish() (plain []byte, err error) {
	p.resume()
	if len(p.entry.frames) == 0 && p.n < minPacked {
		if p.buf == nil {
			return nil, nil
		}
		return p.buf[:p.n], nil
	}
	err = p.submit()
	p.jobs.Wait()
	p.entry.compressed, p.entry.hasSum = true, false
	if err == nil {
		err = p.err
	}
	return nil, err
}

// done gives back what the image needed.
func (p *packed) done() {
	p.resume()
	if p.buf != nil {
		p.frames.put(p.buf)
		p.buf = nil
	}
	p.jobs.Wait()
}
