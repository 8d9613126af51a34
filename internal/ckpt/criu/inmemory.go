package criu

import (
	"context"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt/criu/images"
	"blcr-cli/internal/ckpt/criu/memory"
	"blcr-cli/internal/ckpt/criu/tempdir"
)

// For each image that is streamed criu and this process have to wait for one another,
// and of the processes that criu makes one at a time is served. If memory is filled by
// this process, what is left is small: criu finds that in files, in a directory in memory
// that has no name and is gone with the processes that use it.

// mostInMemory is how many bytes of images are copied into files.
const mostInMemory = 32 << 20

// imagesInMemory returns a directory with the images as they are to be restored, but for
// the memory that is filled; -1 where that cannot be, or would be much.
func (r *restart) imagesInMemory(ctx context.Context) (dir int) {
	if len(r.plan.heads) > 0 {
		return -1
	}
	sizes := imageSizes(r.source)
	for _, name := range r.plan.hidden {
		delete(sizes, name)
	}
	for name, changed := range r.plan.images {
		sizes[name] = int64(len(changed))
	}
	all := int64(0)
	for name, size := range sizes {
		if images.IsMember(name) {
			delete(sizes, name)
			continue
		}
		if pieces, some := r.fill.pipes[name]; some {
			size = 0
			for _, p := range pieces {
				size += p.Length
			}
		}
		all += size
	}
	if all > mostInMemory {
		return -1
	}
	dir, err := tempdir.Unnamed()
	if err != nil {
		return -1
	}
	buffer := make([]byte, 256<<10)
	for name, size := range sizes {
		if err = r.copyImage(dir, name, size, buffer); err != nil || ctx.Err() != nil {
			unix.Close(dir)
			return -1 // whatever it is, it will be found again
		}
	}
	r.filled.Add(all)
	return dir
}

// copyImage writes an image into the directory, by way of a buffer.
func (r *restart) copyImage(dir int, name string, size int64, buffer []byte) error {
	fd, err := unix.Openat(dir, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	pieces, some := r.fill.pipes[name]
	if !some {
		if image := r.changed(name); image != nil {
			return writeAll(fd, image, 0)
		}
		pieces = []memory.Piece{{Length: size}}
	}
	read := r.readPages(name)
	for _, p := range pieces {
		for p.Length > 0 {
			b := buffer[:min(int64(len(buffer)), p.Length)]
			if err := read(b, p.Offset); err != nil {
				return err
			}
			if err := writeAll(fd, b, p.Offset); err != nil {
				return err
			}
			p.Offset, p.Length = p.Offset+int64(len(b)), p.Length-int64(len(b))
		}
	}
	return nil
}

// writeAll writes all of b at an offset.
func writeAll(fd int, b []byte, offset int64) error {
	for len(b) > 0 {
		n, err := unix.Pwrite(fd, b, offset)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		b, offset = b[n:], offset+int64(n)
	}
	return nil
}

// closeInMemory gives the directory back.
func (r *restart) closeInMemory() {
	if r.inMemory >= 0 {
		unix.Close(r.inMemory)
		r.inMemory = -1
	}
}
