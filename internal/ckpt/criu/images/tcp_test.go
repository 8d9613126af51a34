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
	if changed, err := AllSent(connection(4)[:14]); err == nil {
		t.Errorf("a piece of an image: %d bytes", len(changed))
	}
	changed, err := AllSent(connection(4))
	if err != nil || !bytes.Equal(changed, connection(0)) {
		t.Errorf("%v; got %x, want %x", err, changed, connection(0))
	}
	if changed, err := AllSent(connection(0)); changed != nil || err != nil {
		t.Errorf("nothing unsent: %x, %v", changed, err)
	}
}

// TestTakeQueue: what was to be sent is taken out of an image, and the numbers fit.
func TestTakeQueue(t *testing.T) {
	connection := func(written, sending, unsent uint64, content string) []byte {
		return append(image(kindTCP, message{intField(1, 3), intField(2, 77), intField(3, sending), intField(4, written), intField(tcpUnsent, unsent), intField(200, 9)}), content...)
	}
	img := connection(1, 5, 2, "inqqueue")
	without, queue, err := TakeQueue(img)
	if err != nil {
		t.Fatal(err)
	}
	if got := string(img[queue.Offset:][:queue.Length]); got != "queue" {
		t.Errorf("the queue is %q", got)
	}
	// 1 is after 2^32-4.
	if want := connection(1<<32-4, 0, 0, "inq"); !bytes.Equal(without, want) {
		t.Errorf("got %x, want %x", without, want)
	}
	if _, queue, err := TakeQueue(connection(9, 0, 0, "inq")); err != nil || queue.Length != 0 {
		t.Errorf("nothing to be sent: %v, %v", queue, err)
	}
	for _, n := range []int{14, len(img) - 1} {
		if _, _, err := TakeQueue(img[:n]); err == nil {
			t.Errorf("no error for %d bytes of an image", n)
		}
	}
}

// TestWithoutFIN: the numbers are those from before a FIN was sent, or received.
func TestWithoutFIN(t *testing.T) {
	connection := func(next, written, room, said uint64) []byte {
		return append(image(kindTCP, message{intField(1, 3), intField(tcpNext, next), intField(3, 0), intField(tcpWritten, written), intField(tcpRoom, room), intField(tcpSaid, said)}), "inq"...)
	}
	for _, test := range []struct {
		sent bool
		want []byte
	}{{true, connection(0, 76, 20, 5)}, {false, connection(1<<32-1, 77, 21, 4)}} {
		if got, err := WithoutFIN(connection(0, 77, 20, 5), test.sent); err != nil || !bytes.Equal(got, test.want) {
			t.Errorf("%v: %v; got %x, want %x", test.sent, err, got, test.want)
		}
	}
	if got, err := WithoutFIN(connection(0, 77, 20, 5)[:14], true); err == nil {
		t.Errorf("no error for a piece of an image: %x", got)
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
