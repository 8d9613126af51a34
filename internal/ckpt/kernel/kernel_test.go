package kernel

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/ckpt/kernel/abi"
)

func TestLogLines(t *testing.T) {
	for _, c := range []struct {
		text string
		want []string
	}{
		{"", nil},
		{"\x00", nil},
		{"\n\x00", nil},
		{"one\n\x00", []string{"one"}},
		{"one\x00", []string{"one"}},
		{"one\ntwo\n\x00", []string{"one", "two"}},
		{"one\ntwo\x00", []string{"one", "two"}},
		{"one\n\ntwo\n\x00", []string{"one", "", "two"}},
		{"one\x00old\n\x00", []string{"one"}}, // what follows the NUL is ignored
		{"no end", []string{"no end"}},
	} {
		if got := logLines([]byte(c.text)); !slices.Equal(got, c.want) {
			t.Errorf("%q: %q, want %q", c.text, got, c.want)
		}
	}
}

func TestCheckpointFlags(t *testing.T) {
	for _, c := range []struct {
		request ckpt.CheckpointRequest
		want    uint32
	}{
		{ckpt.CheckpointRequest{}, 0x10},
		{ckpt.CheckpointRequest{PtracedAllow: true}, 0x12},
		{ckpt.CheckpointRequest{PtracedSkip: true}, 0x14},
		{ckpt.CheckpointRequest{PtracerSkip: true}, 0x18},
		{ckpt.CheckpointRequest{SaveExe: true}, 0x210},
		{ckpt.CheckpointRequest{SavePrivate: true}, 0x410},
		{ckpt.CheckpointRequest{SaveShared: true}, 0x810},
		{ckpt.CheckpointRequest{SaveExe: true, SavePrivate: true, SaveShared: true, PtracedSkip: true, PtracerSkip: true}, 0xe1c},
	} {
		if got := checkpointFlags(&c.request); got != c.want {
			t.Errorf("%+v: %#x, want %#x", c.request, got, c.want)
		}
	}
}

func TestRestartFlags(t *testing.T) {
	for _, c := range []struct {
		request ckpt.RestartRequest
		want    uint32
	}{
		{ckpt.RestartRequest{}, 0x1},
		{ckpt.RestartRequest{RestorePid: true}, 0x3},
		{ckpt.RestartRequest{RestorePgid: true}, 0x5},
		{ckpt.RestartRequest{RestoreSid: true}, 0x9},
		{ckpt.RestartRequest{RestorePid: true, RestorePgid: true, RestoreSid: true}, 0xf},
	} {
		if got := restartFlags(&c.request); got != c.want {
			t.Errorf("%+v: %#x, want %#x", c.request, got, c.want)
		}
	}
}

func TestScopes(t *testing.T) {
	for scope, want := range map[ckpt.Scope]int32{
		ckpt.ScopeProcess: 0, ckpt.ScopeGroup: 1, ckpt.ScopeSession: 2, ckpt.ScopeTree: 3,
	} {
		if got, ok := scopes[scope]; !ok || got != want {
			t.Errorf("scope %d: %d, %v; want %d", scope, got, ok, want)
		}
	}
}

func TestRelocateTable(t *testing.T) {
	if table := relocateTable(nil); table != nil {
		t.Errorf("a table of nothing: %+v", table)
	}
	if table := relocateTable([]ckpt.Relocation{}); table != nil {
		t.Errorf("a table of nothing: %+v", table)
	}
	for _, n := range []int{1, 2, ckpt.MaxRelocations} {
		var relocations []ckpt.Relocation
		for i := range n {
			relocations = append(relocations, ckpt.Relocation{
				Old: fmt.Sprint("/old", i), New: "/" + strings.Repeat("n", i),
			})
		}
		table := relocateTable(relocations)
		if table.Count != uint32(n) {
			t.Errorf("%d relocations: count %d", n, table.Count)
		}
		for i, pair := range table.Path {
			if i >= n {
				if pair != (abi.RelocatePair{}) {
					t.Errorf("%d relocations: there is a pair %d", n, i)
				}
				continue
			}
			got := ckpt.Relocation{Old: goString(pair.OldPath), New: goString(pair.NewPath)}
			if got != relocations[i] {
				t.Errorf("pair %d of %d: %+v, want %+v", i, n, got, relocations[i])
			}
		}
	}
}

// goString reads up to the NUL.
func goString(p *byte) string {
	n := 0
	for *(*byte)(unsafe.Add(unsafe.Pointer(p), n)) != 0 {
		n++
	}
	return unsafe.String(p, n)
}

func TestMoveFrom(t *testing.T) {
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pipe[1])
	c := control(pipe[0])
	same := inode(t, pipe[0])

	if err := c.moveFrom(int32(pipe[0]) + 1); err != nil || int(c) != pipe[0] {
		t.Errorf("from another number: moved to %d, %v", c, err)
	}
	if err := c.moveFrom(int32(pipe[0])); err != nil || int(c) == pipe[0] {
		t.Fatalf("from its own number: moved to %d, %v", c, err)
	}
	if _, err := unix.FcntlInt(uintptr(pipe[0]), unix.F_GETFD, 0); err != unix.EBADF {
		t.Errorf("the old number is still open: %v", err)
	}
	if flags, err := unix.FcntlInt(uintptr(c), unix.F_GETFD, 0); err != nil || flags != unix.FD_CLOEXEC {
		t.Errorf("the new one has flags %#x, %v", flags, err)
	}
	if got := inode(t, int(c)); got != same {
		t.Errorf("the new one is another file")
	}

	// No number is left: the descriptor stays, and the error has the errno.
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(c) + 1, Max: limit.Max}); err != nil {
		t.Fatal(err)
	}
	before := c
	err := c.moveFrom(int32(c))
	if e := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); e != nil {
		t.Fatal(e)
	}
	var e *ckpt.Error
	if !errors.As(err, &e) || e.Errno != unix.EINVAL && e.Errno != unix.EMFILE {
		t.Errorf("without a number left: %v", err)
	}
	if c != before || inode(t, int(c)) != same {
		t.Errorf("without a number left: moved from %d to %d", before, c)
	}
	c.close()
}

func inode(t *testing.T, fd int) uint64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		t.Fatal(err)
	}
	return st.Ino
}

// TestResult pins the parts of an error: the number for programs, the rest for
// messages.
func TestResult(t *testing.T) {
	if n, err := control(5).result("CR_OP_X", 7, 0); n != 7 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	_, err := control(5).result("CR_OP_X", ^uintptr(0), syscall.Errno(2356))
	if !errors.Is(err, ckpt.ENoSupport) {
		t.Errorf("%v is not CR_ENOSUPPORT", err)
	}
	if want := "ioctl CR_OP_X /proc/checkpoint/ctrl (fd 5): Checkpoint support not linked into one or more processes"; err.Error() != want {
		t.Errorf("%q, want %q", err, want)
	}
}
