package stream

import "encoding/binary"

// The protocol of criu's lazy pages, which come when the processes have been made.
// Criu sends the pid of each process, 4 bytes in the machine's order, and then a byte
// of no meaning with a userfaultfd. A process that has ended has a negative number
// and no descriptor. There is a last number when the restore is done.

// lazySocket is what criu connects to in its working directory.
const lazySocket = "lazy-pages.socket"

// restoreFinished is that last number (LAZY_PAGES_RESTORE_FINISHED).
const restoreFinished = 0x52535446

// memoryOf reads about one process.
func (c *Criu) memoryOf() error {
	var head [4]byte
	n, err := c.readFull(c.lazyConn, head[:])
	if err != nil {
		return err
	}
	if n < len(head) {
		return errHungUp
	}
	pid := int32(binary.NativeEndian.Uint32(head[:]))
	if pid < 0 || pid == restoreFinished {
		return nil
	}
	uffd, err := c.readDescriptor(c.lazyConn)
	if err != nil {
		return err
	}
	c.handler.Memory(pid, uffd)
	return nil
}
