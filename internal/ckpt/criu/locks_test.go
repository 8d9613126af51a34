package criu

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	criulock "github.com/checkpoint-restore/go-criu/v8/crit/images/file-lock"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/ckpt/criu/images"
	"blcr-cli/internal/proc"
)

// TestConflict: a lock is in the way of another of its family where one of them excludes the
// other, and of bytes that both have.
func TestConflict(t *testing.T) {
	const end = math.MaxInt64
	for _, c := range []struct {
		want images.Lock
		have proc.Lock
		in   bool
	}{
		{images.Lock{Kind: images.LockFlock, Write: true}, proc.Lock{Kind: "FLOCK", Last: end}, true},
		{images.Lock{Kind: images.LockFlock}, proc.Lock{Kind: "FLOCK", Write: true, Last: end}, true},
		{images.Lock{Kind: images.LockFlock}, proc.Lock{Kind: "FLOCK", Last: end}, false},
		{images.Lock{Kind: images.LockFlock, Write: true}, proc.Lock{Kind: "POSIX", Write: true, Last: end}, false},
		{images.Lock{Kind: images.LockPOSIX, Write: true}, proc.Lock{Kind: "FLOCK", Write: true, Last: end}, false},
		{images.Lock{Kind: images.LockPOSIX, Write: true}, proc.Lock{Kind: "OFDLCK", Last: end}, true},
		{images.Lock{Kind: images.LockOFD, Write: true}, proc.Lock{Kind: "POSIX", Last: end}, true},
		{images.Lock{Kind: images.LockOFD}, proc.Lock{Kind: "POSIX", Last: end}, false},
		{images.Lock{Kind: images.LockPOSIX, Write: true, Start: 10, Length: 5}, proc.Lock{Kind: "POSIX", First: 15, Last: 20}, false},
		{images.Lock{Kind: images.LockPOSIX, Write: true, Start: 10, Length: 5}, proc.Lock{Kind: "POSIX", First: 14, Last: 20}, true},
		{images.Lock{Kind: images.LockPOSIX, Write: true, Start: 10, Length: 5}, proc.Lock{Kind: "POSIX", First: 0, Last: 9}, false},
		{images.Lock{Kind: images.LockPOSIX, Write: true, Start: 10}, proc.Lock{Kind: "POSIX", First: 99, Last: end}, true},
		{images.Lock{Kind: images.LockLease}, proc.Lock{Kind: "LEASE", Write: true, Last: end}, false},
	} {
		if conflict(c.want, c.have) != c.in {
			t.Errorf("%+v, %+v: %v", c.want, c.have, !c.in)
		}
	}
}

// TestLocksFree: a lock of the job that somebody else has is an error that says who, and none
// when it is free.
func TestLocksFree(t *testing.T) {
	c := example(t)
	dir := t.TempDir()
	request := &ckpt.RestartRequest{RestorePid: true, Relocations: []ckpt.Relocation{{Old: "/tmp/job", New: dir}}}
	r := &restart{request: request, source: c, plan: makePlan(t, c, request)}
	f := &foresight{Forecast: &ckpt.Forecast{}, source: c, plan: r.plan, request: request}
	names, err := f.openNames(r.plan.images[images.FilesName])
	if err != nil {
		t.Fatal(err)
	}
	for d, name := range names {
		if !strings.HasPrefix(name, dir+"/") {
			continue
		}
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		file, err := os.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		entry, err := proto.Marshal(&criulock.FileLockEntry{Flag: new(uint32(2)), Type: new(uint32(1)), Pid: new(d.pid), Fd: new(int32(d.fd)), Start: new(int64(0)), Len: new(int64(0))})
		if err != nil {
			t.Fatal(err)
		}
		img := binary.LittleEndian.AppendUint32([]byte("\x19CVT"), 0x54323616)
		img = binary.LittleEndian.AppendUint32(img, uint32(len(entry)))
		c[images.FileLocksName] = append(img, entry...)
		if err := r.locksFree(context.Background()); err != nil {
			t.Errorf("free: %v, %q", err, ckpt.DetailOf(err))
		}
		if err := unix.Flock(int(file.Fd()), unix.LOCK_SH); err != nil {
			t.Fatal(err)
		}
		err = r.locksFree(context.Background())
		text := strings.Join(ckpt.DetailOf(err), "\n")
		if ckpt.ErrnoOf(err) != syscall.EBUSY || !strings.Contains(text, name+" locked by flock(2), and process "+fmt.Sprint(os.Getpid())) {
			t.Errorf("locked: %v, %q", err, text)
		}
		return
	}
	t.Fatalf("the example has no file open below /tmp/job: %v", names)
}
