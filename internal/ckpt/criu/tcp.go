package criu

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/ckpt/criu/explain"
	"blcr-cli/internal/ckpt/criu/imagedir"
	"blcr-cli/internal/ckpt/criu/images"
	"blcr-cli/internal/ckpt/criu/pstree"
	"blcr-cli/internal/hints"
	"blcr-cli/internal/proc"
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
// nothing is to be sent before both are there. CRIU restores them one after the other, and
// what finds no other end breaks the connection. So a connection that can still send has
// nothing to be sent at first, see completeConnections. Nor has one end been shut down: CRIU
// has the other one receive that, which acknowledges it. It needs files.img as it is otherwise
// served.
func (p *plan) connections(source source) error {
	files, err := images.Files(p.images[images.FilesName])
	if err != nil {
		return err
	}
	var all []images.File
	ends := make(map[[2]netip.AddrPort][]images.File) // more than one only in several networks
	open := make(map[uint32]string)                   // images of connections that have a queue, by File.ID
	takes := canTakeDescriptors()
	for _, f := range files {
		name := images.TCPName(f.Inode)
		if f.Type != images.TypeInet || f.Inet.Protocol != protocolTCP {
			continue
		}
		if f.State == unix.BPF_TCP_LISTEN || f.State == unix.BPF_TCP_CLOSE {
			p.bound = append(p.bound, f.Inet.Local)
		}
		if !source.Has(name) {
			continue
		}
		all = append(all, f)
		addrs := [2]netip.AddrPort{addrPort(f.Inet.Local), addrPort(f.Inet.Peer)}
		ends[addrs] = append(ends[addrs], f)
	}
	shut := make(map[uint32][2]images.File) // those that have been shut down, and the other ends, by File.ID
	for _, f := range all {
		others := ends[[2]netip.AddrPort{addrPort(f.Inet.Peer), addrPort(f.Inet.Local)}]
		switch {
		case !takes:
		case f.State == tcpEstablished, f.State == tcpCloseWait:
			open[f.ID] = images.TCPName(f.Inode)
			continue
		case len(others) == 1 && canReopen(f.State, others[0].State):
			open[f.ID], shut[f.ID] = images.TCPName(f.Inode), [2]images.File{f, others[0]}
			continue
		}
		if err := p.allSent(source, images.TCPName(f.Inode)); err != nil {
			return err
		}
	}
	if err := p.takeQueues(source, open); err != nil {
		return err
	}
	if err := p.reopen(source, shut); err != nil {
		return err
	}
	p.ended = func(local, peer netip.AddrPort) bool {
		return len(ends[[2]netip.AddrPort{local, peer}]) > 0 && len(ends[[2]netip.AddrPort{peer, local}]) > 0
	}
	if len(ends) == 0 {
		p.ended = nil
	}
	return nil
}

// canReopen tells whether these are the states of an end that has been shut down, and of one
// that has not been.
func canReopen(end, other uint32) bool {
	return end == tcpFinWait1 && other == tcpEstablished || (end == tcpFinWait1 || end == tcpFinWait2) && other == tcpCloseWait
}

// reopen changes the images of connections of which one end has been shut down to what they
// were before, as far as that end can be shut down again.
func (p *plan) reopen(source source, shut map[uint32][2]images.File) error {
	opened := make(map[uint32]bool)
	change := func(f uint32, name string, sent bool) error {
		img, err := p.served(source, name)
		if err == nil {
			opened[f] = true
			p.images[name], err = images.WithoutFIN(img, sent)
		}
		return err
	}
	for i := range p.connectionEnds {
		end := &p.connectionEnds[i]
		both, ok := shut[end.file]
		other := both[1]
		if !ok {
			continue
		}
		const write = unix.SHUT_WR + 1
		end.shut = max(both[0].Inet.Shutdown, write)
		if err := change(end.file, end.image, true); err != nil {
			return err
		}
		if other.State == tcpCloseWait {
			if err := change(other.ID, images.TCPName(other.Inode), false); err != nil {
				return err
			}
		}
	}
	if len(opened) == 0 {
		return nil
	}
	files, err := images.OpenConnections(p.images[images.FilesName], opened)
	p.images[images.FilesName] = files
	return err
}

