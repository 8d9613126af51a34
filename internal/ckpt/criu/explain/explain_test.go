package explain

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/hints"
)

// machine makes a directory like /proc, with one process with such descriptors.
func machine(t *testing.T, pid int, comm string, fds map[string]string, maps string) *situation {
	t.Helper()
	at := &situation{proc: t.TempDir(), tree: []int{pid}}
	for _, dir := range []string{"", "fd"} {
		if err := os.Mkdir(at.file(pid, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{"comm": comm + "\n", "maps": maps} {
		if err := os.WriteFile(at.file(pid, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for fd, to := range fds {
		if err := os.Symlink(to, filepath.Join(at.file(pid, "fd"), fd)); err != nil {
			t.Fatal(err)
		}
	}
	return at
}

// TestAdvice feeds what CRIU 4.1.1 has really said, on Linux 6.18, and what CRIU 4.2
// would say where that is noted.
func TestAdvice(t *testing.T) {
	const pid = 4185
	for _, c := range []struct {
		name string
		log  []string
		fds  map[string]string
		maps string
		want []string
	}{
		{
			name: "io_uring",
			log:  []string{"send_fds failed (-22)", "Can't retrieve FDs from socket", "Message reply from daemon is trimmed (12/0)", "Dump files (pid: 4185) failed with -1", "Dumping FAILED."},
			fds:  map[string]string{"3": "anon_inode:[io_uring]"},
			want: []string{
				"process 4185 (sim) has an io_uring open as descriptor 3, which criu cannot save",
				"criu: send_fds failed (-22)",
				"start the program so that it does without io_uring; Node.js and libuv do with UV_USE_IO_URING=0",
			},
		}, {
			name: "io_uring, closed by now",
			log:  []string{"send_fds failed (-22)", "Dump files (pid: 4185) failed with -1"},
			want: []string{"criu: send_fds failed (-22)", "criu: Dump files (pid: 4185) failed with -1"},
		}, {
			name: "io_uring's memory",
			log:  []string{"Unknown shit 600 (anon_inode:[io_uring])", "Can't open 4185's mapfile link 7f94c06a7000: No such device or address", "Collect mappings (pid: 4185) failed with -1"},
			want: []string{
				"process 4185 (sim) has mapped memory of an io_uring, which criu cannot save",
				"criu: Unknown shit 600 (anon_inode:[io_uring])",
				"start the program so that it does without io_uring; Node.js and libuv do with UV_USE_IO_URING=0",
			},
		}, {
			name: "secret memory",
			log:  []string{"Unknown shit 100600 (/secretmem (deleted))", "Can't open 4185's mapfile link 7f5964a0b000: No such device or address", "Collect mappings (pid: 4185) failed with -1"},
			want: []string{"process 4185 (sim) has mapped secret memory (memfd_secret), which criu cannot save", "criu: Unknown shit 100600 (/secretmem (deleted))"},
		}, {
			name: "userfaultfd",
			log:  []string{"Can't dump file 3 of that type [600] (anon anon_inode:[userfaultfd])", "Dump files (pid: 4185) failed with -1"},
			fds:  map[string]string{"3": "anon_inode:[userfaultfd]"},
			want: []string{
				"process 4185 (sim) has a userfaultfd open as descriptor 3, which criu cannot save",
				"criu: Can't dump file 3 of that type [600] (anon anon_inode:[userfaultfd])",
				closeHint,
			},
		}, {
			name: "BPF",
			log:  []string{"Can't dump file 3 of that type [600] (anon anon_inode:bpf-prog)", "Dump files (pid: 4185) failed with -1"},
			want: []string{
				"process 4185 (sim) has a BPF program open as descriptor 3, which criu cannot save",
				"criu: Can't dump file 3 of that type [600] (anon anon_inode:bpf-prog)",
				closeHint,
			},
		}, {
			name: "nobody knows",
			log:  []string{"Can't dump file 3 of that type [600] (anon anon_inode:[new\x1bthing])", "Dump files (pid: 4185) failed with -1"},
			want: []string{
				`process 4185 (sim) has an object of the kernel's, "[new\x1bthing]", open as descriptor 3, which criu cannot save`,
				`criu: Can't dump file 3 of that type [600] (anon anon_inode:[new\x1bthing])`,
				closeHint,
			},
		}, {
			name: "device",
			log:  []string{"Can't dump file 3 of that type [20600] (chr 10:232)", "Dump files (pid: 4185) failed with -1"},
			fds:  map[string]string{"3": "/dev/kvm"},
			want: []string{"process 4185 (sim) has the device /dev/kvm open as descriptor 3, which criu cannot save", "criu: Can't dump file 3 of that type [20600] (chr 10:232)", closeHint},
		}, {
			name: "graphics card",
			log:  []string{"Can't dump file 5 of that type [20666] (chr 226:128)", "Dump files (pid: 4185) failed with -1"},
			fds:  map[string]string{"5": "/dev/dri/renderD128"},
			want: []string{
				"process 4185 (sim) has the device /dev/dri/renderD128 open as descriptor 5, which criu cannot save",
				"criu: Can't dump file 5 of that type [20666] (chr 226:128)",
				"what uses a graphics card can be saved only by a criu with a plugin for that card",
			},
		}, {
			name: "block device",
			log:  []string{"Can't dump file 3 of that type [60600] (unknown /dev/loop0)", "Dump files (pid: 4185) failed with -1"},
			want: []string{"process 4185 (sim) has the block device /dev/loop0 open as descriptor 3, which criu cannot save", "criu: Can't dump file 3 of that type [60600] (unknown /dev/loop0)", closeHint},
		}, {
			name: "System V shared memory",
			log:  []string{"Task 4185 with SysVIPC shmem map @7f0ae5549000 doesn't live in IPC ns", "Dump mappings (pid: 4185) failed with -1"},
			maps: "7f0ae5549000-7f0ae554a000 rw-s 00000000 00:01 32769                      /SYSV0000abcd (deleted)\n",
			want: []string{
				"process 4185 (sim) has System V shared memory, segment 32769 with the key 0x0000abcd, which criu cannot save outside of an IPC namespace",
				"criu: Task 4185 with SysVIPC shmem map @7f0ae5549000 doesn't live in IPC ns",
				sysvHint,
			},
		}, {
			name: "socket options",
			log:  []string{"sockets: Can't get 1:16 opt: Operation not supported", "sockets: Can't get 1:34 opt: Operation not supported", "Dump files (pid: 4185) failed with -1"},
			fds:  map[string]string{"0": "/dev/null", "3": "socket:[123]", "10": "socket:[124]"},
			want: []string{
				"process 4185 (sim) has network sockets open, among its descriptors 3, 10, which this criu is too old for",
				"criu: sockets: Can't get 1:16 opt: Operation not supported",
				"TCP, UDP and raw sockets need CRIU 4.2 or later on this kernel",
			},
		}, {
			name: "netlink",
			log:  []string{"netlink: The socket has data to read", "Dump files (pid: 4185) failed with -1"},
			want: []string{"process 4185 (sim) has a netlink socket with messages that it has not read, which criu cannot save", "criu: netlink: The socket has data to read", tryAgainHint},
		}, {
			name: "VSOCK",
			log:  []string{"sockets: BUG! Unknown socket collected (family 40)", "Dump files (pid: 4185) failed with -1"},
			fds:  map[string]string{"3": "socket:[123]"},
			want: []string{"process 4185 (sim) has a VSOCK socket open as descriptor 3, which criu cannot save", "criu: sockets: BUG! Unknown socket collected (family 40)", closeHint},
		}, {
			name: "MPTCP",
			log:  []string{"inet: Unsupported proto 262 for socket 28c00dd", "Dump files (pid: 4185) failed with -1"},
			fds:  map[string]string{"7": "socket:[42729693]"},
			want: []string{
				"process 4185 (sim) has an MPTCP socket open as descriptor 7, which criu cannot save",
				"criu: inet: Unsupported proto 262 for socket 28c00dd",
				"start the program so that it uses plain TCP; those in Go do with GODEBUG=multipathtcp=0",
			},
		}, {
			name: "network device",
			log:  []string{"tun: Net namespace is required to dump tun link", "Dump files (pid: 4185) failed with -1"},
			fds:  map[string]string{"3": "/dev/net/tun"},
			want: []string{
				"process 4185 (sim) has a network device open as descriptor 3, which criu cannot save outside of a network namespace",
				"criu: tun: Net namespace is required to dump tun link",
				"start the job in a network namespace of its own, as by 'unshare --net', or without that device",
			},
		}, {
			name: "unmounted",
			log:  []string{"Can't lookup mount=86 for fd=3 path=/f", "Dump files (pid: 4185) failed with -1"},
			want: []string{
				"process 4185 (sim) has /f open as descriptor 3, on a file system that was unmounted since, or that is another mount namespace's, which criu cannot save",
				"criu: Can't lookup mount=86 for fd=3 path=/f",
				"mount it again and have the program open the file anew, or have it close the file",
			},
		}, {
			name: "mount namespace",
			log:  []string{"Can't lookup mount=27 for fd=-3 path=/usr/bin/sim", "Collect mappings (pid: 4185) failed with -1"},
			want: []string{
				"process 4185 (sim) uses /usr/bin/sim (its program, a library or its directory) from outside of its mount namespace, which criu cannot save",
				"criu: Can't lookup mount=27 for fd=-3 path=/usr/bin/sim",
				"start the whole job in one mount namespace",
			},
		}, {
			name: "overmounted",
			log:  []string{"Open files on overmounted mounts are not supported yet; mount=86 fd=3 path=/tmp/m/f", "Dump files (pid: 4185) failed with -1"},
			want: []string{
				"process 4185 (sim) has /tmp/m/f open as descriptor 3, and something else was mounted over it since",
				"criu: Open files on overmounted mounts are not supported yet; mount=86 fd=3 path=/tmp/m/f",
				"unmount it, or have the program open the file again",
			},
		}, {
			name: "another link",
			log:  []string{"Can't create link remap for /tmp/l. Use link-remap option.", "Dump files (pid: 4185) failed with -1"},
			fds:  map[string]string{"4": "/tmp/l (deleted)"},
			want: []string{
				"process 4185 (sim) has /tmp/l open as descriptor 4, which was removed under that name and has another one",
				"criu: Can't create link remap for /tmp/l. Use link-remap option.",
				"give the file its old name back, or have the program close it",
			},
		}, {
			name: "pipe",
			log:  []string{"The packetized mode for pipes is not supported yet", "Dump files (pid: 4185) failed with -1"},
			want: []string{"process 4185 (sim) has a pipe in packet mode (O_DIRECT), which criu cannot save", "criu: The packetized mode for pipes is not supported yet", closeHint},
		}, {
			name: "descriptor of a namespace",
			log:  []string{"No NS ID with kid 4026532179", "Dump files (pid: 4185) failed with -1"},
			fds:  map[string]string{"0": "pipe:[1]", "3": "net:[4026532179]", "2": "net:[4026531833]"},
			want: []string{"process 4185 (sim) has a namespace open as descriptor 3 that none of the processes is in, which criu cannot save", "criu: No NS ID with kid 4026532179", closeHint},
		}, {
			name: "pidfd",
			log:  []string{"pidfd: pidfd pid 1 is not a part of process tree..", "Dump files (pid: 4185) failed with -1"},
			want: []string{
				"process 4185 (sim) has a descriptor open of process 1, which is not among those to be saved",
				"criu: pidfd: pidfd pid 1 is not a part of process tree..",
				"save them together, or have the program close it",
			},
		}, {
			name: "nested namespace",
			log:  []string{"Can't dump nested user namespace for 4185", "Can't make userns id"},
			want: []string{"process 4185 (sim) is in a user namespace of its own, which criu cannot save together with the others", "criu: Can't dump nested user namespace for 4185", nsHint},
		}, {
			name: "user namespace",
			log:  []string{"Unable to convert uid or gid", "One or more namespaces doesn't belong to the target user namespace"},
			want: []string{"the processes are in a user namespace of their own, as in a container without root, where their users are others", "criu: Unable to convert uid or gid"},
		}, {
			name: "session",
			log:  []string{"A session leader of 4185(1) is outside of its pid namespace"},
			want: []string{
				"process 4185 (sim) is in a session of another pid namespace, which criu cannot save",
				"criu: A session leader of 4185(1) is outside of its pid namespace",
				"start it with setsid(1), as 'unshare --pid --fork setsid PROGRAM'",
			},
		}, {
			name: "processor, CRIU 4.2",
			log:  []string{"CPU instruction capabilities do not match run time"},
			want: []string{
				"the processor of this machine cannot do everything that the one could on which the job was saved, and that it may use",
				"criu: CPU instruction capabilities do not match run time",
				"restart it on a machine with such a processor",
			},
		}, {
			name: "old criu, CRIU 3.17",
			log:  []string{"vdso: Unexpected rt vDSO area bounds"},
			want: []string{"this criu is too old for Linux " + hints.Kernel(), "criu: vdso: Unexpected rt vDSO area bounds", "use a newer criu: CR_CRIU names it"},
		}, {
			name: "another user's job",
			log:  []string{"Unable to set real, effective and saved user ID: -1", "BUG at criu/pie/restorer.c:2213", "Task 4185 is in unexpected state: b7f", "Task stopped with 11: Segmentation fault"},
			want: []string{
				"the processes belonged to another user, and " + hints.User(os.Geteuid()) + " may not make any of somebody else",
				"criu: Unable to set real, effective and saved user ID: -1",
				"restart the job as that user, or as root",
			},
		}, {
			name: "address in use, CRIU 4.2",
			log:  []string{"inet: Can't bind inet socket (id 3): Address already in use"},
			want: []string{"another program has a network address of the job: see 'ss -lntu'", "criu: inet: Can't bind inet socket (id 3): Address already in use", "end that program first"},
		}, {
			name: "missing",
			log:  []string{"Can't open file tmp/x on restore: No such file or directory", "Can't open file tmp/x: No such file or directory", "Can't fixup VMA's fd", "12 exited, status=1"},
			want: []string{"cannot open /tmp/x: No such file or directory", missingHint},
		}, {
			name: "changed",
			log:  []string{"File tmp/adv/slp has bad size 35664 (expect 43888)", "Can't fixup VMA's fd"},
			want: []string{"/tmp/adv/slp is not the file that was saved: its size is 35664, not 43888", changedHint},
		}, {
			name: "nothing that is known",
			log:  []string{"Something new: Permission denied", "Dump files (pid: 4185) failed with -1"},
			want: []string{"criu: Something new: Permission denied", "criu: Dump files (pid: 4185) failed with -1"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			at := machine(t, pid, "sim", c.fds, c.maps)
			if got := at.explain("dump", Failure{Status: 1 << 8, Log: c.log}).Detail; !slices.Equal(got, c.want) {
				t.Errorf("%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(c.want, "\n"))
			}
		})
	}
}

// TestAdviceInside: criu has seen the processes from within their pid namespace.
func TestAdviceInside(t *testing.T) {
	at := machine(t, 4185, "sim\x1b[1m", map[string]string{"3": "socket:[255]"}, "")
	at.ours = map[int]int{7: 4185}
	log := []string{"inet: Unsupported proto 132 for socket ff", "Dump files (pid: 7) failed with -1"}
	got := at.explain("dump", Failure{Status: 1 << 8, Log: log}).Detail
	if want := `process 4185 ("sim\x1b[1m") has an SCTP socket open as descriptor 3, which criu cannot save`; len(got) == 0 || got[0] != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestFileFault(t *testing.T) {
	for text, want := range map[string]string{
		"Can't open file tmp/a/prog on restore: No such file or directory":              "2 cannot open /tmp/a/prog: No such file or directory",
		"Can't open file tmp/a: b: Permission denied":                                   "13 cannot open /tmp/a: b: Permission denied",
		"File tmp/a/prog has bad build-ID":                                              "116 /tmp/a/prog is not the file that was saved: it has another build ID, as after an update",
		"File tmp/a/prog has bad build-ID length 8 (expect 20)":                         "116 /tmp/a/prog is not the file that was saved: it has another build ID, as after an update",
		"File tmp/a has bad size 4096 (expect 1048576)":                                 "116 /tmp/a is not the file that was saved: its size is 4096, not 1048576",
		"File tmp/a has bad mode 0100700 (expect 0100755)":                              "116 /tmp/a is not the file that was saved: its mode is 0100700, not 0100755",
		"Can't fork for 12: File exists":                                                "0 ",
		"File has bad luck":                                                             "0 ",
		"Can't dump ghost file /tmp/savedlab/j/gone/prog of 16384 size, increase limit": "0 ",
	} {
		f, ok := fileFault(text)
		if got := fmt.Sprintf("%d %s", f.errno, f.sentence); got != want || (f.todo != "") != ok {
			t.Errorf("%q: %q, %q", text, got, f.todo)
		}
	}
}

// TestRules: each expression can be compiled, and is tried at all.
func TestRules(t *testing.T) {
	for _, r := range rules {
		if r.has == "" || r.say == nil || r.expr().NumSubexp() > 4 {
			t.Errorf("%q", r.has)
		}
	}
}

// TestOrigin: where a context was made is said if it may be the cause.
func TestOrigin(t *testing.T) {
	var host unix.Utsname
	_ = unix.Uname(&host)
	machine := unix.ByteSliceToString(host.Machine[:])
	for _, c := range []struct {
		made  Origin
		errno syscall.Errno
		want  string
	}{
		{Origin{Host: "far", Kernel: "2.6", Machine: "vax"}, syscall.EINVAL, "the context was made on vax, and this machine is " + machine + ": there it has to be restarted"},
		{Origin{Host: "far", Kernel: "2.6", Machine: machine}, syscall.EIO, "the context was made on far with Linux 2.6; this is Linux " + hints.Kernel()},
		{Origin{Host: "far", Kernel: "2.6", Machine: machine}, syscall.ENOENT, ""},
		{Origin{Host: "far", Kernel: hints.Kernel(), Machine: machine}, syscall.EIO, ""},
		{Origin{}, syscall.EIO, ""},
	} {
		if got := c.made.differs(c.errno); got != c.want {
			t.Errorf("%+v: %q, want %q", c.made, got, c.want)
		}
	}
}
