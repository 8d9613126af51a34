package header

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"
)

// numbers are the bytes of a context.
func numbers(all ...uint32) []byte {
	var b []byte
	for _, n := range all {
		b = binary.NativeEndian.AppendUint32(b, n)
	}
	return b
}

// sample is the beginning of a context of a process with two threads, and its end.
func sample() []byte {
	const entry = 112 // of struct cr_context_tasklinkage on x86-64
	b := numbers('C', 'R', 9, 3, 5)
	b = append(b, numbers(2, 0x410f00, 7, 2*entry)...)
	for _, tid := range []uint32{4186, 4185} {
		e := make([]byte, 24)
		e = append(e, numbers(tid, 4180, 4100, 4185, 0, 17)...)
		b = append(b, append(e, make([]byte, entry-len(e))...)...)
	}
	b = append(b, "VMA\x06\x05\x02\x06\x20"...)
	b = append(b, numbers(15, 1)...)
	b = append(b, "simulate\x00garbage"...)
	b = append(b, make([]byte, 1000)...)
	return append(b, numbers(0, 0x410f00, 0xffffffff)...)
}

func TestRead(t *testing.T) {
	h, err := Read(iotest.OneByteReader(bytes.NewReader(sample())))
	want := &Header{Version: 9, Scope: 3, Architecture: 5, First: &Process{
		PID: 4185, PGID: 4180, SID: 4100, Name: "simulate", Threads: []int{4186, 4185}, Kernel: "2.6.32",
	}}
	if err != nil || !reflect.DeepEqual(h, want) {
		t.Errorf("%v: %+v, %+v", err, h, h.First)
	}
	if h.Machine() != "x86_64" || h.ScopeName() != "tree" {
		t.Errorf("%q, %q", h.Machine(), h.ScopeName())
	}
	b := sample()
	if ok, err := Ends(bytes.NewReader(b), int64(len(b))); !ok || err != nil {
		t.Errorf("the end is not found: %v", err)
	}
	for _, n := range []int{0, 11, 12, 31, len(b) - 1} {
		if ok, err := Ends(bytes.NewReader(b[:n]), int64(n)); ok || err != nil {
			t.Errorf("%d bytes: %v, %v", n, ok, err)
		}
	}
}

// What is cut short is told as far as it goes.
func TestShort(t *testing.T) {
	b := sample()
	whole := headerLen + sectionLen + 2*112 + vmadumpLen + prctlLen
	for n := range whole + 1 {
		h, err := Read(bytes.NewReader(b[:n]))
		switch {
		case n < 8:
			if !errors.Is(err, ErrForeign) {
				t.Errorf("%d bytes: %v", n, err)
			}
		case n < headerLen:
			if !errors.Is(err, ErrTruncated) {
				t.Errorf("%d bytes: %v", n, err)
			}
		case err != nil || h.Version != 9 || (h.First != nil) != (n == whole):
			t.Errorf("%d bytes: %v: %+v", n, err, h)
		}
	}
}

func TestErrors(t *testing.T) {
	for _, n := range []int{0, 19, 20, 40, 100} {
		r := io.MultiReader(bytes.NewReader(sample()[:n]), iotest.ErrReader(syscall.EIO))
		if _, err := Read(r); !errors.Is(err, syscall.EIO) {
			t.Errorf("EIO after %d bytes: %v", n, err)
		}
	}
	if _, err := Read(strings.NewReader("blcr-cli context 1\n")); !errors.Is(err, ErrForeign) {
		t.Error(err)
	}
}

func TestUnknown(t *testing.T) {
	h := &Header{Scope: -1, Architecture: 99}
	if h.Machine() != "" || h.ScopeName() != "" {
		t.Errorf("%q, %q", h.Machine(), h.ScopeName())
	}
}

func FuzzRead(f *testing.F) {
	f.Add(sample())
	f.Add(sample()[:30])
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := Read(bytes.NewReader(b))
		if err == nil && h.First != nil && len(h.First.Threads) == 0 {
			t.Error("no threads")
		}
		_, _ = Ends(bytes.NewReader(b), int64(len(b)))
	})
}
