package explain

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/hints"
	"blcr-cli/internal/show"
)

// The number for what CRIU cannot save, and for what may be over at the next try.
const (
	unsupported = syscall.EOPNOTSUPP
	busy        = syscall.EBUSY
)

// movedData says that CRIU has not got all of a TCP connection.
const movedData = "data has been received in a TCP connection of the job while that was saved"

// Moved is the error for a dump that CRIU took for complete and that lacks such data.
func Moved() *ckpt.Error {
	return &ckpt.Error{Op: "checkpoint", Object: "processes", Errno: busy, Detail: []string{movedData, tryAgainHint}}
}

// IsMoved reports whether that is why a dump has failed, by Moved or by CRIU's own words. It
// seldom happens twice in a row.
func IsMoved(err error) bool {
	var e *ckpt.Error
	return errors.As(err, &e) && slices.Contains(e.Detail, movedData)
}

// wasInterrupted follows the name of a process that did not do what CRIU had it do: SIGCONT
// stops a process that is traced, even where it is blocked, and a fault comes first.
const wasInterrupted = " was interrupted by SIGCONT, SIGSTOP or a fault of its own while it was saved"

// Interrupted is the error for a dump that would meet a thread with a fault pending.
func Interrupted(tid int) *ckpt.Error {
	return &ckpt.Error{Op: "checkpoint", Object: "processes", Errno: busy, Detail: []string{hints.Process(tid) + wasInterrupted, tryAgainHint}}
}

// IsInterrupted reports whether that is why a dump has failed, by Interrupted or by CRIU's own
// words.
func IsInterrupted(err error) bool {
	var e *ckpt.Error
	return errors.As(err, &e) && slices.ContainsFunc(e.Detail, func(line string) bool { return strings.HasSuffix(line, wasInterrupted) })
}

