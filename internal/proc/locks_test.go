package proc

import (
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

func TestParseLocks(t *testing.T) {
	got := parseLocks("1: POSIX  ADVISORY  WRITE 3568 fd:00:2531452 0 EOF\n1: -> POSIX  ADVISORY  WRITE 3569 fd:00:2531452 0 EOF\n" +
		"2: OFDLCK ADVISORY  READ  -1 00:2a:17 5 9\n3: FLOCK  ADVISORY  READ  77 08:11:3 0 EOF\n4: LEASE  ACTIVE    READ  5 bad 0 EOF\n")
	want := []Lock{
		{"POSIX", true, 3568, unix.Mkdev(0xfd, 0), 2531452, 0, math.MaxInt64},
		{"OFDLCK", false, -1, unix.Mkdev(0, 0x2a), 17, 5, 9},
		{"FLOCK", false, 77, unix.Mkdev(8, 0x11), 3, 0, math.MaxInt64},
	}
	if !slices.Equal(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
}

// TestLocks: a lock of this process is among all, with the device of the file's mount.
func TestLocks(t *testing.T) {
	name := filepath.Join(t.TempDir(), "file")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, name, 0, unix.STATX_INO|unix.STATX_MNT_ID, &st); err != nil || st.Mask&unix.STATX_MNT_ID == 0 {
		t.Skip("the kernel does not say on which mount a file is")
	}
	mounts, err := Mounts(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	dev, ok := mounts[int(st.Mnt_id)]
	locks, err := Locks()
	if err != nil || !ok || !slices.Contains(locks, Lock{"FLOCK", true, os.Getpid(), dev, st.Ino, 0, math.MaxInt64}) {
		t.Errorf("device %#x %v, inode %d: %+v, %v", dev, ok, st.Ino, locks, err)
	}
}
