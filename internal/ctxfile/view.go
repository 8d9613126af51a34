package ctxfile

import (
	"runtime/debug"
	"unsafe"

	"golang.org/x/sys/unix"
)

// viewStep is how much of a view is checked and used at a time: what comes second finds it
// in the processor's cache.
const viewStep = 256 << 10

// View calls use with one part after the other of what ReadAt would read, but in place:
// mapped from the page cache, which saves a copy. What use gets is not to be written to,
// is valid until use returns, and is to be read by the kernel only, which answers with
// EFAULT where the file has failed or become shorter meanwhile.
//
// Each part is checked as by ReadAt. If checked is set that is done before use has it, else
// afterwards, which is faster: the kernel is better at reading from memory than a checksum
// is. Then an error also says that use has had data that is wrong.
//
// It returns how many bytes use has had, and ends when use returns false. For the others
// there is no such view, and ReadAt is to be used: those of compressed members, those not
// at whole pages, and those that would have to be read from the disk, for which mapped
// memory is slower. Errors are those of ReadAt.
func (r *Reader) View(name string, offset, length int64, checked bool, use func(data []byte) bool) (n int64, err error) {
	err = r.member(name, func(e *entry) error {
		if offset < 0 || length <= 0 || e.compressed || e.chunk == 0 || e.whole || length > e.size-offset {
			return nil
		}
		data := r.mapped(e, offset, length)
		if data == nil {
			return nil
		}
		defer func() { _ = unix.MunmapPtr(unsafe.Pointer(&data[0]), uintptr(length)) }()
		step := max(viewStep, e.chunk)
		for n < length {
			at := offset + n
			part := data[n:min(length, n+step-at%step)]
			more := checked || use(part)
			intact, err := r.checkView(e, part, at)
			switch {
			case err != nil:
				return err
			case !intact && checked:
				return nil // ReadAt says why
			case !intact:
				return fail("read", name, unix.EIO)
			}
			n += int64(len(part))
			if checked {
				more = use(part)
			}
			if !more {
				break
			}
		}
		return nil
	})
	return n, err
}

// mapped maps a part of a member, which may be in several places of the file, in one
// piece. It returns nil where that cannot be.
func (r *Reader) mapped(e *entry, offset, length int64) []byte {
	begin, err := unix.MmapPtr(-1, 0, nil, uintptr(length), unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
	if err != nil {
		return nil
	}
	done := int64(0)
	err = e.each(offset, length, func(x extent) error {
		x.offset += r.base
		if x.offset%pageSize != 0 || done%pageSize != 0 || !r.cached(x.offset) || !r.cached(x.end()-1) {
			return unix.EINVAL
		}
		_, err := unix.MmapPtr(r.fd, x.offset, unsafe.Add(begin, done), uintptr(x.length), unix.PROT_READ, unix.MAP_SHARED|unix.MAP_FIXED|unix.MAP_POPULATE)
		done += x.length
		return err
	})
	if err != nil {
		_ = unix.MunmapPtr(begin, uintptr(length))
		return nil
	}
	return unsafe.Slice((*byte)(begin), length)
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