// addrPort is an address as a value that can be compared: one of IPv4 is the same for a socket
// of IPv6.
func addrPort(a images.InetAddr) netip.AddrPort {
	ip, _ := netip.AddrFromSlice([]byte(a.IP))
	return netip.AddrPortFrom(ip.Unmap(), a.Port)
}

// forgetConnections is for a restart soon after the job has ended: the system keeps the
// addresses of the job's own connections for a minute. So it does those of connections that were
// made after the checkpoint, which are in the way where the job had an address without
// SO_REUSEADDR.
func (p *plan) forgetConnections() {
	if p.container() { // its network is made, too
		return
	}
	taken := make(map[netip.AddrPort]bool)
	for _, a := range p.bound {
		if hints.Bind(a.IP, a.Port, unix.SOCK_STREAM) == unix.EADDRINUSE {
			taken[addrPort(a)] = true
		}
	}
	if p.ended == nil && len(taken) == 0 {
		return
	}
	pstree.Forget(func(local, peer netip.AddrPort) bool {
		return p.ended != nil && p.ended(local, peer) || taken[local] ||
			taken[netip.AddrPortFrom(netip.IPv4Unspecified(), local.Port())] || taken[netip.AddrPortFrom(netip.IPv6Unspecified(), local.Port())]
	})
}

// The states of a connection of which no end has been shut down, or one of them: this one
// (FIN_WAIT), or the other (tcp_states.h).
const (
	tcpEstablished = 1
	tcpFinWait1    = 4
	tcpFinWait2    = 5
	tcpCloseWait   = 8
)

// canTakeDescriptors tells whether the system has pidfd_getfd(2), which Linux has from 5.6 on.
func canTakeDescriptors() bool {
	_, err := unix.PidfdGetfd(-1, -1, 0)
	return err != unix.ENOSYS
}

// allSent has what a connection was to send count as sent, see images.AllSent.
func (p *plan) allSent(source source, name string) error {
	img, err := source.Bytes(name)
	if err != nil {
		return err
	}
	changed, err := images.AllSent(img)
	if err == nil && changed != nil {
		p.images[name] = changed
	}
	return err
}

// connectionEnd is one end of a connection that has nothing to be sent at first.
type connectionEnd struct {
	image string
	file  uint32          // its File.ID
	queue images.TCPQueue // what it was to send
	shut  uint32          // how it has been shut down after that, see images.InetSocket
	pid   int32           // a process that has the socket open
	fd    uint32          // as this descriptor
}

