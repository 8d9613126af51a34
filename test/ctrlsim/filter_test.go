//go:build linux && amd64

package ctrlsim

import (
	"encoding/binary"
	"slices"
	"sync"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// bpf runs the few instructions that the filter has, as the kernel would.
func bpf(t *testing.T, prog []unix.SockFilter, d *seccompData) uint32 {
	t.Helper()
	mem := unsafe.Slice((*byte)(unsafe.Pointer(d)), unsafe.Sizeof(*d))
	var a uint32
	for pc := 0; ; pc++ {
		in := prog[pc]
		jump := func(cond bool) {
			if cond {
				pc += int(in.Jt)
			} else {
				pc += int(in.Jf)
			}
		}
		switch in.Code {
		case unix.BPF_LD | unix.BPF_W | unix.BPF_ABS:
			a = binary.LittleEndian.Uint32(mem[in.K:])
		case unix.BPF_ALU | unix.BPF_AND | unix.BPF_K:
			a &= in.K
		case unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K:
			jump(a == in.K)
		case unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K:
			jump(a >= in.K)
		case unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K:
			jump(a&in.K != 0)
		case unix.BPF_RET | unix.BPF_K:
			return in.K
		default:
			t.Fatalf("instruction %d: %+v", pc, in)
		}
	}
}

func TestFilter(t *testing.T) {
	call := func(nr int, args ...uint64) *seccompData {
		d := &seccompData{Nr: int32(nr), Arch: unix.AUDIT_ARCH_X86_64}
		copy(d.Args[:], args)
		return d
	}
	all := make([]int, 0, len(countables))
	for _, c := range countables {
		all = append(all, c.nr)
	}
	i386 := call(unix.SYS_OPENAT)
	i386.Arch = unix.AUDIT_ARCH_I386
	x32 := call(unix.SYS_OPENAT | 1<<30)
	for _, test := range []struct {
		name        string
		d           *seccompData
		bare, count bool // trapped without and with everything counted
	}{
		{"open", call(unix.SYS_OPEN), true, true},
		{"openat", call(unix.SYS_OPENAT), true, true},
		{"openat2", call(unix.SYS_OPENAT2), true, true},
		{"read", call(unix.SYS_READ), false, true},
		{"mmap", call(unix.SYS_MMAP), false, false},
		{"futex", call(unix.SYS_FUTEX), false, false},
		{"ioctl of BLCR", call(unix.SYS_IOCTL, 3, 0x4008a130), true, true},
		{"ioctl without argument", call(unix.SYS_IOCTL, 3, 0xa112), true, true},
		{"ioctl with high bits", call(unix.SYS_IOCTL, 3, 0xffffffff8008a126), true, true},
		{"ioctl of the terminal", call(unix.SYS_IOCTL, 0, unix.TCGETS), false, false},
		{"write", call(unix.SYS_WRITE), false, true},
		{"fork", call(unix.SYS_FORK), false, true},
		{"clone of a process", call(unix.SYS_CLONE, uint64(unix.SIGCHLD)), false, true},
		{"clone of a thread", call(unix.SYS_CLONE, 0x410f00), false, false},
		{"clone3", call(unix.SYS_CLONE3), false, true},
		{"i386", i386, false, false},
		{"x32", x32, false, false},
	} {
		for _, counted := range []bool{false, true} {
			nrs, want := []int(nil), test.bare
			if counted {
				nrs, want = all, test.count
			}
			prog, err := assembleFilter(nrs, false)
			if err != nil {
				t.Fatal(err)
			}
			ret := bpf(t, prog, test.d)
			if ret != unix.SECCOMP_RET_ALLOW && ret != unix.SECCOMP_RET_USER_NOTIF {
				t.Errorf("%s: %#x", test.name, ret)
			}
			if got := ret == unix.SECCOMP_RET_USER_NOTIF; got != want {
				t.Errorf("%s: trapped %v, want %v (all counted: %v)", test.name, got, want, counted)
			}
		}
	}
}

// TestEvery pins that all calls but the untraced ones are trapped.
func TestEvery(t *testing.T) {
	prog, err := assembleFilter(nil, true)
	if err != nil {
		t.Fatal(err)
	}
	for nr := range 500 {
		want := uint32(unix.SECCOMP_RET_USER_NOTIF)
		if slices.Contains(untraced, nr) {
			want = unix.SECCOMP_RET_ALLOW
		}
		if got := bpf(t, prog, &seccompData{Nr: int32(nr), Arch: unix.AUDIT_ARCH_X86_64}); got != want {
			t.Errorf("call %d: %#x, want %#x", nr, got, want)
		}
	}
}

// TestOnCall pins that calls of every thread and process come before they are made.
func TestOnCall(t *testing.T) {
	var mu sync.Mutex
	calls := map[int]int{}
	pids := map[int]bool{}
	r := run(t, &Command{
		Path: "/bin/sh", Args: []string{"-c", "read line </dev/null; (exit 3); exit $?"},
		OnCall: func(c SystemCall) {
			mu.Lock()
			defer mu.Unlock()
			calls[c.Number]++
			pids[c.Pid] = true
		},
	})
	if r.ExitCode != 3 || calls[unix.SYS_EXECVE] != 1 || calls[unix.SYS_READ] == 0 || calls[unix.SYS_EXIT_GROUP] != 2 || len(pids) != 2 {
		t.Errorf("exit %d, calls %v of %d processes", r.ExitCode, calls, len(pids))
	}
}
