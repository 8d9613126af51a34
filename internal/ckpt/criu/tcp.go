package criu

import (
	"blcr-cli/internal/ckpt/criu/images"
	"blcr-cli/internal/ckpt/criu/pstree"
)

// protocolTCP is IPPROTO_TCP.
const protocolTCP = 6

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
