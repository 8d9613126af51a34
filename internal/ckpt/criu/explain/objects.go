package explain

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/proc"
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
	what, link := "", s.link(fd)
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
		what = "the device " + show.Name(info)
		if strings.HasPrefix(link, "/") {
			what = "the device " + show.Name(link)
		}
		if strings.HasPrefix(info, "226:") || strings.HasPrefix(link, "/dev/nvidia") || strings.HasPrefix(link, "/dev/kfd") {
			s.hint = "what uses a graphics card can be saved only by a criu with a plugin for that card"
		}
	case mode&unix.S_IFMT == unix.S_IFBLK:
		what = "the block device " + show.Name(info)
	case mode&unix.S_IFMT == unix.S_IFSOCK:
		what = "a socket of a kind"
	default:
		what = show.Name(info)
	}
	return s.process() + " has " + what + " open" + asDescriptor(fd) + cannot
}

// families names the socket families that CRIU has no code for, by their number.
var families = map[string]string{"29": "a CAN socket", "31": "a Bluetooth socket", "38": "a socket of the kernel's cryptography (AF_ALG)", "40": "a VSOCK socket", "44": "an XDP socket"}

func socketOf(family string) string {
	if s := families[family]; s != "" {
		return s
	}
	return "a socket of family " + family
}

// mqueueMagic is the type of the file system of POSIX message queues, as of
// statfs(2).
const mqueueMagic = 0x19800202

// lostMount is the sentence for a file on a mount that is not in the processes'
// mount namespace.
func (s *situation) lostMount(m []string) string {
	fd, name := m[1], show.Name(m[2])
	if strings.HasPrefix(fd, "-") {
		s.hint = "start the whole job in one mount namespace"
		return s.process() + " uses " + name + " (its program, a library or its directory) from outside of its mount namespace" + cannot
	}
	s.hint = closeHint
	if strings.HasPrefix(m[2], "/secretmem") {
		return s.process() + " has secret memory (memfd_secret) open" + asDescriptor(fd) + cannot
	}
	if strings.HasPrefix(m[2], "/memfd:") {
		return s.process() + " has the memory " + name + " in huge pages open" + asDescriptor(fd) + " (memfd_create(2) with MFD_HUGETLB)" + cannot
	}
	var fs unix.Statfs_t
	if n, err := strconv.Atoi(fd); err == nil && unix.Statfs(proc.Open(s.pid, n), &fs) == nil && fs.Type == mqueueMagic {
		return s.process() + " has the POSIX message queue " + name + " open" + asDescriptor(fd) + cannot
	}
	s.hint = "mount it again and have the program open the file anew, or have it close the file"
	return s.process() + " has " + name + " open" + asDescriptor(fd) + ", on a file system that was unmounted since, or that is another mount namespace's" + cannot
}

// hiddenFile is the sentence for a file whose name leads to another one.
func (s *situation) hiddenFile([]string) string {
	s.hint = "unmount what hides it, or have the program open the file by another name"
	for d, err := range s.facts(s.pid).descriptors {
		var st unix.Stat_t
		if err == nil && strings.HasPrefix(d.Link, "/") && unix.Stat(d.Link, &st) == nil && !proc.LeadsTo(d.Link, s.pid, d.FD) {
			return s.process() + " has " + show.Name(d.Link) + " open" + asDescriptor(strconv.Itoa(d.FD)) + ", and another file was mounted over that name since" + cannot
		}
	}
	return s.process() + " has a file open over whose name another one was mounted since" + cannot
}

// otherLink is the sentence for a file that was removed under the name by which the
// process has it, and that has another one. CRIU saves a removed file only if it
// has no name at all.
func (s *situation) otherLink(m []string) string {
	name := m[1]
	st, as := s.identify(name)
	other := OtherName(name, st.Dev, st.Ino)
	if semaphore, ok := strings.CutPrefix(other, "/dev/shm/sem."); ok {
		// sem_open(3) makes the file under another name first.
		s.hint = fmt.Sprintf("when all programs that use it have it open, remove its name: sem_unlink(3), or rm %s", show.Name(other))
		return fmt.Sprintf("%s uses the POSIX semaphore %s, which criu cannot save while it has a name", s.process(), show.Name("/"+semaphore))
	}
	how := " open" + as
	if as == "" && st.Ino != 0 {
		how = " mapped"
	}
	const why = ": criu saves a removed file only if it has no name left"
	sentence := s.process() + " has " + show.Name(name) + how + ", which was removed under that name and has "
	if other != "" {
		s.hint = fmt.Sprintf("have the program open %s instead; or remove that, if the name is not needed", show.Name(other))
		return sentence + "the name " + show.Name(other) + why
	}
	s.hint = "have the program open the file by its other name, or close it"
	if point, _ := proc.Mount(st.Dev); point != "" && st.Ino != 0 {
		s.hint += fmt.Sprintf("; 'find %s -xdev -inum %d' finds that name", show.Name(point), st.Ino)
	}
	return sentence + "another one in another directory" + why
}

