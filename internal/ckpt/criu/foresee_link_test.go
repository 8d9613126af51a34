package criu

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/ckpt/criu/images"
)

// TestForeseeLink: a symbolic link that is open itself (O_PATH) may lead to nothing.
func TestForeseeLink(t *testing.T) {
	name := t.TempDir() + "/link"
	if err := os.Symlink("nothing", name); err != nil {
		t.Fatal(err)
	}
	for mode, want := range map[uint32]int{unix.S_IFLNK | 0o777: 0, unix.S_IFREG | 0o644: 1} {
		f := &foresight{Forecast: &ckpt.Forecast{}, plan: &plan{}}
		f.access(images.File{Name: name, Flags: unix.O_PATH | unix.O_NOFOLLOW, Mode: mode}, name)
		if len(f.Failures) != want {
			t.Errorf("mode %o: %v", mode, f.Failures)
		}
	}
}
