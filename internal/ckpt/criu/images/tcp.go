package images

import (
	"encoding/binary"
	"fmt"
)

// TCPName returns the name of the image of a TCP connection, by File.Inode.
func TCPName(inode uint32) string { return fmt.Sprintf("tcp-stream-%x.img", inode) }

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
	b, err := kindTCP.body(img)
	if err != nil {
		return nil, 0, err
	}
	p, err := payload(b)
	if err != nil {
		return nil, 0, fmt.Errorf("%s: %w", kindTCP.name, err)
	}
	m, err := parseMessage(p)
	if err != nil || m.u32(tcpUnsent) == 0 {
		return nil, 0, err
	}
	replaced = len(img) - len(b) + 4 + len(p)
	head = binary.LittleEndian.AppendUint32(nil, commonMagic)
	head = binary.LittleEndian.AppendUint32(head, kindTCP.magic)
	return appendEntry(head, m.put(intField(tcpUnsent, 0))), replaced, nil
}
