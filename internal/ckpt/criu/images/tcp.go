package images

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
)

// TCPName returns the name of the image of a TCP connection, by File.Inode.
func TCPName(inode uint32) string { return fmt.Sprintf(tcpPrefix+"%x.img", inode) }

const tcpPrefix = "tcp-stream-"

// TCPInode is the reverse of TCPName.
func TCPInode(name string) (inode uint64, ok bool) {
	number, ok := strings.CutPrefix(name, tcpPrefix)
	if !ok {
		return 0, false
	}
	number, ok = strings.CutSuffix(number, ".img")
	inode, err := strconv.ParseUint(number, 16, 32)
	return inode, ok && err == nil
}

// TCPEnd is how far one end of a TCP connection is: the numbers in the sequence of bytes,
// modulo 2^32, of the next one that it receives, and of the first that it has sent, or is
// to send, and that the other end has not acknowledged.
type TCPEnd struct{ Next, Unacknowledged uint32 }

// ReadTCP reads the beginning of an image of a TCP connection, of TCPHead bytes or all
// of it.
func ReadTCP(img []byte) (end TCPEnd, err error) {
	m, _, err := tcpEntry(img)
	return TCPEnd{Next: m.u32(tcpNext), Unacknowledged: m.u32(tcpWritten) - m.u32(tcpSending)}, err
}

// Lacks reports whether an end has not received what the other one counts as
// acknowledged: those bytes would come never more. A number more is that of a FIN.
func (e TCPEnd) Lacks(other TCPEnd) bool { return int32(other.Unacknowledged-e.Next) > 1 }

// TCPHead is more than an image of a TCP connection has before the contents of its
// queues, in bytes.
const TCPHead = 4 << 10

// Fields of tcp_stream_entry (tcp-stream.proto). Behind it an image has the contents of the
// queue of what has been received, and of the one of what was to be sent.
const (
	tcpReceived = 1  // how many bytes the former has
	tcpNext     = 2  // the number after them
	tcpSending  = 3  // how many bytes the latter has
	tcpWritten  = 4  // the number after them
	tcpUnsent   = 12 // how many of these have not been sent
	tcpRoom     = 16 // how many more it had said that it can receive (rcv_wnd)
	tcpSaid     = 17 // the number after which (rcv_wup)
)

// AllSent changes an image of a TCP connection so that all that was to be sent counts as
// sent and not acknowledged. CRIU sends the rest while it restores the connection, and there
// may be no peer yet. So the system sends it again, when the connection is complete. AllSent
// returns nil if there is nothing to change.
func AllSent(img []byte) (changed []byte, err error) {
	m, length, err := tcpEntry(img)
	if err != nil || m.u32(tcpUnsent) == 0 {
		return nil, err
	}
	return append(tcpHead(m.put(intField(tcpUnsent, 0))), img[length:]...), nil
}

// TCPQueue is what a TCP connection was to send, and what the other end has not
// acknowledged: where it is in the connection's image, in bytes.
type TCPQueue struct{ Offset, Length int64 }

// TakeQueue returns an image of a TCP connection without what was to be sent, and where
// that is in img; Length is 0 if it is nothing.
func TakeQueue(img []byte) (without []byte, queue TCPQueue, err error) {
	m, length, err := tcpEntry(img)
	if err != nil {
		return nil, TCPQueue{}, err
	}
	queue = TCPQueue{Offset: int64(length) + int64(m.u32(tcpReceived)), Length: int64(m.u32(tcpSending))}
	if queue.Offset+queue.Length > int64(len(img)) {
		return nil, TCPQueue{}, fmt.Errorf("%s: %w: its queues are cut off", kindTCP.name, ErrTruncated)
	}
	first := m.u32(tcpWritten) - m.u32(tcpSending)
	m = m.put(intField(tcpSending, 0)).put(intField(tcpWritten, uint64(first))).put(intField(tcpUnsent, 0))
	return append(tcpHead(m), img[length:queue.Offset]...), queue, nil
}

// WithoutFIN changes an image of a TCP connection to that of an end which has not sent a FIN yet,
// or has not received one. What it was to send has to be taken out.
func WithoutFIN(img []byte, sent bool) ([]byte, error) {
	m, length, err := tcpEntry(img)
	if err != nil {
		return nil, err
	}
	less := func(num uint32) { m = m.put(intField(num, uint64(m.u32(num)-1))) }
	if sent {
		less(tcpWritten)
	} else if less(tcpNext); m.has(tcpSaid) {
		less(tcpSaid)
		m = m.put(intField(tcpRoom, uint64(m.u32(tcpRoom)+1)))
	}
	return append(tcpHead(m), img[length:]...), nil
}

// OpenConnections changes files.img so that these sockets of TCP, by File.ID, are those of
// connections of which neither end has been shut down. CRIU would shut them down when it has
// put what was received into their queue, and that is the moment when the kernel sends a FIN.
func OpenConnections(files []byte, which map[uint32]bool) ([]byte, error) {
	return kindFiles.rewrite(files, func(_ int, m message) (message, error) {
		body, err := m.sub(fileInet)
		if err != nil || body == nil || !which[m.u32(fileID)] {
			return m, err
		}
		const established = 1 // TCP_ESTABLISHED
		body = body.without(inetShutdown, inetShutdown).put(intField(inetState, established))
		return m.put(bytesField(fileInet, body.append(nil))), nil
	})
}

// tcpHead is the beginning of an image with this tcp_stream_entry.
func tcpHead(m message) []byte {
	head := binary.LittleEndian.AppendUint32(nil, commonMagic)
	head = binary.LittleEndian.AppendUint32(head, kindTCP.magic)
	return appendEntry(head, m)
}

// tcpEntry reads tcp_stream_entry, and says how many bytes of the image come before the
// contents of the queues.
func tcpEntry(img []byte) (m message, length int, err error) {
	b, err := kindTCP.body(img)
	if err != nil {
		return nil, 0, err
	}
	p, err := payload(b)
	if err != nil {
		return nil, 0, fmt.Errorf("%s: %w", kindTCP.name, err)
	}
	m, err = parseMessage(p)
	return m, len(img) - len(b) + 4 + len(p), err
}
