package stream

import (
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"
)

// TestKeep: what writes to a pipe of which another process has both ends gets no SIGPIPE
// when that process has been killed, until release. Other pipes lose their readers.
func TestKeep(t *testing.T) {
	pipe := func() (r, w *os.File) {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { r.Close(); w.Close() })
		return r, w
	}
	bothR, bothW := pipe()
	imageR, imageW := pipe() // it has both ends of it, for a moment
	oneR, oneW := pipe()     // it reads from it only
	other := exec.Command("/bin/sleep", "1000")
	other.ExtraFiles = []*os.File{bothR, bothW, imageR, imageW, oneR}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	defer other.Process.Kill()
	var k keeper
	defer k.release()
	done := k.image(int(imageR.Fd()))
	k.keep(other.Process.Pid)
	for _, f := range []*os.File{bothR, imageR, oneR} {
		f.Close()
	}
	if err := other.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = other.Wait()
	check := func(what string, w *os.File, want error) {
		t.Helper()
		if _, err := unix.Write(int(w.Fd()), []byte("page")); err != want {
			t.Errorf("a write to %s: %v, want %v", what, err, want)
		}
	}
	check("its own pipe", bothW, nil)
	check("an image", imageW, unix.EPIPE)
	check("a pipe that it reads from", oneW, unix.EPIPE)
	if done(); len(k.images) != 0 || len(k.kept) != 1 {
		t.Errorf("%v, %v", k.images, k.kept)
	}
	k.keep(other.Process.Pid) // which has none any more
	check("its own pipe", bothW, unix.EPIPE)
	if len(k.kept) != 0 {
		t.Errorf("still kept: %v", k.kept)
	}
}

// TestKeepImage: an image's pipe of which criu had both ends when it was looked at is not
// kept when it is known as an image, or when criu has only one end of it.
func TestKeepImage(t *testing.T) {
	var k keeper
	defer k.release()
	var r, w [3]*os.File
	for i := range r {
		var err error
		if r[i], w[i], err = os.Pipe(); err != nil {
			t.Fatal(err)
		}
		defer w[i].Close()
	}
	// criu is what has these files.
	criu := func(files ...*os.File) (pid int) {
		other := exec.Command("/bin/sleep", "1000")
		other.ExtraFiles = files
		if err := other.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = other.Process.Kill()
			_ = other.Wait()
		})
		return other.Process.Pid
	}
	check := func(want ...bool) {
		t.Helper()
		for i := range w {
			if _, kept := k.kept[pipeName(int(w[i].Fd()))]; kept != want[i] {
				t.Errorf("pipe %d is kept: %v", i, kept)
			}
		}
	}
	k.keep(criu(r[0], w[0], r[1], w[1], r[2], w[2]))
	check(true, true, true)
	k.image(int(r[0].Fd()))()
	check(false, true, true)
	k.prune(criu(w[0], w[1], r[2], w[2]))
	check(false, false, true)
	k.prune(1 << 30) // which does not exist
	check(false, false, true)
	for i := range r {
		r[i].Close()
	}
}