// takeQueues takes what some connections were to send out of their images. Open has the
// images by File.ID.
func (p *plan) takeQueues(source source, open map[uint32]string) error {
	if len(open) == 0 {
		return nil
	}
	err := p.eachTable(source, func(n uint32, pid int32) error {
		if len(open) == 0 {
			return nil
		}
		table, err := p.served(source, images.Name("fdinfo", n))
		if err != nil {
			return err
		}
		fds, err := images.FDs(table)
		if err != nil {
			return err
		}
		for _, fd := range fds {
			image, ok := open[fd.FileID]
			if !ok || fd.Type != images.TypeInet {
				continue
			}
			delete(open, fd.FileID)
			// No larger than the buffers of a socket.
			img, err := source.Bytes(image)
			if err != nil {
				return err
			}
			without, queue, err := images.TakeQueue(img)
			if err != nil {
				return err
			}
			p.images[image] = without
			p.connectionEnds = append(p.connectionEnds, connectionEnd{image: image, file: fd.FileID, queue: queue, pid: pid, fd: fd.FD})
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, image := range open {
		if err := p.allSent(source, image); err != nil {
			return err
		}
	}
	return nil
}

// completeConnections sends what connections of the job were to send when it was saved, and
// shuts down those that had been. All processes are there, and none of them runs.
func (r *restart) completeConnections() error {
	if len(r.plan.connectionEnds) == 0 {
		return nil
	}
	outer := r.numbers()
	for _, end := range r.plan.connectionEnds {
		if err := end.complete(r.source, outer(end.pid)); err != nil && (end.queue.Length > 0 || end.shut > 0) {
			if err == unix.ENOTCONN || err == unix.EPIPE || err == unix.ECONNRESET {
				return &ckpt.Error{Op: "restore", Object: "TCP connection", Errno: syscall.EBUSY, Detail: []string{
					fmt.Sprintf("the TCP connection of process %d, descriptor %d, was reset while it was restored", end.pid, end.fd), "try again"}}
			}
			return &ckpt.Error{Op: "restore", Object: "TCP connection", Errno: ckpt.ErrnoOf(err), Detail: []string{
				fmt.Sprintf("what process %d was to send by descriptor %d cannot be put into its queue again: %s", end.pid, end.fd, ckpt.Strerror(ckpt.ErrnoOf(err)))}}
		}
	}
	return nil
}

// complete sends what is to be sent by the socket of a process, pid as it is here.
func (e *connectionEnd) complete(source source, pid int) error {
	socket, err := proc.CopyDescriptor(pid, int(e.fd))
	if err != nil {
		return err
	}
	defer unix.Close(socket)
	// The system has not computed the size of segments anew since CRIU has set the limit for
	// it: they would have some 500 bytes. With so small ones a receiver has less room than it
	// has said, and a connection with full queues comes to a halt. Options of IP, even none,
	// have it computed.
	_ = unix.SetsockoptString(socket, unix.IPPROTO_IP, unix.IP_OPTIONS, "")
	buffer := make([]byte, min(e.queue.Length, 256<<10))
	for sent := int64(0); sent < e.queue.Length; {
		b := buffer[:min(int64(len(buffer)), e.queue.Length-sent)]
		if n, err := source.ReadAt(e.image, b, e.queue.Offset+sent); err != nil || n < len(b) {
			return cmp.Or(err, error(syscall.EIO))
		}
		for len(b) > 0 {
			n, err := unix.SendmsgN(socket, b, nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
			switch {
			case err == unix.EINTR:
			case err == unix.EAGAIN:
				restore, err := enlargeSending(socket)
				if err != nil {
					return err
				}
				defer restore()
			case err != nil:
				return err
			default:
				b, sent = b[n:], sent+int64(n)
			}
		}
	}
	if e.shut > 0 {
		return unix.Shutdown(socket, int(e.shut)-1)
	}
	return nil
}

// enlargeSending doubles the room that a socket has for what is to be sent: the system
// counts what it is kept in, too, which may be more than it was when the job was saved.
// The error is EAGAIN if it cannot be enlarged.
func enlargeSending(socket int) (restore func(), err error) {
	size, err := unix.GetsockoptInt(socket, unix.SOL_SOCKET, unix.SO_SNDBUF)
	if err != nil {
		return nil, err
	}
	const lock = 72 // SO_BUF_LOCK, since Linux 5.14
	locked, lockErr := unix.GetsockoptInt(socket, unix.SOL_SOCKET, lock)
	// The system doubles what it gets.
	if unix.SetsockoptInt(socket, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, size) != nil {
		_ = unix.SetsockoptInt(socket, unix.SOL_SOCKET, unix.SO_SNDBUF, size)
	}
	if now, err := unix.GetsockoptInt(socket, unix.SOL_SOCKET, unix.SO_SNDBUF); err != nil || now <= size {
		return nil, cmp.Or(err, error(unix.EAGAIN))
	}
	return func() {
		_ = unix.SetsockoptInt(socket, unix.SOL_SOCKET, unix.SO_SNDBUF, size/2)
		if lockErr == nil {
			_ = unix.SetsockoptInt(socket, unix.SOL_SOCKET, lock, locked)
		}
	}, nil
}

// waitedFor reports whether the restore has failed because the kernel still has a connection
// with the addresses of one of the job's, and may be tried again. Of a job that was just killed
// it keeps some in the state TIME-WAIT, and gives their addresses away after a second
// (net.ipv4.tcp_tw_reuse).
func (r *restart) waitedFor(ctx context.Context, err error, deadline time.Time) bool {
	if err == nil || r.criu == nil || r.resumed.Load() || !time.Now().Before(deadline) || !explain.ConnectionInUse(r.criu.Errors()) {
		return false
	}
	select {
	case <-ctx.Done():
		return false
	case <-time.After(200 * time.Millisecond):
		return true
	}
}
