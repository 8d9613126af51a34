package criu

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/ckpt/criu/images"
	"blcr-cli/internal/ckpt/criu/pstree"
	"blcr-cli/internal/ctxfile"
	"blcr-cli/internal/proc"
)

// pagemapOf is pagemap-PID.img of pages at an address, which are in pages-ID.img.
func pagemapOf(id, address, pages uint64) []byte {
	number := func(b []byte, field protowire.Number, n uint64) []byte {
		return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.VarintType), n)
	}
	// IMG_COMMON_MAGIC and PAGEMAP_MAGIC, then a pagemap_head and a pagemap_entry.
	pagemap := binary.LittleEndian.AppendUint32(nil, 0x54564319)
	pagemap = binary.LittleEndian.AppendUint32(pagemap, 0x56084025)
	for _, m := range [][]byte{number(nil, 1, id), number(number(number(nil, 1, address), 4, 4), 5, pages)} {
		pagemap = append(binary.LittleEndian.AppendUint32(pagemap, uint32(len(m))), m...)
	}
	return pagemap
}

// TestRestoreCode: what is in the context of the beginning of a process's code becomes what
// is in the process.
func TestRestoreCode(t *testing.T) {
	job := exec.Command("/bin/cat")
	// A session of another pid namespace, as the tests may be in, is none to be saved.
	job.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	stdin, err := job.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := job.Start(); err != nil {
		t.Fatal(err)
	}
	defer job.Wait()
	defer stdin.Close()
	tree, err := pstree.Resolve(context.Background(), &ckpt.CheckpointRequest{ID: int32(job.Process.Pid), Scope: ckpt.ScopeTree})
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	code := proc.Code(job.Process.Pid)
	size := os.Getpagesize()
	want := make([]byte, size)
	if len(code) == 0 || !proc.ReadMemory(job.Process.Pid, uintptr(code[0]), want) {
		t.Skipf("it may not be looked at: %x", code)
	}
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w, err := ctxfile.NewWriter(int(f.Fd()), ctxfile.Header{}, 0)
	if err != nil {
		t.Fatal(err)
	}
	r, pipe, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	// Code of CRIU's, with a page on either side.
	sent := bytes.Repeat([]byte{0x0f, 0x05, 0xcc, 0xcc}, 3*size/4)
	go func() {
		defer pipe.Close()
		_, _ = pipe.Write(sent)
	}()
	if err := w.Pipe("pages-7.img", int(r.Fd()), true); err != nil {
		t.Fatal(err)
	}
	c := &capture{writer: w, tree: tree}
	// The beginning of a long one.
	pagemap := append(pagemapOf(7, code[0]-uint64(size), 3), 1)
	c.memory.add(images.Name("pagemap", uint32(job.Process.Pid)), pagemap)
	if err := c.restoreCode(); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	in, err := ctxfile.Open(context.Background(), int(f.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	got, err := in.Bytes("pages-7.img")
	if err != nil || !bytes.Equal(got, slices.Concat(sent[:size], want, sent[:size])) {
		t.Errorf("%v: % x… at the code, want % x…", err, got[size:size+16], want[:16])
	}
}

// TestCheckMemory: an image of memory that is not as long as its pagemap says is an error.
func TestCheckMemory(t *testing.T) {
	const pages = 3
	size := pages * os.Getpagesize()
	pagemap := pagemapOf(7, 0x1000, pages)
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
			d.memory.add("pagemap-1.img", c.kept)
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
