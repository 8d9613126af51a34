package inspect

import (
	"fmt"
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt/criu/images"
)

// States of TCP, which all sockets have.
const (
	tcpEstablished = 1 // TCP_ESTABLISHED; a connected UDP socket has it as well
	tcpListen      = 10
)

// kinds are the names of the types of files. Some files have other names; see
// inspection.file.
var kinds = map[images.FileType]string{
	images.TypeReg: "file", images.TypePipe: "pipe", images.TypeFIFO: "fifo", images.TypeTTY: "terminal",
	images.TypeInet: "inet_socket", images.TypeUnix: "unix_socket", images.TypePacket: "packet_socket", images.TypeNetlink: "netlink_socket",
	images.TypeEventFD: "eventfd", images.TypeEventPoll: "epoll", images.TypeInotify: "inotify", images.TypeFanotify: "fanotify",
	images.TypeSignalFD: "signalfd", images.TypeTimerFD: "timerfd", images.TypeMemFD: "memfd", images.TypePIDFD: "pidfd",
	images.TypeNS: "namespace", images.TypeTun: "tun", images.TypeBPFMap: "bpf_map", images.TypeExt: "external",
}

// protocols are the names of the kinds of TypeInet by the protocol of IP.
var protocols = map[uint32]string{unix.IPPROTO_TCP: "tcp_socket", unix.IPPROTO_UDP: "udp_socket"}

// file describes a descriptor.
func (in *inspection) file(fd images.FD) File {
	f := in.files[fd.FileID]
	d := File{
		FD: fd.FD, Kind: kinds[fd.Type], Offset: -1,
		CloseOnExec: fd.Flags&unix.FD_CLOEXEC != 0,
		Removed:     in.removed[fd.FileID], External: in.external[fd.FileID],
	}
	if d.Kind == "" {
		d.Kind = fmt.Sprintf("type_%d", fd.Type)
	}
	if f.ID != fd.FileID || f.Type != fd.Type { // there is no such file
		return d
	}
	switch f.Type {
	case images.TypeReg:
		d.Path, d.Access, d.Offset = f.Name, access(f.Flags), int64(f.Pos)
		switch f.Mode & unix.S_IFMT {
		case unix.S_IFDIR:
			d.Kind = "directory"
		case unix.S_IFCHR, unix.S_IFBLK:
			d.Kind = "device"
		}
	case images.TypePipe:
		d.Inode, d.Access = f.PipeID, access(f.Flags)
	case images.TypeFIFO:
		d.Path, d.Access = in.name(f.RegID), access(in.files[f.RegID].Flags)
		d.Removed = in.removed[f.RegID]
	case images.TypeTTY:
		d.Path, d.Access = in.name(f.RegID), access(f.Flags)
	case images.TypeUnix:
		d.Inode, d.Path = f.Inode, socketPath(f)
		d.Listening = f.State == tcpListen
		if f.Peer != 0 {
			d.PeerInode, d.Peer = f.Peer, in.peers()[f.Peer]
		}
	case images.TypeInet:
		if kind := protocols[f.Inet.Protocol]; kind != "" {
			d.Kind = kind
		}
		d.Inode = f.Inode
		d.Local, d.Peer = socketAddress(f.Inet.Local), socketAddress(f.Inet.Peer)
		d.Listening = f.Inet.Protocol == unix.IPPROTO_TCP && f.State == tcpListen
		if d.Listening || f.Inet.Peer.Port == 0 {
			d.Peer = ""
		}
	case images.TypeMemFD:
		d.Path, d.Access, d.Offset = in.memfds[f.MemFD], access(f.Flags), int64(f.Pos)
	}
	return d
}

// peers returns the names of UNIX sockets, by inode.
func (in *inspection) peers() map[uint32]string {
	if in.socketNames == nil {
		in.socketNames = make(map[uint32]string)
		for _, f := range in.files {
			if f.Type == images.TypeUnix && f.SocketName != "" {
				in.socketNames[f.Inode] = socketPath(f)
			}
		}
	}
	return in.socketNames
}

// socketPath returns the name of a UNIX socket as it is usually written, with "@"
// for the NUL byte of an abstract one.
func socketPath(f images.File) string {
	if abstract, ok := strings.CutPrefix(f.SocketName, "\x00"); ok {
		return "@" + abstract
	}
	name := strings.TrimSuffix(f.SocketName, "\x00")
	if name != "" && name[0] != '/' && f.Dir != "" {
		return strings.TrimSuffix(f.Dir, "/") + "/" + name
	}
	return name
}

// socketAddress returns an address as it is written, "" for none.
func socketAddress(a images.InetAddr) string {
	ip, ok := netip.AddrFromSlice([]byte(a.IP))
	if !ok {
		return ""
	}
	return netip.AddrPortFrom(ip, a.Port).String()
}

// access returns what flags of open(2) permit.
func access(flags uint32) string {
	switch flags & unix.O_ACCMODE {
	case unix.O_RDONLY:
		return "read"
	case unix.O_WRONLY:
		return "write"
	case unix.O_RDWR:
		return "read_write"
	}
	return ""
}