// dumpRules is for lines of a dump.
var dumpRules = []rule{
	{has: "Can't dump file ", expr: pattern(`^Can't dump file (-?\d+) of that type \[(\d+)\] \((\S+) (.*)\)$`), errno: unsupported, say: (*situation).unsupportedFile},
	{has: "send_fds failed (-22)", expr: pattern(`^send_fds failed \(-22\)`), errno: unsupported, hint: ioUringHint,
		say: func(s *situation, _ []string) string {
			as := s.openAs("anon_inode:[io_uring]")
			if as == "" {
				return ""
			}
			return s.process() + " has an io_uring open" + as + cannot
		}},
	{has: "Can't retrieve FDs", expr: pattern(`^Can't retrieve FDs from socket`), errno: unix.EMFILE, hint: "have root raise that limit",
		say: func(s *situation, _ []string) string {
			var l unix.Rlimit
			if unix.Getrlimit(unix.RLIMIT_NOFILE, &l) != nil || l.Max >= 1024 {
				return ""
			}
			return fmt.Sprintf("criu needs more files open at a time than the %d that it may have (ulimit -Hn)", l.Max)
		}},
	{has: "Unknown shit ", expr: pattern(`^Unknown shit \d+ \((.*)\)$`), errno: unsupported,
		say: func(s *situation, m []string) string {
			what := m[1]
			switch {
			case what == "anon_inode:[io_uring]":
				what, s.hint = "memory of an io_uring", ioUringHint
			case strings.HasPrefix(what, "/secretmem"):
				what = "secret memory (memfd_secret)"
			}
			return s.process() + " has mapped " + show.Name(what) + cannot
		}},
	{has: "Unsupported mapping found ", expr: pattern(`^Unsupported mapping found ([0-9a-f]+)-`), errno: unsupported,
		say: func(s *situation, m []string) string {
			if mapping := s.mapping(m[1]); mapping != nil {
				return s.process() + " has mapped " + show.Name(mapping.Path) + cannot
			}
			return s.process() + " has mapped memory at 0x" + m[1] + " of a kind that criu cannot save"
		}},
	{has: "SysVIPC", expr: pattern(`^Task (\d+) with SysVIPC shmem map @([0-9a-f]+) doesn't live in IPC ns`), errno: unsupported,
		hint: "start the job by 'unshare --ipc', or in a container: in an IPC namespace of its own it can be saved",
		say: func(s *situation, m []string) string {
			which := ""
			if mapping := s.mapping(m[2]); mapping != nil && strings.HasPrefix(mapping.Path, "/SYSV") {
				key, _, _ := strings.Cut(strings.TrimPrefix(mapping.Path, "/SYSV"), " ")
				which = fmt.Sprintf(", segment %d with the key 0x%s,", mapping.Ino, key)
			}
			return s.named(m[1]) + " has System V shared memory" + which + " which criu cannot save outside of an IPC namespace"
		}},
	{has: "splice all pages", expr: pattern(`^Can't splice all pages to pipe`), errno: unsupported, hint: "guard regions can be saved by CRIU 4.2 and later: CR_CRIU names it",
		say: func(s *situation, _ []string) string {
			return s.process() + " has memory that cannot be read, as guard regions are (MADV_GUARD_INSTALL; stacks of threads have them with glibc 2.42)" + cannot
		}},

	// Limits of the process itself, in which CRIU runs code.
	{has: "victim: Too many open files", expr: pattern(`^Can't create memfd in victim: Too many open files`), say: (*situation).outOfDescriptors},
	{has: "Can't dump page with", expr: pattern(`^Can't dump page with parasite`), errno: unix.EMFILE, say: (*situation).outOfDescriptors},
	{has: "remote mmap() failed", expr: pattern(`^remote mmap\(\) failed: Cannot allocate memory`), say: (*situation).outOfAddresses},
	{has: "remote mmap() failed", expr: pattern(`^remote mmap\(\) failed: Resource temporarily unavailable`), errno: unix.EAGAIN, say: (*situation).outOfLocked},

	// Sockets.
	{has: "netlink: The socket has data", expr: pattern(`^netlink: The socket has data to read`), errno: busy, hint: tryAgainHint,
		say: holds("a netlink socket with messages that it has not read")},
	{has: "more than 32 groups", expr: pattern(`The netlink socket 0x([0-9a-f]+) has more than 32 groups`), errno: unsupported, hint: closeHint,
		say: func(s *situation, m []string) string {
			return s.socket(m[1], "a netlink socket that listens to more groups than 32, or to one with a higher number")
		}},
	{has: "not to portid", expr: pattern(`The netlink socket 0x([0-9a-f]+) is bound to groups but not to portid`), errno: unsupported, hint: "have the program call bind(2) for it",
		say: func(s *situation, m []string) string {
			return s.socket(m[1], "a netlink socket that listens to a group and was not bound")
		}},
	{has: "Unknown socket collected", expr: pattern(`Unknown socket collected \(family (\d+)\)`), errno: unsupported, hint: closeHint,
		say: func(s *situation, m []string) string {
			return s.process() + " has " + socketOf(m[1]) + " open" + s.sockets() + cannot
		}},
	{has: "Unsupported proto ", expr: pattern(`Unsupported proto (\d+) for socket ([0-9a-f]+)`), errno: unsupported,
		say: func(s *situation, m []string) string {
			what := "a socket of protocol " + m[1]
			switch m[1] {
			case "262":
				what, s.hint = "an MPTCP socket", "start the program so that it uses plain TCP; those in Go do with GODEBUG=multipathtcp=0"
			case "132":
				what = "an SCTP socket"
			}
			return s.socket(m[2], what)
		}},
	{has: " inet socket ", expr: pattern(`Can't dump \d+ inet socket ([0-9a-f]+)\.`), errno: unsupported, hint: closeHint,
		say: func(s *situation, m []string) string { return s.socket(m[1], "a network socket of an unusual type") }},
	{has: "In-flight connection (l)", expr: pattern(`In-flight connection \(l\) for ([0-9a-f]+)`), errno: busy, hint: "try again, when the connection has been accepted",
		say: func(s *situation, m []string) string {
			return s.socket(m[1], "a listening socket with a connection that it has not accepted yet")
		}},
	// The same for UNIX sockets, of which CRIU can save those that have sent nothing.
	{has: "in-flight socket 0x", expr: pattern(`Non-empty write queue on an in-flight socket 0x([0-9a-f]+)`), errno: busy, hint: "try again, when the connection has been accepted",
		say: func(s *situation, m []string) string {
			return s.socket(m[1], "a socket that has sent something by a connection that is not accepted yet")
		}},
	{has: "in-flight socket to 0x", expr: pattern(`Found a closed in-flight socket to 0x([0-9a-f]+)`), errno: busy, hint: "try again, when the connection has been accepted",
		say: func(s *situation, m []string) string {
			return s.socket(m[1], "a listening socket with a connection that was closed before it was accepted")
		}},
	{has: "Control messages in queue", expr: pattern(`^skqueue: Control messages in queue`), errno: busy, hint: "try again, when the program has received it",
		say: holds("a UNIX socket with a message in its queue that says who has sent it, or when (SO_PASSCRED, SO_TIMESTAMP)")},
	{has: "corked dgram", expr: pattern(`Can't dump corked dgram socket ([0-9a-f]+)`), errno: busy, hint: tryAgainHint,
		say: func(s *situation, m []string) string { return s.socket(m[1], "a corked UDP socket") }},
	{has: "Can't resolve name", expr: pattern(`Can't resolve name for socket`), errno: unsupported,
		hint: "have the program bind it by its whole path, have root save the job, or use a criu with that capability",
		say:  holds("a UNIX socket with a relative name that is not below its working directory any more: to find it takes CAP_NET_ADMIN")},
	{has: "TCP repair mode ON", expr: pattern(`^Can't turn TCP repair mode ON: Operation not permitted`), hint: "save it as root, or when its connections are closed, or with a criu that has that capability",
		say: func(s *situation, _ []string) string {
			return s.process() + " has a TCP connection: to save one takes the capability CAP_NET_ADMIN"
		}},
	// The queue has become shorter between two calls of CRIU's.
	{has: ", want ", expr: pattern(`recv failed \(\d+, want \d+\)`), errno: busy, hint: tryAgainHint,
		say: says(movedData)},
	{has: "Can't get 1:16 opt", expr: pattern(`Can't get 1:16 opt`), errno: unsupported, hint: "TCP, UDP and raw sockets need CRIU 4.2 or later on this kernel",
		say: func(s *situation, _ []string) string {
			return s.process() + " has network sockets open" + s.sockets() + ", which this criu is too old for"
		}},
	{has: "half of stream unix", expr: pattern(`Can't dump half of stream unix connection`), errno: unsupported, hint: closeHint, say: holds(outsideSocket)},
	{has: "name-less external socket", expr: pattern(`Can't dump name-less external socket`), errno: unsupported, hint: closeHint, say: holds(outsideSocket)},
	{has: "Net namespace is required", expr: pattern(`^tun: Net namespace is required`), errno: unsupported,
		hint: "start the job in a network namespace of its own, as by 'unshare --net', or without that device",
		say: func(s *situation, _ []string) string {
			return s.process() + " has a network device open" + s.openAs("/dev/net/tun") + ", which criu cannot save outside of a network namespace"
		}},

	{has: "No CTL for TTY dump", expr: pattern(`^tty: No CTL for TTY dump`), errno: busy, hint: "try again, when the program has received it",
		say: holds("a terminal that is being passed to one of its sockets (SCM_RIGHTS)")},

	{has: "ctty inheritance", expr: pattern(`^tty: ctty inheritance detected sid/pgrp (\d+)(?:, no PTY peer|.*\(ctty pid_real (\d+) )`), errno: unsupported,
		hint: "have the program close it, or open the terminal by its own name, see tty(1), or end it", say: (*situation).currentTerminal},

	// Files.
	{has: "Can't get 1:39 opt", expr: pattern(`Can't get 1:39 opt: Bad file descriptor`), errno: unsupported, hint: closeHint,
		say: func(s *situation, _ []string) string { return s.onlyName(unix.S_IFSOCK, "a UNIX socket") }},
	{has: "set a pipe size", expr: pattern(`^Unable to set a pipe size: Operation not permitted`), hint: "close some, or have root raise fs.pipe-user-pages-soft",
		say: func(*situation, []string) string {
			return hints.User(os.Geteuid()) + " has so many pipes that the system makes new ones too small for criu to look into those of the job"
		}},
	{has: "piped data size", expr: pattern(`^Can't obtain piped data size`), errno: unsupported, hint: closeHint,
		say: func(s *situation, _ []string) string { return s.onlyName(unix.S_IFIFO, "a FIFO") }},
	{has: "Unknown clock type", expr: pattern(`^Unknown clock type [89] for`), errno: unsupported, hint: closeHint,
		say: holds("a timer open that wakes the machine up (timerfd_create(2) with CLOCK_REALTIME_ALARM or CLOCK_BOOTTIME_ALARM)")},
	{has: "Can't lookup mount=", expr: pattern(`^Can't lookup mount=\d+ for fd=(-?\d+) path=(.*)$`), errno: unsupported, say: (*situation).lostMount},
	{has: "overmounted", expr: pattern(`^Open files on overmounted mounts are not supported yet; mount=\d+ fd=(-?\d+) path=(.*)$`), errno: unsupported,
		hint: "unmount it, or have the program open the file again",
		say: func(s *situation, m []string) string {
			return s.process() + " has " + show.Name(m[2]) + " open" + asDescriptor(m[1]) + ", and something else was mounted over it since"
		}},
	{has: "ead link of fd", expr: pattern(`^(?:Can't read link of fd \d+: File name too long|Buffer for read link of fd \d+ is too small)`), errno: unix.ENAMETOOLONG,
		hint: "have the program work in another directory, or close the file",
		say: func(s *situation, _ []string) string {
			return s.process() + " works in a directory, or has a file open, with a longer path than criu can save, of 4,094 bytes"
		}},
	{has: "bfd buffer", expr: pattern(`^bfd: The bfd buffer is too small`), errno: unix.ENAMETOOLONG, hint: "start the program with that file elsewhere",
		say: func(s *situation, _ []string) string {
			for m := range s.facts(s.pid).mappings {
				if len(m.Path) > longestMapped {
					return s.process() + " has a file mapped with a longer path than criu can save, of 4,022 bytes"
				}
			}
			return ""
		}},
	{has: "Can't stat fd", expr: pattern(`^Can't stat fd \d+: No such file or directory`), errno: unsupported, hint: closeHint,
		say: holds("a directory in /proc open that shows the descriptors of what has ended")},
	{has: "Unaccessible path opened", expr: pattern(`^Unaccessible path opened`), errno: unsupported, say: (*situation).hiddenFile},
	{has: "ghost original", expr: pattern(`^Can't open ghost original file: Permission denied`), hint: "have root save and restart the job",
		say: holds("a removed file that its user may not open again to read")},
	{has: "Can't create link remap", expr: pattern(`^Can't create link remap for (.*)\. Use link-remap option`), errno: unsupported, say: (*situation).otherLink},
	{has: "Can't open map_files", expr: pattern(`^Can't open map_files: (Permission denied|Operation not permitted)`), say: (*situation).unreadableMapping},
	{has: " handle", expr: pattern(`^fsnotify: \s*Can't (?:dump that|find suitable path for) handle`), errno: unsupported, say: (*situation).watchedFile},
	{has: "Dump eventpoll ", expr: pattern(`^Dump eventpoll \(pid: \d+\) failed`), errno: unsupported, hint: "the program has to take it from there (EPOLL_CTL_DEL) before it closes it", say: func(s *situation, _ []string) string {
		return cmp.Or(s.closedPolled(nil), s.process()+" watches by epoll a file that it has closed, and that another process has open"+cannot)
	}},
	{has: "packetized mode", expr: pattern(`^The packetized mode for pipes`), errno: unsupported, hint: closeHint, say: holds("a pipe in packet mode (O_DIRECT)")},
	{has: "No NS ID with kid", expr: pattern(`^No NS ID with kid (\d+)`), errno: unsupported, hint: closeHint,
		say: func(s *situation, m []string) string {
			as := ""
			if fd := s.descriptor(func(link string) bool { return strings.HasSuffix(link, ":["+m[1]+"]") }); fd >= 0 {
				as = fmt.Sprintf(" as descriptor %d", fd)
			}
			return s.process() + " has a namespace open" + as + " that none of the processes is in" + cannot
		}},
	{has: "PIDFD_THREAD", expr: pattern(`^pidfd: PIDFD_THREAD flag is currently not supported`), errno: unsupported, hint: closeHint,
		say: holds("a descriptor of a thread (pidfd_open(2) with PIDFD_THREAD)")},
	{has: "is not a part of process tree", expr: pattern(`^pidfd: pidfd pid (\d+) is not a part of process tree`), errno: unsupported,
		hint: "save them together, or have the program close it",
		say: func(s *situation, m []string) string {
			return s.process() + " has a descriptor open of " + s.named(m[1]) + ", which is not among those to be saved"
		}},

	// Processes.
	{has: "Can't dump nested ", expr: pattern(`^Can't dump nested (\w+) namespace for (\d+)`), errno: unsupported,
		hint: "save the processes in there by themselves, or start them without a namespace of their own",
		say: func(s *situation, m []string) string {
			article := "a "
			if m[1] == "ipc" || m[1] == "uts" {
				article = "an "
			}
			return s.named(m[2]) + " is in " + article + m[1] + " namespace of its own, which criu cannot save together with the others"
		}},
	{has: "Unable to convert uid or gid", expr: pattern(`^Unable to convert uid or gid`), errno: unsupported,
		say: says("the processes are in a user namespace of their own, as in a container without root, where their users are others")},
	{has: "A session leader of ", expr: pattern(`^A session leader of (\d+)\(\d+\) is outside of its pid namespace`), errno: unsupported,
		hint: "start it with setsid(1), as 'unshare --pid --fork setsid PROGRAM'",
		say: func(s *situation, m []string) string {
			return s.named(m[1]) + " is in a session of another pid namespace" + cannot
		}},
	{has: "proper root mount", expr: pattern(`^mnt: \d+:(.*) doesn't have a proper root mount`), errno: unsupported,
		hint: "unmount it there, or start the job in the mount namespace of the machine",
		say: func(_ *situation, m []string) string {
			return "the processes are in a mount namespace of their own, in which " + show.Name(rooted(strings.TrimPrefix(m[1], "."))) + " is only a part of a file system" + cannot
		}},
	{has: " running in 32-bit mode", expr: pattern(`Can't dump task (\d+) running in 32-bit mode`), errno: unsupported,
		say: func(s *situation, m []string) string {
			return s.named(m[1]) + " is a 32-bit program, which this criu cannot save"
		}},
	{has: "LDT descriptors", expr: pattern(`Can't dump task (\d+) with LDT descriptors`), errno: unsupported,
		say: func(s *situation, m []string) string {
			return s.named(m[1]) + " uses segments of memory as 16-bit Windows programs do (LDT)" + cannot
		}},
	{has: "Individually stopped threads", expr: pattern(`^Individually stopped threads`), errno: unsupported,
		hint: "detach the debugger, or have the whole process go on", say: holds("threads that are stopped while others run")},
	{has: "ombie", expr: pattern(`^(?:Zombies with threads are not supported|Zombie thread not supported)`), errno: busy, hint: tryAgainHint,
		say: says("a process or thread of the job is about to end")},
	{has: "Can't stat path", expr: pattern(`^Can't stat path: Permission denied`), hint: "start the program with another file in its place, such as </dev/null",
		say: func(s *situation, _ []string) string {
			name := ""
			fd := s.descriptor(func(link string) bool {
				var st unix.Stat_t
				if name != "" || !strings.HasPrefix(link, "/") || unix.Stat(link, &st) != unix.EACCES {
					return false
				}
				name = link
				return true
			})
			if name == "" {
				return ""
			}
			return fmt.Sprintf("%s has %s open%s, and %s may not look it up, as criu has to", s.process(), show.Name(name), asDescriptor(fmt.Sprint(fd)), hints.User(os.Geteuid()))
		}},
	{has: "unsupported stop signal", expr: pattern(`^SEIZE (\d+): unsupported stop signal 2[12]`), errno: unsupported,
		hint: "bring it to the foreground, where Ctrl-Z may stop it", say: func(s *situation, m []string) string {
			return s.named(m[1]) + " is stopped because it is in the background and wants its terminal (SIGTTIN, SIGTTOU), and CRIU cannot save it so"
		}},
	{has: "unexpectedly", expr: pattern(`^(\d+) was stopped by (?:5|19) unexpectedly`), errno: busy, hint: tryAgainHint, say: interrupted},
	{has: "task interruption", expr: pattern(`^Unexpected (\d+) task interruption, aborting`), errno: busy, hint: tryAgainHint, say: interrupted},
	{has: "pending SIGTRAP", expr: pattern(`Can't dump the (\d+) thread with a pending SIGTRAP`), errno: busy, hint: tryAgainHint,
		say: func(s *situation, m []string) string {
			return s.named(m[1]) + " has a SIGTRAP pending: it is at a debugger's breakpoint, or blocks that signal"
		}},
	{has: "Can't get rlimit", expr: pattern(`^Can't get rlimit`), hint: "to save other users' processes criu needs the capability CAP_SYS_RESOURCE",
		say: func(s *situation, _ []string) string {
			for _, pid := range s.candidates() {
				if uid := s.facts(pid).uid; uid >= 0 && uid != os.Geteuid() {
					return fmt.Sprintf("%s belongs to %s; to look at its limits takes CAP_SYS_RESOURCE, which %s does not have here", s.name(pid), hints.User(uid), hints.User(os.Geteuid()))
				}
			}
			return ""
		}},

	// This machine.
	tooOld, noLoopback, noRootMount, outOfMemory, outOfFiles, outOfProcesses,
}

