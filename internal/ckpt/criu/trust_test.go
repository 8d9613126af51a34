package criu

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt"
)

// TestDistrust: root restarts only what nobody else could have written.
func TestDistrust(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root distrusts contexts")
	}
	const nobody = 65534
	dir := t.TempDir()
	check := func(path, imageDir, want string) {
		t.Helper()
		fd, err := unix.Open(path, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err == unix.EISDIR {
			fd, err = unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		}
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		r := &ckpt.RestartRequest{FD: int32(fd), Dir: imageDir}
		err = distrust(r)
		switch e, _ := err.(*ckpt.Error); {
		case want == "" && err == nil:
		case want != "" && e != nil && e.Errno == unix.EPERM && len(e.Detail) == 2 &&
			strings.Contains(e.Detail[0], want) && strings.Contains(e.Detail[1], "cr_restart --trust"):
		default:
			t.Errorf("%s: %#v, want %q", path, err, want)
		}
		if r.Trust = true; distrust(r) != nil {
			t.Errorf("%s is not trusted with Trust", path)
		}
	}
	make := func(name string, uid, gid int, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		var err error
		switch {
		case strings.HasSuffix(name, "fifo"):
			err = unix.Mkfifo(path, 0o600)
		case strings.HasSuffix(name, "/"):
			err = os.Mkdir(path, 0o700)
		default:
			err = os.WriteFile(path, nil, 0o600)
		}
		for _, err := range []error{err, os.Chmod(path, mode), os.Chown(path, uid, gid)} {
			if err != nil {
				t.Fatal(err)
			}
		}
		return path
	}
	check(make("own", 0, nobody, 0o644), "", "")
	check(make("theirs", nobody, 0, 0o400), "", "is owned by ")
	check(make("group", 0, nobody, 0o460), "", "mode 0460")
	check(make("all", 0, 0, 0o402), "", "mode 0402")
	check(make("fifo", 0, 0, 0o600), "", "")
	check(make("their-fifo", nobody, 0, 0o600), "", "is owned by ")
	// Links of other users lead to what was judged.
	for _, link := range []func(old, new string) error{os.Symlink, os.Link} {
		path := make("link", 0, 0, 0o600)
		os.Remove(path)
		if err := link(filepath.Join(dir, "theirs"), path); err != nil {
			t.Fatal(err)
		}
		if err := os.Lchown(path, 0, 0); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(filepath.Join(dir, "theirs"), nobody, 0); err != nil {
			t.Fatal(err)
		}
		check(path, "", "is owned by ")
		os.Remove(path)
	}

	images := make("images/", 0, 0, 0o755)
	make("images/pages-1.img", 0, 0, 0o644)
	check(images, "D", "")
	make("images/sub/", nobody, 0, 0o777) // nothing is read from it
	check(images, "D", "")
	make("images/core-1.img", nobody, 0, 0o600)
	check(images, "D", "D/core-1.img is owned by ")
	make("images/core-1.img", 0, 0, 0o620)
	check(images, "D", "D/core-1.img may be written to by other users (mode 0620)")
	make("images/core-1.img", 0, 0, 0o600)
	check(make("their-images/", nobody, 0, 0o700), "D", "D is owned by ")
	check(make("open-images/", 0, 0, 0o777|os.ModeSticky), "D", "D may be written to by other users (mode 1777)")

	// What has no name has no owner.
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range append(pipe[:], pair[:]...) {
		if err := unix.Fchown(fd, nobody, nobody); err != nil {
			t.Fatal(err)
		}
		if err := distrust(&ckpt.RestartRequest{FD: int32(fd)}); err != nil {
			t.Error(err)
		}
		unix.Close(fd)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	file, err := listener.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := distrust(&ckpt.RestartRequest{FD: int32(file.Fd())}); err != nil {
		t.Error(err)
	}
}

// TestForeignLink: a link of another user counts, in any place of a name, unless it leads to
// that user's own file.
func TestForeignLink(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("it takes root to make files of another user")
	}
	dir := t.TempDir()
	const user = 65534
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	check(os.Mkdir(dir+"/d", 0o755))
	for name, owner := range map[string]int{"d/root": 0, "d/user": user} {
		check(os.WriteFile(dir+"/"+name, nil, 0o644))
		check(os.Chown(dir+"/"+name, owner, -1))
	}
	for link, owner := range map[string]int{"user's": user, "root's": 0} {
		check(os.Symlink("d", dir+"/"+link))
		check(os.Lchown(dir+"/"+link, owner, -1))
	}
	check(os.Symlink("root", dir+"/d/link"))
	check(os.Lchown(dir+"/d/link", user, -1))
	for name, want := range map[string]string{
		"/d/root": "", "/d/user": "", "/root's/root": "", "/root's/user": "", "/user's/user": "", "/d/missing": "",
		"/user's/root": "/user's", "/d/link": "/d/link", "/root's/link": "/root's/link",
	} {
		if want != "" {
			want = dir + want
		}
		if got, _ := foreignLink(dir+name, make(map[string]bool)); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}
