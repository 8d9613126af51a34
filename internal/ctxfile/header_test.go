package ctxfile

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestHeaderText(t *testing.T) {
	p := someHeader.page([idLen]byte{1})
	want := `blcr-cli context 3
engine: criu 4.1.1
created: 2026-11-23T03:04:05Z
host: vm
kernel: 6.18.44
machine: x86_64
command: sleep 100 "a b" "" "\x1b[2J\n" "..."
pids: 1 22 333

`
	if got := string(p[:len(want)]); got != want {
		t.Errorf("the page begins\n%s", got)
	}
	if fill := p[len(want):trailerField]; strings.Trim(string(fill), "\n") != "" {
		t.Errorf("filled with %q", fill)
	}
}

func TestHeaderRoundTrip(t *testing.T) {
	long := Header{
		Engine: strings.Repeat("é", 1000), Host: strings.Repeat("\x1b", 1000), Kernel: " x", Machine: `"quoted"`,
		Command: []string{"sh", "-c", strings.Repeat("echo ä\n", 1000)}, Created: time.Unix(0, 0).UTC(),
	}
	for i := range 2000 {
		long.PIDs = append(long.PIDs, i+1000000)
	}
	for _, h := range []Header{{}, someHeader, long, {Command: slices.Repeat([]string{"a", "\x00"}, 1000)}, {Engine: "a\n\nb: c"}} {
		p := h.page([idLen]byte{7})
		for _, c := range p[:trailerField] {
			if c < ' ' && c != '\n' || c == 0x7f {
				t.Fatalf("the text has a %#x", c)
			}
		}
		page, err := parsePage(p)
		if err != nil || page.id != [idLen]byte{7} || page.trailer != 0 || page.version != version3 {
			t.Fatal(page, err)
		}
		got := page.Header
		if !got.Cut && len(h.PIDs) < 1000 && !reflect.DeepEqual(got, h) && fmt.Sprint(got) != fmt.Sprint(h) {
			t.Errorf("%+v became %+v", h, got)
		}
		if got.Cut != (len(h.PIDs) > 1000 || len(h.Command) > 1000) {
			t.Errorf("cut: %v", got.Cut)
		}
		if len(h.PIDs) > 1000 {
			if n := len(got.PIDs); n < 100 || !slices.Equal(got.PIDs, h.PIDs[:n]) {
				t.Errorf("%d pids: %v", n, got.PIDs)
			}
			if n := len(got.Command); n != 3 || !strings.HasPrefix(h.Command[2], got.Command[2]) || len(got.Command[2]) < 500 {
				t.Errorf("command %q", got.Command)
			}
			if !strings.HasPrefix(h.Engine, got.Engine) || got.Kernel != h.Kernel || got.Machine != h.Machine {
				t.Errorf("became %+v", got)
			}
		}
	}
}

// A later writer may have more to say.
func TestHeaderUnknownKeys(t *testing.T) {
	p := Header{Host: "h"}.page([idLen]byte{})
	copy(p, "blcr-cli context 1\nfuture: 1\nrubbish\ncreated: soon\npids: 1 x 2\nhost: \"a\n\n")
	q := append(p, make([]byte, pageSize)...)
	reseal(q)
	h, err := parsePage(q[:pageSize])
	if err != nil || !reflect.DeepEqual(h.Header, Header{Host: `"a`, PIDs: []int{1, 2}}) {
		t.Errorf("%+v, %v", h, err)
	}
}
