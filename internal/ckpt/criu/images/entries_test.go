package images

import (
	"errors"
	"testing"
)

// TestCheckEntries: every cut is noticed, but for one between two entries.
func TestCheckEntries(t *testing.T) {
	const magics, entries = 8, "\x03\x00\x00\x00abc" + "\x00\x00\x00\x00" + "\x01\x00\x00\x00d"
	img := []byte("\x19CVTI0Ad" + entries)
	for n := range len(img) + 1 {
		_, err := CheckEntries(img[:n])
		whole := n == magics || n == magics+7 || n == magics+11 || n == len(img)
		if whole != (err == nil) || err != nil && !errors.Is(err, ErrTruncated) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	for name, want := range map[string]bool{
		"seccomp.img": true, "timens-0.img": true, "utsns-12.img": true, "remap-fpath.img": true, "tty-info.img": true,
		"pages-1.img": false, "tty-data.img": false, "pipes-data.img": false, "seccomp": false, "timens.img": false, "ghost-file-1.img": false,
	} {
		if OnlyEntries(name) != want {
			t.Errorf("%s: %v", name, !want)
		}
	}
}
