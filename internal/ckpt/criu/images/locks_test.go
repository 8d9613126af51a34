package images

import (
	"errors"
	"slices"
	"testing"

	criulock "github.com/checkpoint-restore/go-criu/v8/crit/images/file-lock"
)

// TestLocks: all of an entry is read, and one without all of it is malformed.
func TestLocks(t *testing.T) {
	entry := &criulock.FileLockEntry{Flag: new(uint32(1)), Type: new(uint32(1)), Pid: new(int32(12)), Fd: new(int32(3)), Start: new(int64(10)), Len: new(int64(5))}
	read := &criulock.FileLockEntry{Flag: new(uint32(2)), Type: new(uint32(0)), Pid: new(int32(12)), Fd: new(int32(4)), Start: new(int64(0)), Len: new(int64(0))}
	got, err := Locks(encode(t, kindFileLocks, entry, read))
	want := []Lock{{LockPOSIX, true, 12, 3, 10, 5}, {LockFlock, false, 12, 4, 0, 0}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
	entry.Len = nil
	if _, err := Locks(encode(t, kindFileLocks, entry)); !errors.Is(err, ErrMalformed) {
		t.Errorf("without a length: %v", err)
	}
}
