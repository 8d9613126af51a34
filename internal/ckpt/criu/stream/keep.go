package stream

import (
	"fmt"
	"sync"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/proc"
)

// A process that is dumped writes its memory into a pipe of criu's, by criu's code in it.
// If criu is killed at that moment the pipe has no reader, and the process gets SIGPIPE,
// of which it dies when it has left that code. So these pipes are kept open here as well.

// keeper has descriptors of pipes that belong to criu.
type keeper struct {
	mu     sync.Mutex
	kept   map[string]int  // by what /proc calls a pipe, a descriptor for reading
	images map[string]bool // pipes with images, which must end when nothing reads them
}

// pipeName is what /proc calls the pipe that is open as fd.
func pipeName(fd int) string {
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil {
		return ""
	}
	return fmt.Sprintf("pipe:[%d]", st.Ino)
}

// image notes a pipe with an image until done is called.
func (k *keeper) image(fd int) (done func()) {
	name := pipeName(fd)
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.images == nil {
		k.images = make(map[string]bool)
	}
	k.images[name] = true
	return func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		delete(k.images, name)
	}
}

// keep opens the pipes of which criu itself has both ends, and lets go of the others. It
// needs the right to trace criu, which an ordinary user may not have; then it keeps
// none.
func (k *keeper) keep(criu int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	const read, write = 1, 2
	ends, fds := make(map[string]int), make(map[string]int)
	for d, err := range proc.Descriptors(criu) {
		if err != nil || len(d.Link) < len("pipe:[") || d.Link[:len("pipe:[")] != "pipe:[" {
			continue
		}
		if d.Readable {
			ends[d.Link] |= read
			fds[d.Link] = d.FD
		}
		if d.Writable {
			ends[d.Link] |= write
		}
	}
	for name, fd := range k.kept {
		if ends[name] != read|write {
			unix.Close(fd)
			delete(k.kept, name)
		}
	}
	for name, both := range ends {
		if _, ok := k.kept[name]; ok || both != read|write || k.images[name] {
			continue
		}
		fd, err := unix.Open(proc.Open(criu, fds[name]), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			continue
		}
		if pipeName(fd) != name { // it has been closed meanwhile, and the number is another's
			unix.Close(fd)
			continue
		}
		if k.kept == nil {
			k.kept = make(map[string]int)
		}
		k.kept[name] = fd
	}
}

// release closes all of them.
func (k *keeper) release() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, fd := range k.kept {
		unix.Close(fd)
	}
	k.kept = nil
}
