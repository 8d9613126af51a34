package images

import (
	"encoding/binary"
	"errors"
	"testing"
)

// TestOwnGhost: only the owner, the group and the bits that act for these change, and what
// follows is left out.
func TestOwnGhost(t *testing.T) {
	m := message{intField(1, 0), intField(2, 5), intField(3, 0o106755), intField(7, 9)}
	img := appendEntry(binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, commonMagic), kindGhost.magic), m)
	head, skip, err := OwnGhost(append(img[:len(img):len(img)], "content"...), 65534, 300)
	if err != nil || skip != int64(len(img)) {
		t.Fatal(skip, err)
	}
	got, _, err := ghostEntry(head)
	if err != nil || got.u32(1) != 65534 || got.u32(2) != 300 || got.u32(3) != 0o100755 || got.u32(7) != 9 {
		t.Errorf("%v, %v", got, err)
	}
	for n := range img {
		if _, _, err := OwnGhost(img[:n], 1, 1); !errors.Is(err, ErrMalformed) {
			t.Fatalf("cut after %d bytes: %v", n, err)
		}
	}
}

// TestRename: only the named entries get other names.
func TestRename(t *testing.T) {
	entry := func(id uint64, name string) message {
		return message{intField(fileType, uint64(TypeReg)), intField(fileID, id), bytesField(fileReg, message{intField(regID, id), bytesField(regName, []byte(name))}.append(nil))}
	}
	img := binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, commonMagic), kindFiles.magic)
	img = appendEntry(appendEntry(img, entry(1, "/a")), entry(2, "/b"))
	img, err := Rename(img, map[uint32]string{2: "/elsewhere"})
	if err != nil {
		t.Fatal(err)
	}
	files, err := Files(img)
	if err != nil || files[0].Name != "/a" || files[1].Name != "/elsewhere" {
		t.Errorf("%v, %v", files, err)
	}
}
