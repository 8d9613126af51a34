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

// image notes a pipe with an image until done is called. It lets go of that one.
func (k *keeper) image(fd int) (done func()) {
	name := pipeName(fd)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.drop(func(kept string) bool { return kept == name })
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

// keep lets go of the pipes that criu has closed, and keeps those that it has now.
func (k *keeper) keep(criu int) {
	ends, fds := bothEnds(criu)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.drop(func(name string) bool { return ends[name] != readEnd|writeEnd })
	k.add(criu, ends, fds)
}

// prune lets go of the pipes of which criu, if it has not ended, does not have both ends
// any more: images of which it had, and which it has announced to nobody. It would wait
// for ever until one of those is read.
func (k *keeper) prune(criu int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.kept) == 0 {
		return
	}
	ends, _ := bothEnds(criu)
	if len(ends) == 0 {
		return
	}
	k.drop(func(name string) bool { return ends[name] != readEnd|writeEnd })
}

// drop closes some of the pipes. mu is held.
func (k *keeper) drop(those func(name string) bool) {
	for name, fd := range k.kept {
		if those(name) {
			unix.Close(fd)
			delete(k.kept, name)
		}
	}
}

// keepMore keeps the pipes that criu makes until there is something in the pipe of an image
// of memory, or stopped returns true: criu asks for that image first, and makes pipes for
// what the process's memory turns out to need. It lets go of none, as criu may just have
// been killed.
func (k *keeper) keepMore(criu, image int, stopped func() bool) {
	const wait = 1 // in milliseconds
	fds := []unix.PollFd{{Fd: int32(image), Events: unix.POLLIN}}
	for !stopped() {
		n, err := unix.Poll(fds, wait)
		ends, fds := bothEnds(criu)
		k.mu.Lock()
		k.add(criu, ends, fds)
		k.mu.Unlock()
		if n > 0 || err != nil && err != unix.EINTR {
			return
		}
	}
}

const (
	readEnd = 1 << iota
	writeEnd
)

// bothEnds returns which ends of pipes criu has open, by the pipes' names, and descriptors
// of criu's for reading.
func bothEnds(criu int) (ends, fds map[string]int) {
	ends, fds = make(map[string]int), make(map[string]int)
	for d, err := range proc.Pipes(criu) {
		if err != nil {
			continue
		}
		if d.Readable {
			ends[d.Link] |= readEnd
			fds[d.Link] = d.FD
		}
		if d.Writable {
			ends[d.Link] |= writeEnd
		}
	}
	return ends, fds
}

// add opens the pipes of which criu itself has both ends. It needs the right to trace criu,
// which an ordinary user may not have; then it opens none. mu is held.
func (k *keeper) add(criu int, ends, fds map[string]int) {
	for name, both := range ends {
		if _, ok := k.kept[name]; ok || both != readEnd|writeEnd || k.images[name] {
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
