package attributes

import (
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt/criu/images"
	"blcr-cli/internal/proc"
)

// TestPolicies: NUMA policies are read as numa_maps has them, and noted.
func TestPolicies(t *testing.T) {
	for text, want := range map[string]string{
		"bind:0-1": "2:0-1", "interleave=static:0": "32771:0", "prefer=static|balancing:8": "40961:8", "local": "4:",
		"default": "0:", "prefer (many):0,2": "5:0,2", "weighted interleave:1": "6:1",
	} {
		p, ok := parsePolicy(text)
		noted, ok2 := notedPolicy(want)
		if !ok || !ok2 || p.String() != want || noted != p {
			t.Errorf("%q is %v, %q", text, p, p.String())
		}
	}
	for _, text := range []string{"", "bound:0", "="} {
		if p, ok := parsePolicy(text); ok {
			t.Errorf("%q is %v", text, p)
		}
	}
	if mask := (numaPolicy{nodes: "0,9"}).mask(); len(mask) != (nodesInMask-1)/8 || mask[0] != 1 || mask[1] != 2 {
		t.Errorf("%d bytes, % x", len(mask), mask[:2])
	}
}

// TestMemory: what memory has been told is noted by its addresses, and becomes system calls and
// advice.
func TestMemory(t *testing.T) {
	page := os.Getpagesize()
	// With pages between that keep them apart.
	all, err := unix.Mmap(-1, 0, 6*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Munmap(all) }()
	at := uint64(uintptr(unsafe.Pointer(&all[0])))
	if err := unix.Madvise(all[page:3*page], unix.MADV_WIPEONFORK); err != nil {
		t.Skip(err)
	}
	fault := []images.Range{{Start: at + 4*uint64(page), End: at + 5*uint64(page)}}
	if _, _, errno := unix.Syscall(unix.SYS_MLOCK2, uintptr(fault[0].Start), uintptr(page), mlockOnFault); errno != 0 {
		t.Skip(errno)
	}
	pid := os.Getpid()
	words := Flags([]int{pid}, nil)[pid]
	if left := Flags([]int{pid}, map[int]Asked{pid: {Future: unix.MCL_FUTURE}}); len(left) > 0 {
		t.Error("flags of a process in which CRIU's code is locked:", left)
	}
	saveMemory(os.Getpid(), Asked{MDWE: 1, Future: unix.MCL_FUTURE}, func(name, value string) { words = append(words, name+"="+value) })
	s := Parse([]byte("7 " + strings.Join(words, " ") + " mce=1 sealed=10000-20000,x policy=2:0\n7 mapped=3:0@10000-20000;1:0@x\n"))
	wipe, onFault := s.Ranges(7)
	if !slices.Contains(wipe, images.Range{Start: at + uint64(page), End: at + 3*uint64(page)}) || !slices.Contains(onFault, fault[0]) {
		t.Fatalf("%x: wiped %x, on fault %x", at, wipe, onFault)
	}
	r := s.Restorer()
	r.Policies = true
	var got []string
	for _, c := range r.Calls(7, os.Getpid()) {
		if len(c.Data) > 0 {
			c.Args[c.DataAt] = 0xdada
		}
		got = append(got, fmt.Sprintf("%d %x", c.Number, c.Args))
	}
	call := func(number int, args ...uint64) string { return fmt.Sprintf("%d %x", number, args) }
	want := []string{call(unix.SYS_PRCTL, unix.PR_MCE_KILL, mceSet, 1)}
	if proc.MemoryPolicy(os.Getpid()) != "" {
		want = append([]string{call(unix.SYS_SET_MEMPOLICY, 2, 0xdada, nodesInMask)}, want...)
	}
	want = append(want, call(unix.SYS_MBIND, 0x10000, 0x10000, 3, 0xdada, nodesInMask, mbindMove))
	for _, at := range onFault {
		want = append(want, call(unix.SYS_MLOCK2, at.Start, at.End-at.Start, mlockOnFault))
	}
	want = append(want, call(unix.SYS_MLOCKALL, unix.MCL_FUTURE), call(unix.SYS_MSEAL, 0x10000, 0x10000), call(unix.SYS_PRCTL, unix.PR_SET_MDWE, 1))
	if !reflect.DeepEqual(got, want) {
		t.Errorf("calls:\n%q, want\n%q", got, want)
	}
}