// outOfMemory is for an allocation of CRIU's own.
var outOfMemory = rule{has: "Cannot allocate memory", expr: pattern(`: Cannot allocate memory$`),
	say: func(*situation, []string) string { return strings.Join(hints.Memory(), "; ") }}

// outsideSocket is a socket with one end outside of the processes that are saved.
const outsideSocket = "a UNIX socket open that is connected to a process that is not saved"

// outOfDescriptors is the sentence for a process that may not open the few files
// more that CRIU opens in it; "" if there is no such process.
func (s *situation) outOfDescriptors([]string) string {
	const needed = 4
	for _, pid := range s.candidates() {
		f := s.facts(pid)
		used := uint64(0)
		for d, err := range f.descriptors {
			if err == nil && uint64(d.FD) < f.openFiles.soft {
				used++
			}
		}
		if f.openFiles.soft-used >= needed {
			continue
		}
		s.hint = raise(f.openFiles.hard, pid, "nofile", f.openFiles.soft+16)
		return fmt.Sprintf("%s has %d of the %d files open that it may have (ulimit -n), and criu has to open some more in it", s.name(pid), used, f.openFiles.soft)
	}
	return ""
}

// outOfAddresses is the sentence for a process that may not have the little memory
// more that CRIU needs in it, or for what limits CRIU.
func (s *situation) outOfAddresses([]string) string {
	for _, pid := range s.candidates() {
		if f := s.facts(pid); f.memory.soft != unlimited {
			s.hint = raise(f.memory.hard, pid, "as", unlimited)
			return fmt.Sprintf("%s may have %s of address space (ulimit -v), and criu needs a little more in it", s.name(pid), show.Size(f.memory.soft))
		}
	}
	return strings.Join(hints.Memory(), "; ")
}

