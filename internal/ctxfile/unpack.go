package ctxfile

import (
	"fmt"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
)

// unpacking is what a Reader decompresses with.
type unpacking struct {
	r      *Reader
	frames *frames
	idle   chan *unpacker // nil for one that has not been made yet
}

// unpacker decompresses one frame at a time.
type unpacker struct {
	zstd *zstd.Decoder
	in   []byte
}

func newUnpacking(r *Reader) *unpacking {
	u := &unpacking{r: r, frames: newFrames(2*(Workers()+1), Workers()), idle: make(chan *unpacker, Workers())}
	for range cap(u.idle) {
		u.idle <- nil
	}
	return u
}

func newUnpacker() *unpacker {
	d, err := zstd.NewReader(nil,
		zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxMemory(frameSize), zstd.WithDecoderMaxWindow(frameSize),
		zstd.WithDecodeAllCapLimit(true))
	if err != nil {
		panic(err) // an option would be out of its range
	}
	return &unpacker{zstd: d}
}

// unpack reads a frame of an image into b, and returns what it has. The frame
// has been found possible, no more.
func (u *unpacking) unpack(e *entry, f frame, b *frameBuffer) ([]byte, error) {
	if f.stored == 0 {
		return zeros[:f.length], nil
	}
	data := b[:f.length]
	if f.stored == f.length {
		if err := u.r.read(e.name, data, f.offset); err != nil {
			return nil, err
		}
	} else {
		k := <-u.idle
		defer func() { u.idle <- k }()
		if k == nil {
			k = newUnpacker()
		}
		if cap(k.in) < int(f.stored) {
			k.in = make([]byte, frameSize)
		}
		in := k.in[:f.stored]
		if err := u.r.read(e.name, in, f.offset); err != nil {
			return nil, err
		}
		out, err := k.decode(in, b[:0:f.length])
		switch {
		case err != nil:
			return nil, invalid(e.name, "the frame at %d is damaged: %v", f.offset, err)
		case len(out) != len(data):
			return nil, invalid(e.name, "the frame at %d is damaged: it has %d bytes instead of %d", f.offset, len(out), len(data))
		}
		data = out
	}
	if checksum(0, data) != f.sum {
		return nil, invalid(e.name, "the frame at %d is damaged: checksum does not match", f.offset)
	}
	return data, nil
}

// decode decompresses in to out, which is large enough or in is damaged. What in
// is made for may be to crash the decoder; that it does so is an error.
func (k *unpacker) decode(in, out []byte) (data []byte, err error) {
	defer func() {
		if p := recover(); p != nil {
			k.zstd = newUnpacker().zstd
			data, err = nil, fmt.Errorf("it cannot be decompressed: %v", p)
		}
	}()
	return k.zstd.DecodeAll(in, out)
}

// scan hands all of an image to each, frame by frame.
func (u *unpacking) scan(e *entry, each func([]byte) error) error {
	b := u.frames.get(&u.r.gate)
	if b == nil {
		return unix.ECANCELED
	}
	defer u.frames.put(b)
	for _, f := range e.frames {
		if u.r.gate.isAborted() {
			return unix.ECANCELED
		}
		data, err := u.unpack(e, f, b)
		if err == nil {
			err = each(data)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// unpacked is an image on its way from an unpacking into a pipe.
type unpacked struct {
	*unpacking
	entry *entry
	next  int      // the first frame that is not ahead
	ahead []*ahead // those that are being unpacked, or are, in order
	done  int      // of the first of them, what is in the pipe
	kept  int      // while waiting
}

// ahead is a frame that may not be needed yet.
type ahead struct {
	buf   *frameBuffer
	ready chan struct{}
	data  []byte
	err   error
}

// step writes as much as there is room for. It is a step of pipe.write.
func (s *unpacked) step(fd int) (bool, error) {
	s.frames.wake(s.kept)
	s.kept = 0
	for {
		if s.r.gate.isAborted() || !s.look() {
			return false, unix.ECANCELED
		}
		if len(s.ahead) == 0 {
			return true, nil
		}
		first := s.ahead[0]
		<-first.ready
		if first.err != nil {
			return false, first.err
		}
		for s.done < len(first.data) {
			n, err := unix.Write(fd, first.data[s.done:])
			switch {
			case err == unix.EINTR:
			case err == unix.EAGAIN:
				s.pause()
				return false, nil
			case err != nil:
				return false, fail("write", s.entry.name, err)
			default:
				s.done += n
				s.r.served.Add(int64(n))
			}
		}
		s.frames.put(first.buf)
		s.ahead, s.done = s.ahead[1:], 0
	}
}

// look begins to unpack as many frames as may be. False if there was an abort
// before the first.
func (s *unpacked) look() bool {
	for s.next < len(s.entry.frames) && len(s.ahead) <= Workers() {
		b := s.frames.tryGet()
		if b == nil && len(s.ahead) > 0 {
			break
		}
		if b == nil {
			if b = s.frames.get(&s.r.gate); b == nil {
				return false
			}
		}
		a := &ahead{buf: b, ready: make(chan struct{})}
		f := s.entry.frames[s.next]
		go func() {
			defer close(a.ready)
			a.data, a.err = s.unpack(s.entry, f, b)
		}()
		s.ahead = append(s.ahead, a)
		s.next++
	}
	return true
}

// pause is called before a wait, which may be long. If many wait, what is ahead
// is given up, to be unpacked once more.
func (s *unpacked) pause() {
	if n := len(s.ahead); s.frames.sleep(n) {
		s.kept = n
		return
	}
	s.giveUp()
}

func (s *unpacked) giveUp() {
	s.frames.wake(s.kept)
	s.kept = 0
	for _, a := range s.ahead {
		<-a.ready
		s.frames.put(a.buf)
	}
	s.next -= len(s.ahead)
	s.ahead = nil
}
