package explain

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/show"
)

// anonymous names the objects of the kernel that have no name in a file system, by
// the name that /proc shows.
var anonymous = map[string]string{
	"[io_uring]":         "an io_uring",
	"[userfaultfd]":      "a userfaultfd",
	"[perf_event]":       "a perf event",
	"bpf-map":            "a BPF map",
	"bpf-prog":           "a BPF program",
	"bpf_link":           "a BPF link",
	"[landlock-ruleset]": "a Landlock ruleset",
	"[fscontext]":        "a file system that is being mounted",
	"[fanotify]":         "a fanotify group",
	"kvm-vm":             "a virtual machine of KVM's",
	"seccomp notify":     "a seccomp listener",
}

// unsupportedFile is the sentence for a descriptor that CRIU has no code for:
// "Can't dump file 3 of that type [20600] (chr 10:232)".
func (s *situation) unsupportedFile(m []string) string {
	mode, _ := strconv.ParseUint(m[2], 8, 32)
	fd, kind, info := m[1], m[3], m[4]
	s.hint = closeHint
	what, to := "", s.link(fd)
	switch {
	case kind == "anon":
		name := strings.TrimPrefix(info, "anon_inode:")
		if what = anonymous[name]; what == "" {
			what = "an object of the kernel's, " + show.Name(name) + ","
		}
		if name == "[io_uring]" {
			s.hint = ioUringHint
		}
	case mode&unix.S_IFMT == unix.S_IFCHR:
		what = "the device " + info
		if strings.HasPrefix(to, "/") {
			what = "the device " + show.Name(to)
		}
		if strings.HasPrefix(info, "226:") || strings.HasPrefix(to, "/dev/nvidia") || strings.HasPrefix(to, "/dev/kfd") {
			s.hint = "what uses a graphics card can be saved only by a criu with a plugin for that card"
		}
	case mode&unix.S_IFMT == unix.S_IFBLK:
		what = "the block device " + show.Name(info)
	case mode&unix.S_IFMT == unix.S_IFSOCK:
		what = "a socket of a kind"
	default:
		what = show.Name(info)
	}
	return s.who() + " has " + what + " open" + asDescriptor(fd) + cannot
}

// families names the socket families that CRIU has no code for, by their number.
var families = map[string]string{"29": "a CAN socket", "31": "a Bluetooth socket", "38": "a socket of the kernel's cryptography (AF_ALG)", "40": "a VSOCK socket", "44": "an XDP socket"}

func socketOf(family string) string {
	if s := families[family]; s != "" {
		return s
	}
	return "a socket of family " + family
}

// mqueueMagic is the type of the file system of POSIX message queues.
const mqueueMagic = 0x19800202

// lostMount is the sentence for a file on a mount that is not in the processes'
// mount namespace.
func (s *situation) lostMount(m []string) string {
	fd, name := m[1], show.Name(m[2])
	if strings.HasPrefix(fd, "-") {
		s.hint = "start the whole job in one mount namespace"
		return s.who() + " uses " + name + " (its program, a library or its directory) from outside of its mount namespace" + cannot
	}
	var fs unix.Statfs_t
	if unix.Statfs(s.file(s.pid, "fd/"+fd), &fs) == nil && fs.Type == mqueueMagic {
		s.hint = closeHint
		return s.who() + " has the POSIX message queue " + name + " open" + asDescriptor(fd) + cannot
	}
	s.hint = "mount it again and have the program open the file anew, or have it close the file"
	return s.who() + " has " + name + " open" + asDescriptor(fd) + ", on a file system that was unmounted since, or that is another mount namespace's" + cannot
}

// otherProcessor is the sentence for a context that was made on another processor.
func (s *situation) otherProcessor([]string) string {
	return "the processor of this machine cannot do everything that the one could on which the job was saved, and that it may use"
}
