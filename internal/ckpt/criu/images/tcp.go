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
	const received, sent, sentLength = 2, 4, 3 // inq_seq, outq_seq, outq_len of tcp_stream_entry
	m, _, err := tcpEntry(img)
	return TCPEnd{Next: m.u32(received), Unacknowledged: m.u32(sent) - m.u32(sentLength)}, err
}

// Lacks reports whether an end has not received what the other one counts as
// acknowledged: those bytes would come never more. A number more is that of a FIN.
func (e TCPEnd) Lacks(other TCPEnd) bool { return int32(other.Unacknowledged-e.Next) > 1 }

// TCPHead is more than an image of a TCP connection has before the contents of its
// queues, in bytes.
const TCPHead = 4 << 10

// tcpUnsent is the field of tcp_stream_entry with the number of bytes in the queue for
// sending that have not been sent.
const tcpUnsent = 12

// AllSent changes the beginning of an image of a TCP connection, of TCPHead bytes or all
// of it, so that all that was to be sent counts as sent and not acknowledged. CRIU sends
// the rest while it restores the connection, and there may be no peer yet. So the system
// sends it again, when the connection is complete. AllSent returns the new beginning, and
// how many bytes of img it replaces; nil if there is nothing to change.
func AllSent(img []byte) (head []byte, replaced int, err error) {
	m, replaced, err := tcpEntry(img)
	if err != nil || m.u32(tcpUnsent) == 0 {
		return nil, 0, err
	}
	head = binary.LittleEndian.AppendUint32(nil, commonMagic)
	head = binary.LittleEndian.AppendUint32(head, kindTCP.magic)
	return appendEntry(head, m.put(intField(tcpUnsent, 0))), replaced, nil
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
