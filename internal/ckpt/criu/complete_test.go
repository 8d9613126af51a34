package criu

import (
	"encoding/binary"
	"os"
	"strings"
	"syscall"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/ctxfile"
)

// TestCheckMemory: an image of memory that is not as long as its pagemap says is an error.
func TestCheckMemory(t *testing.T) {
	const pages = 3
	size := pages * os.Getpagesize()
	number := func(b []byte, field protowire.Number, n uint64) []byte {
		return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.VarintType), n)
	}
	// IMG_COMMON_MAGIC and PAGEMAP_MAGIC, then a pagemap_head and a pagemap_entry.
	pagemap := binary.LittleEndian.AppendUint32(nil, 0x54564319)
	pagemap = binary.LittleEndian.AppendUint32(pagemap, 0x56084025)
	for _, m := range [][]byte{number(nil, 1, 7), number(number(number(nil, 1, 0x1000), 4, 4), 5, pages)} {
		pagemap = append(binary.LittleEndian.AppendUint32(pagemap, uint32(len(m))), m...)
	}
	for _, c := range []struct {
		name  string
		level int
		size  int
		kept  []byte
		want  string
	}{
		{"whole", 0, size, pagemap, ""},
		{"compressed", 1, size, pagemap, ""},
		{"short", 0, size - os.Getpagesize(), pagemap, "pages-7.img has 8192 bytes of the memory of a process, and should have 12288"},
		{"compressed-short", 1, size - 1, pagemap, "pages-7.img has 12287 bytes"},
		{"empty", 0, 0, pagemap, "pages-7.img has 0 bytes"},
		{"none", 0, -1, pagemap, "pages-7.img has 0 bytes"},
		{"unknown", 0, 0, pagemap[:len(pagemap)-1], ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, err := os.CreateTemp(t.TempDir(), "")
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			w, err := ctxfile.NewWriter(int(f.Fd()), ctxfile.Header{}, c.level)
			if err != nil {
				t.Fatal(err)
			}
			defer w.Abort()
			if c.size >= 0 {
				if err := w.Bytes("pages-7.img", make([]byte, c.size)); err != nil {
					t.Fatal(err)
				}
			}
			d := &capture{writer: w}
			d.memory.add(c.kept)
			err = d.checkMemory()
			if c.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			e, ok := err.(*ckpt.Error)
			if !ok || e.Errno != syscall.EIO || len(e.Detail) != 1 || !strings.HasPrefix(e.Detail[0], c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}
