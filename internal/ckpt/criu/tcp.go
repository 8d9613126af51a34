package criu

import (
	"sync"

	"blcr-cli/internal/ckpt/criu/explain"
	"blcr-cli/internal/ckpt/criu/imagedir"
	"blcr-cli/internal/ckpt/criu/images"
	"blcr-cli/internal/ckpt/criu/pstree"
)

// protocolTCP is IPPROTO_TCP.
const protocolTCP = 6

// takenEnds are the ends of TCP connections as a dump has taken them, by inode.
type takenEnds struct {
	mu   sync.Mutex
	ends map[uint64]images.TCPEnd
}

// add adds an end, of which it gets the beginning of the image. One that it cannot read it
// leaves to the restart.
func (t *takenEnds) add(inode uint64, head []byte) {
	end, err := images.ReadTCP(head)
	if err != nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ends == nil {
		t.ends = make(map[uint64]images.TCPEnd)
	}
	t.ends[inode] = end
}

// checkConnections looks whether bytes are in neither end of a connection of the job. CRIU
// takes the ends one after the other, and the kernel's timers send meanwhile: what one end
// had queued can be received, and acknowledged, by another that has been taken. It is called
// when all is in the context and the processes are still frozen.
func (c *capture) checkConnections() error {
	if c.request.Dir != "" {
		c.readEnds()
	}
	if len(c.ends.ends) < 2 {
		return nil
	}
	peers, err := pstree.TCPPeers()
	if err != nil {
		return nil // The preflight has looked at these connections in the same way.
	}
	for inode, end := range c.ends.ends {
		if other, ok := c.ends.ends[peers[inode]]; ok && end.Lacks(other) {
			return explain.Moved()
		}
	}
	return nil
}

// readEnds reads the ends from the images, where those are in a directory. What cannot be
// read is left to the restart.
func (c *capture) readEnds() {
	dir, err := imagedir.Open(int(c.request.FD), c.request.Dir)
	if err != nil {
		return
	}
	defer dir.Close()
	list, _ := dir.List()
	for _, image := range list {
		if inode, ok := images.TCPInode(image.Name); ok {
			head := make([]byte, images.TCPHead)
			n, _ := dir.ReadAt(image.Name, head, 0)
			c.ends.add(inode, head[:n])
		}
	}
}

// connections changes the images of TCP connections, both ends of which are in the job:
// nothing is to be sent before both are there. It needs files.img as it is otherwise
// served.
func (p *plan) connections(source source) error {
	files, err := images.Files(p.images[images.FilesName])
	if err != nil {
		return err
	}
	ends := make(map[images.InetSocket]bool)
	for _, f := range files {
		name := images.TCPName(f.Inode)
		if f.Type != images.TypeInet || f.Inet.Protocol != protocolTCP || !source.Has(name) {
			continue
		}
		ends[f.Inet] = true
		start := make([]byte, images.TCPHead)
		n, err := source.ReadAt(name, start, 0)
		if err != nil {
			return err
		}
		head, replaced, err := images.AllSent(start[:n])
		if err != nil {
			return err
		}
		if head == nil {
			continue
		}
		// No larger than the buffers of a socket.
		img, err := source.Bytes(name)
		if err != nil {
			return err
		}
		p.images[name] = append(head, img[min(replaced, len(img)):]...)
	}
	p.ended = func(local, peer string, localPort, peerPort uint16) bool {
		l, r := images.InetAddr{IP: local, Port: localPort}, images.InetAddr{IP: peer, Port: peerPort}
		return ends[images.InetSocket{Protocol: protocolTCP, Local: l, Peer: r}] && ends[images.InetSocket{Protocol: protocolTCP, Local: r, Peer: l}]
	}
	if len(ends) == 0 {
		p.ended = nil
	}
	return nil
}

// forgetConnections is for a restart soon after the job has ended: the system keeps the
// addresses of the job's own connections for a minute.
func (p *plan) forgetConnections() {
	if p.ended != nil {
		pstree.Forget(p.ended)
	}
}
