package criu

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"blcr-cli/test/harness"
)

// TestReplaceUnread: what a master is to read is replaced by just that data, and the modes of
// the terminal stay.
func TestReplaceUnread(t *testing.T) {
	master, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		harness.Missing(t, "no pseudo terminal: %v", err)
	}
	defer unix.Close(master)
	if err := unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	peer, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(master), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if errno != 0 {
		t.Fatal(errno)
	}
	slave := os.NewFile(peer, "slave")
	defer slave.Close()
	before, err := unix.IoctlGetTermios(int(peer), unix.TCGETS2)
	if err != nil {
		t.Fatal(err)
	}
	for _, data := range []string{"one\ntwo\r\n", ""} {
		if _, err := slave.WriteString("mangled\n"); err != nil {
			t.Fatal(err)
		}
		if !replaceUnread(master, []byte(data)) {
			t.Fatal("not replaced")
		}
		after, err := unix.IoctlGetTermios(int(peer), unix.TCGETS2)
		if err != nil || *after != *before {
			t.Errorf("modes %+v, %v, want %+v", after, err, before)
		}
		if _, err := slave.WriteString("\n"); err != nil {
			t.Fatal(err)
		}
		got, want := "", data+"\r\n"
		for len(got) < len(want) {
			text := make([]byte, 100)
			n, err := unix.Read(master, text)
			if err != nil {
				t.Fatal(err)
			}
			got += string(text[:n])
		}
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0); err != nil || replaceUnread(null, nil) {
		t.Error("a file that is no terminal:", err)
	}
}