// OtherName is a name that a file with that device and inode has in the directory of the
// name that it had; "" if there is none among the first of many names.
func OtherName(name string, dev, ino uint64) string {
	const most = 100000
	d, err := os.Open(filepath.Dir(name))
	if err != nil {
		return ""
	}
	defer d.Close()
	names, _ := d.Readdirnames(most)
	for _, n := range names {
		var st unix.Stat_t
		other := filepath.Join(filepath.Dir(name), n)
		if unix.Lstat(other, &st) == nil && st.Dev == dev && st.Ino == ino {
			return other
		}
	}
	return ""
}

// unreadableMapping is the sentence for a mapped file that CRIU may not open, though
// it is root: on some file systems only the owner may.
func (s *situation) unreadableMapping([]string) string {
	s.hint = "save the job as its user, or start it from another file system"
	for m := range s.facts(s.pid).mappings {
		if strings.HasPrefix(m.Path, "/") && !strings.HasPrefix(m.Path, "/SYSV") && unix.Access(m.Path, unix.R_OK) == unix.EACCES {
			return fmt.Sprintf("%s has mapped %s, which criu may not read, as on FUSE or on NFS with root_squash", s.process(), show.Name(m.Path))
		}
	}
	return s.process() + " has mapped a file that criu may not read, as on FUSE or on NFS with root_squash"
}

// watchedFile is the sentence for a file that is watched by inotify or fanotify, and
// whose name CRIU cannot find out. /proc shows its file system.
func (s *situation) watchedFile([]string) string {
	s.hint = "have it watch files on another file system, or none while it is saved"
	as, where, kind := "", "", "inotify"
	for _, fd := range s.descriptors(func(link string) bool { return link == proc.Inotify || link == proc.Fanotify }) {
		if as == "" {
			as = fmt.Sprintf(" (descriptor %d)", fd)
			if s.link(strconv.Itoa(fd)) != proc.Inotify {
				kind = "fanotify"
			}
		}
		for _, watch := range proc.Watched(s.pid, fd) {
			// Of all file systems it is overlayfs that does not tell names.
			if point, kind := proc.Mount(watch.Dev); where == "" && point != "" || kind == "overlay" {
				as = fmt.Sprintf(" (descriptor %d)", fd)
				where = fmt.Sprintf(" on the file system %s (%s)", show.Name(point), kind)
			}
		}
	}
	if os.Geteuid() != 0 {
		s.hint += "; or have root save it"
	}
	return s.process() + " watches a file by " + kind + as + where + ", and criu cannot find out the name of that file"
}

// onlyName is the sentence for a socket or a FIFO of which a process has only the name open.
func (s *situation) onlyName(kind uint32, what string) string {
	as := ""
	for d, err := range s.facts(s.pid).descriptors {
		var st unix.Stat_t
		if err == nil && !d.Readable && !d.Writable && strings.HasPrefix(d.Link, "/") && unix.Stat(proc.Open(s.pid, d.FD), &st) == nil && st.Mode&unix.S_IFMT == kind {
			as = asDescriptor(strconv.Itoa(d.FD)) + ", " + show.Name(d.Link)
			break
		}
	}
	return s.process() + " has only the name of " + what + " open (O_PATH)" + as + cannot
}

// closedPolled is the sentence for an epoll descriptor that watches a file which the process
// has closed and another process has open. Not of one that a process of the tree before it has
// as well, for which CRIU looks there; "" if there is none.
func (s *situation) closedPolled(tree []int) string {
	for _, epoll := range s.descriptors(func(link string) bool { return link == "anon_inode:[eventpoll]" }) {
		shared := func(pid int) bool { return proc.SameFile(pid, epoll, s.pid, epoll) }
		if before := slices.Index(tree, s.pid); before > 0 && slices.ContainsFunc(tree[:before], shared) {
			continue
		}
		index := make(map[int]int)
		for _, was := range proc.Polled(s.pid, epoll) {
			leads := func(fd int) bool { return proc.Polls(s.pid, fd, epoll, was, index[was]) }
			if !leads(was) && !slices.ContainsFunc(s.descriptors(func(string) bool { return true }), leads) {
				return fmt.Sprintf("%s watches by epoll (descriptor %d) a file that it has closed, which was its descriptor %d, and that another process has open%s", s.process(), epoll, was, cannot)
			}
			index[was]++
		}
	}
	return ""
}
