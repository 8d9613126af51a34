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
