package stream

import (
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// TestSmall: an image that fits into its pipe is written at once, another one by Image.
func TestSmall(t *testing.T) {
	s := prepare(t, Serve)
	var asked []string
	s.handler.Small = func(name string) ([]byte, bool) {
		asked = append(asked, name)
		return []byte(s.offers[name]), true
	}
	image := s.handler.Image
	s.handler.Image = func(name string, pipe int) error {
		if name == "inventory.img" {
			t.Errorf("%s is small", name)
		}
		return image(name, pipe)
	}
	s.run("restore")
	s.stage(PostRestore).Answer(true)
	s.stage(PreResume).Answer(true)
	s.checkEnd(0)
	if want := []string{"inventory.img true 9", "missing.img false 0", "pages-1.img true 409600"}; !slices.Equal(s.Errors(), want) {
		t.Errorf("it has read %q, want %q", s.Errors(), want)
	}
	if want := []string{"inventory.img", "pages-1.img"}; !slices.Equal(asked, want) {
		t.Errorf("asked for %q, want %q", asked, want)
	}
}

func TestFits(t *testing.T) {
	for _, c := range []struct {
		size int
		gone bool
		fits bool
	}{{0, false, true}, {100, false, true}, {64 << 10, false, true}, {64<<10 + 1, false, false}, {100, true, true}} {
		var p [2]int
		if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
			t.Fatal(err)
		}
		if _, err := unix.FcntlInt(uintptr(p[1]), unix.F_SETPIPE_SZ, 64<<10); err != nil {
			t.Fatal(err)
		}
		if c.gone {
			unix.Close(p[0])
		}
		fit, err := fits(p[1], make([]byte, c.size))
		if fit != c.fits || err != nil {
			t.Errorf("%+v: %v, %v", c, fit, err)
		}
		unix.Close(p[1])
		if !c.gone {
			n, _ := unix.Read(p[0], make([]byte, 1<<20))
			if want := map[bool]int{true: c.size}[c.fits]; n != want {
				t.Errorf("%+v: %d bytes in the pipe", c, n)
			}
			unix.Close(p[0])
		}
	}
}
