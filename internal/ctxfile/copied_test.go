package ctxfile

import (
	"bytes"
	"context"
	"testing"

	"golang.org/x/sys/unix"
)

// When Image has returned, a process whose pages were in the pipe may change
// them, and the context has what they were: wherever it went.
func TestCopied(t *testing.T) {
	const size = 16 * pageSize // what a pipe takes
	outputs := map[string]func() (r, w int){
		"file": func() (int, int) {
			fd := memfd(t, nil)
			r, err := unix.Dup(fd)
			if err != nil {
				t.Fatal(err)
			}
			return r, fd
		},
		"append": func() (int, int) {
			f := tempFile(t)
			defer f.Close()
			w, err := unix.Open(f.Name(), unix.O_WRONLY|unix.O_APPEND, 0)
			if err != nil {
				t.Fatal(err)
			}
			r, err := unix.Dup(int(f.Fd()))
			if err != nil {
				t.Fatal(err)
			}
			return r, w
		},
	}
	for name, connect := range streams(t) {
		outputs[name] = connect
	}
	for name, connect := range outputs {
		t.Run(name, func(t *testing.T) {
			memory, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Munmap(memory)
			want := random(size)
			copy(memory, want)
			pr, pw := pipe2(t)
			defer unix.Close(pr)
			v := unix.Iovec{Base: &memory[0]}
			v.SetLen(size)
			if n, err := unix.Vmsplice(pw, []unix.Iovec{v}, 0); n != size || err != nil {
				t.Fatal(n, err)
			}
			unix.Close(pw)

			in, out := connect()
			defer unix.Close(in)
			w, err := NewWriter(out, someHeader, 0)
			if err != nil {
				t.Fatal(err)
			}
			if err := w.Pipe("pages-1.img", pr, true); err != nil {
				t.Fatal(err)
			}
			clear(memory)
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			unix.Close(out)
			if name == "file" {
				seek(t, in, 0)
			}
			r, err := Open(context.Background(), in)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			if b, err := r.Bytes("pages-1.img"); err != nil || !bytes.Equal(b, want) {
				t.Errorf("torn, error %v", err)
			}
		})
	}
}
