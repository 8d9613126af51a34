package ctxfile

import (
	"fmt"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
)

// decompressor decompresses the members of a Reader.
type decompressor struct {
	r      *Reader
	frames *framePool
	idle   chan *decoder // nil stands for one that has not been made yet
}

// decoder decompresses one frame at a time.
type decoder struct {
	zstd *zstd.Decoder
	in   []byte
}

func newDecompressor(r *Reader) *decompressor {
	d := &decompressor{r: r, frames: newFramePool(2*(Workers()+1), Workers()), idle: make(chan *decoder, Workers())}
	for range cap(d.idle) {
		d.idle <- nil
	}
	return d
}

func newDecoder() *decoder {
	z, err := zstd.NewReader(nil,
		zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxMemory(frameSize), zstd.WithDecoderMaxWindow(frameSize),
		zstd.WithDecodeAllCapLimit(true))
	if err != nil {
		panic(err) // an option would be out of its range
	}
	return &decoder{zstd: z}
}

// readFrame reads a frame of a member, with b as the buffer, and returns its
// content. The buffer is large enough. Of the frame no more is known than that it is
// possible.
func (d *decompressor) readFrame(e *entry, f frame, b []byte) ([]byte, error) {
	if f.stored == 0 {
		return zeroFrame[:f.length], nil
	}
	data := b[:f.length]
	in := data
	if f.stored == f.length {
		if err := d.r.read(e.name, data, f.offset); err != nil {
			return nil, err
		}
	} else {
		k := <-d.idle
		defer func() { d.idle <- k }()
		if k == nil {
			k = newDecoder()
		}
		if cap(k.in) < int(f.stored) {
			k.in = make([]byte, frameSize)
		}
		in = k.in[:f.stored]
		if err := d.r.read(e.name, in, f.offset); err != nil {
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
	if d.r.header.version < version3 {
		in = data
	}
	if frameSum(in, data) != f.sum {
		return nil, invalid(e.name, "the frame at %d is damaged: checksum does not match", f.offset)
	}
	return data, nil
}

// decode decompresses in to out, which is large enough unless in is damaged. A
// crash of the decompressor, for which in may be made, is an error.
func (k *decoder) decode(in, out []byte) (data []byte, err error) {
	defer func() {
		if p := recover(); p != nil {
			k.zstd = newDecoder().zstd
			data, err = nil, fmt.Errorf("it cannot be decompressed: %v", p)
		}
	}()
	return k.zstd.DecodeAll(in, out)
}

// scan passes all of a member to each, frame by frame.
func (d *decompressor) scan(e *entry, each func([]byte) error) error {
	b := d.frames.get(d.r.calls)
	if b == nil {
		return unix.ECANCELED
	}
	defer d.frames.put(b)
	for _, f := range e.frames {
		if d.r.calls.isAborted() {
			return unix.ECANCELED
		}
		data, err := d.readFrame(e, f, b[:])
		if err == nil {
			err = each(data)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// frameServer writes a compressed member into a pipe. It has frames decompressed
// ahead of the one that is being written.
type frameServer struct {
	*decompressor
	entry *entry
	next  int           // the first frame that is not ahead
	ahead []*aheadFrame // those being decompressed, or decompressed, in order
	done  int           // how much of the first of them is in the pipe
	kept  int           // buffers kept during a wait
}

// aheadFrame is a frame that may not be needed yet.
type aheadFrame struct {
	buf   *frameBuffer
	ready chan struct{} // closed when data or err is set
	data  []byte
	err   error
}

// step writes as much as there is room for. It is a step of pipeEnd.write.
func (s *frameServer) step(fd int) (bool, error) {
	s.frames.resume(s.kept)
	s.kept = 0
	for {
		if s.r.calls.isAborted() || !s.readAhead() {
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

// readAhead begins to decompress as many frames as there are workers. It returns
// false if there was an abort before the first.
func (s *frameServer) readAhead() bool {
	for s.next < len(s.entry.frames) && len(s.ahead) <= Workers() {
		b := s.frames.tryGet()
		if b == nil && len(s.ahead) > 0 {
			break
		}
		if b == nil {
			if b = s.frames.get(s.r.calls); b == nil {
				return false
			}
		}
		a := &aheadFrame{buf: b, ready: make(chan struct{})}
		f := s.entry.frames[s.next]
		go func() {
			defer close(a.ready)
			a.data, a.err = s.readFrame(s.entry, f, b[:])
		}()
		s.ahead = append(s.ahead, a)
		s.next++
	}
	return true
}

// pause is called before a wait, which may be long. If many members wait, what is
// ahead is dropped, to be decompressed again.
func (s *frameServer) pause() {
	if n := len(s.ahead); s.frames.keep(n) {
		s.kept = n
		return
	}
	s.drop()
}

// drop gives back what is ahead.
func (s *frameServer) drop() {
	s.frames.resume(s.kept)
	s.kept = 0
	for _, a := range s.ahead {
		<-a.ready
		s.frames.put(a.buf)
	}
	s.next -= len(s.ahead)
	s.ahead = nil
}
