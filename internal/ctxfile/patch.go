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
	e.locate()
	err = e.each(offset, int64(len(data)), func(x extent) error {
		b := data[:x.length]
		data = data[x.length:]
		if staged {
			return writeAt(w.stage.fd, b, x.offset)
		}
		return w.writeOver(b, x.offset)
	})
	return err == nil, fail("write", name, err)
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