// outOfLocked is the sentence for a process that has what it maps locked, as CRIU's code in it.
func (s *situation) outOfLocked([]string) string {
	for _, pid := range s.candidates() {
		if locked := s.facts(pid).locked(); locked.soft != unlimited {
			s.hint = raise(locked.hard, pid, "memlock", unlimited)
			return fmt.Sprintf("%s may lock %s of memory (ulimit -l), and locks all that is mapped in it (mlockall(2)): criu needs a little more", s.name(pid), show.Size(locked.soft))
		}
	}
	return ""
}

// candidates are the process that CRIU was saving, or all where it does not say.
func (s *situation) candidates() []int {
	if s.pid != 0 {
		return []int{s.pid}
	}
	return s.Tree
}

// raise is how to give a running process a higher limit by prlimit(1): its owner may
// do that up to the hard limit.
func raise(hard uint64, pid int, name string, value uint64) string {
	text := fmt.Sprint(value)
	if value == unlimited {
		text = "unlimited"
	}
	if value <= hard {
		return fmt.Sprintf("'prlimit --pid %d --%s=%s:' raises that limit", pid, name, text)
	}
	return fmt.Sprintf("have root raise that limit: prlimit --pid %d --%s=%s", pid, name, text)
}

// interrupted is for a process that stopped while criu had it run code.
func interrupted(s *situation, m []string) string { return s.named(m[1]) + wasInterrupted }
