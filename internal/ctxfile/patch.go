package ctxfile

// Patch writes data over a part of a member, from an offset on. The call of Pipe that has
// stored the member must have returned, and Close not have been called. Ok is false if
// nothing was written, because it is too late: the member was compressed, or has its
// checksums, as where the context cannot be read back. Errors are those of writing.
func (w *Writer) Patch(name string, offset int64, data []byte) (ok bool, err error) {
	w.mu.Lock()
	e := w.names[name]
	w.mu.Unlock()
	if e == nil || e.staged == nil && !e.unsummed {
		return false, nil
	}
	staged := e.staged != nil
	if staged {
		e = e.staged
	}
	if offset < 0 || offset+int64(len(data)) > e.size {
		return false, nil
	}
	for _, x := range e.extents {
		if offset >= x.length {
			offset -= x.length
			continue
		}
		if len(data) == 0 {
			break
		}
		b := data[:min(int64(len(data)), x.length-offset)]
		if staged {
			err = writeAt(w.stage.fd, b, x.offset+offset)
		} else {
			err = w.writeOver(b, x.offset+offset)
		}
		if err != nil {
			return false, fail("write", name, err)
		}
		data, offset = data[len(b):], 0
	}
	return true, nil
}

// writeOver writes at an offset of the context, or where that part of it is as long as it
// has not been brought back.
func (w *Writer) writeOver(b []byte, offset int64) error {
	for len(b) > 0 {
		fd, at, n := w.out.fd, w.out.base+offset, int64(len(b))
		if w.aside.count() > 0 {
			for _, p := range w.aside.pieces {
				switch {
				case p.offset <= offset && offset < p.end():
					fd, at, n = w.aside.fd, p.at+offset-p.offset, min(n, p.end()-offset)
				case offset < p.offset && fd == w.out.fd:
					n = min(n, p.offset-offset)
				}
			}
		}
		if err := writeAt(fd, b[:n], at); err != nil {
			return err
		}
		b, offset = b[n:], offset+n
	}
	return nil
}
