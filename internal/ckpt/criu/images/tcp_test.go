package images

import (
	"bytes"
	"testing"
)

// TestAllSent: of an image of a connection only the number of unsent bytes is changed.
func TestAllSent(t *testing.T) {
	connection := func(unsent uint64) []byte {
		img := image(kindTCP, message{intField(1, 3), intField(3, 5), intField(tcpUnsent, unsent), intField(200, 9)})
		return append(img, "inqoutqu"...)
	}
	head, replaced, err := AllSent(connection(4)[:14])
	if err == nil {
		t.Errorf("a piece of an image: %d bytes, %d", len(head), replaced)
	}
	head, replaced, err = AllSent(connection(4))
	if err != nil {
		t.Fatal(err)
	}
	if got := append(head, connection(4)[replaced:]...); !bytes.Equal(got, connection(0)) {
		t.Errorf("got %x, want %x", got, connection(0))
	}
	if head, _, err := AllSent(connection(0)); head != nil || err != nil {
		t.Errorf("nothing unsent: %x, %v", head, err)
	}
}

func TestTCPName(t *testing.T) {
	if inode, ok := TCPInode(TCPName(0xabc12)); !ok || inode != 0xabc12 {
		t.Errorf("%#x, %t", inode, ok)
	}
	for _, name := range []string{"tcp-stream-.img", "tcp-stream-1", "tcp-stream-xyz.img", "files.img", "tcp-stream-123456789.img"} {
		if inode, ok := TCPInode(name); ok {
			t.Errorf("%s: %#x", name, inode)
		}
	}
}

// TestReadTCP: bytes are lost if one end has them as acknowledged and the other one has
// not received them, also where the numbers overflow.
func TestReadTCP(t *testing.T) {
	end := func(next, written, unacknowledged uint32) TCPEnd {
		img := image(kindTCP, message{intField(1, 7), intField(2, uint64(next)), intField(3, uint64(unacknowledged)), intField(4, uint64(written)), intField(tcpUnsent, 1)})
		e, err := ReadTCP(append(img, make([]byte, 9)...))
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	for _, c := range []struct {
		next, written, unacknowledged uint32
		lost                          bool
	}{
		{1000, 1000, 0, false},
		{1000, 5000, 4000, false},
		{1000, 5000, 4500, false}, // received, and the acknowledgement was lost
		{1000, 5000, 3999, false}, // a FIN
		{1000, 5000, 3000, true},
		{1000, 5000, 0, true},
		{0xfffffff0, 0x100, 0x100, true},
		{0xfffffff0, 0x100, 0x110, false},
		{0x10, 0x100, 0x110, false},
	} {
		if got := end(c.next, 1, 0).Lacks(end(1, c.written, c.unacknowledged)); got != c.lost {
			t.Errorf("next %#x; written %#x, of which %#x not acknowledged: %t", c.next, c.written, c.unacknowledged, got)
		}
	}
	if _, err := ReadTCP([]byte("tcp")); err == nil {
		t.Error("no error for what is no image")
	}
}
