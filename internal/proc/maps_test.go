package proc

import (
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestParseMapping(t *testing.T) {
	for _, test := range []struct {
		line string
		want Mapping
		ok   bool
	}{
		{"7fdc0feb9000-7fdc0febb000 rw-s 00001000 fe:00 10144381                   /tmp/a b (deleted)",
			Mapping{0x7fdc0feb9000, 0x7fdc0febb000, true, unix.Mkdev(0xfe, 0), 10144381, "/tmp/a b (deleted)"}, true},
		{"00400000-00401000 r-xp 00000000 103:0b 7 /x\\012y/z", Mapping{0x400000, 0x401000, false, unix.Mkdev(0x103, 0xb), 7, `/x\012y/z`}, true},
		{"7fdc0feb9000-7fdc0febb000 rw-p 00000000 00:00 0 ", Mapping{}, false},
		{"7ffd-7fff rw-p 00000000 00:00 0                          [stack]", Mapping{}, false},
		{"7ffd-7fff rw-s 00000000 00:0f 12      anon_inode:a/b", Mapping{}, false},
	} {
		m, ok, err := parseMapping(test.line)
		if err != nil || ok != test.ok || ok && m != test.want {
			t.Errorf("%q: %+v, %v, %v", test.line, m, ok, err)
		}
	}
	for _, line := range []string{"/x", "a /x", "1-2 rw-p 0 0:0 z /x", "1-2 rw 0 0:0 1 /x", "1 rw-p 0 0:0 1 /x", "1-2 rw-p 0 0 1 /x"} {
		if m, ok, err := parseMapping(line); err == nil {
			t.Errorf("%q: %+v, %v, no error", line, m, ok)
		}
	}
}

func TestMappings(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for m, err := range Mappings(os.Getpid()) {
		if err != nil {
			t.Fatal(err)
		}
		if m.Path == exe && !m.Shared && m.Ino != 0 {
			if name, err := os.Readlink(m.Link(os.Getpid())); err != nil || name != exe {
				t.Errorf("%s leads to %s, %v", m.Link(os.Getpid()), name, err)
			}
			return
		}
	}
	t.Errorf("%s is not among them", exe)
}

// TestVDSO: the kernel's code is found, where there is any.
func TestVDSO(t *testing.T) {
	text, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	want := false
	for line := range strings.Lines(string(text)) {
		want = want || strings.HasSuffix(line, "[vdso]\n")
	}
	if start, end := VDSO(os.Getpid()); (start != 0) != want || end < start {
		t.Errorf("%x-%x", start, end)
	}
}
