package ctxfile

import (
	"runtime/debug"

	"golang.org/x/sys/unix"
)

// View calls use with a part of a member as ReadAt would read it, checked as there, but
// in place: mapped from the page cache, which saves a copy. What use gets is not to be
// written to, is valid until use returns, and is to be read by the kernel only, which
// answers with EFAULT where the file has failed or become shorter meanwhile.
//
// It is false if there is no such view: then use was not called, and ReadAt is to be
// used. That is so for compressed members, for parts that are not in one piece or not at
// whole pages, and for those that would have to be read from the disk, for which mapped
// memory is slower. Errors are those of ReadAt.
func (r *Reader) View(name string, offset, length int64, use func(data []byte)) (viewed bool, err error) {
	err = r.member(name, func(e *entry) error {
		var at extent
		if offset < 0 || length <= 0 || e.compressed || e.chunk == 0 || e.whole || length > e.size-offset {
			return nil
		}
		if err := e.each(offset, length, func(x extent) error { at = x; return nil }); err != nil || at.length != length {
			return err
		}
		at.offset += r.base
		if at.offset%pageSize != 0 || !r.cached(at.offset) || !r.cached(at.end()-1) {
			return nil
		}
		data, err := unix.Mmap(r.fd, at.offset, int(length), unix.PROT_READ, unix.MAP_SHARED)
		if err != nil {
			return nil
		}
		defer func() { _ = unix.Munmap(data) }()
		if intact, err := r.checkView(e, data, offset); !intact || err != nil {
			return err
		}
		viewed = true
		use(data)
		return nil
	})
	return viewed, err
}

// cached tells whether a byte of the file can be read without waiting for the disk.
func (r *Reader) cached(offset int64) bool {
	var b [1]byte
	n, err := unix.Preadv2(r.fd, [][]byte{b[:]}, offset, unix.RWF_NOWAIT)
	return n == 1 && err == nil
}

// checkView is checkPart for data that is mapped. It is not intact if some of it cannot
// be read, for which a process gets SIGBUS.
func (r *Reader) checkView(e *entry, data []byte, offset int64) (intact bool, err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if cause := recover(); cause != nil {
			if _, is := cause.(interface{ Addr() uintptr }); !is {
				panic(cause)
			}
			intact = false
		}
	}()
	return true, r.checkPart(e, data, offset)
}
