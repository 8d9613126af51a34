package explain

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/hints"
	"blcr-cli/internal/show"
)

// The lines are those of CRIU 3.17 to 4.2.

// rule turns one kind of line of CRIU's log into a sentence.
type rule struct {
	has  string // in every line of that kind; the expression is tried only there
	expr func() *regexp.Regexp
	// say makes the sentence from the expression's groups; "" if the line turns
	// out to be another kind.
	say  func(s *situation, m []string) string
	hint string // what to do, "" if nothing is known to help
}

func newRule(has, expr, hint string, say func(s *situation, m []string) string) rule {
	return rule{has: has, expr: pattern(expr), say: say, hint: hint}
}

// says is a fixed sentence.
func says(sentence string) func(*situation, []string) string {
	return func(*situation, []string) string { return sentence }
}

// holds is a sentence about what the process has that CRIU was saving.
func holds(what string) func(*situation, []string) string {
	return func(s *situation, _ []string) string { return s.who() + " has " + what + cannot }
}

// What several rules say.
const (
	cannot       = ", which criu cannot save"
	closeHint    = "the program has to close it before it is saved"
	tryAgainHint = "try again; it may be over by then"
	ioUringHint  = "start the program so that it does without io_uring; Node.js and libuv do with UV_USE_IO_URING=0"
	sysvHint     = "start the job by 'unshare --ipc', or in a container: in an IPC namespace of its own it can be saved"
	nsHint       = "save the processes in there by themselves, or start them without a namespace of their own"
)

var rules = []rule{
	newRule("Can't dump file ", `^Can't dump file (-?\d+) of that type \[(\d+)\] \((\S+) (.*)\)$`, "", (*situation).unsupportedFile),
	newRule("send_fds failed (-22)", `^send_fds failed \(-22\)`, ioUringHint, func(s *situation, _ []string) string {
		fd := s.find(func(to string) bool { return to == "anon_inode:[io_uring]" })
		if fd < 0 {
			return ""
		}
		return s.who() + " has an io_uring open as descriptor " + itoa(fd) + cannot
	}),
	newRule("Can't retrieve FDs", `^Can't retrieve FDs from socket`, "have root raise that limit", func(s *situation, _ []string) string {
		var l unix.Rlimit
		if unix.Getrlimit(unix.RLIMIT_NOFILE, &l) != nil || l.Max >= 1024 {
			return ""
		}
		return fmt.Sprintf("criu needs more files open at a time than the %d that it may have (ulimit -Hn)", l.Max)
	}),
	newRule("Unknown shit ", `^Unknown shit \d+ \((.*)\)$`, "", func(s *situation, m []string) string {
		what := m[1]
		switch {
		case what == "anon_inode:[io_uring]":
			what, s.hint = "memory of an io_uring", ioUringHint
		case strings.HasPrefix(what, "/secretmem"):
			what = "secret memory (memfd_secret)"
		}
		return s.who() + " has mapped " + show.Name(what) + cannot
	}),
	newRule("Unsupported mapping found ", `^Unsupported mapping found ([0-9a-f]+)-`, "", func(s *situation, m []string) string {
		start, _ := strconv.ParseUint(m[1], 16, 64)
		if name, _ := s.mapping(start); name != "" {
			return s.who() + " has mapped " + show.Name(name) + cannot
		}
		return s.who() + " has mapped memory at 0x" + m[1] + " of a kind that criu cannot save"
	}),
	newRule("SysVIPC", `^Task (\d+) with SysVIPC shmem map @([0-9a-f]+) doesn't live in IPC ns`, sysvHint, func(s *situation, m []string) string {
		start, _ := strconv.ParseUint(m[2], 16, 64)
		which := ""
		if name, ino := s.mapping(start); strings.HasPrefix(name, "/SYSV") {
			key, _, _ := strings.Cut(strings.TrimPrefix(name, "/SYSV"), " ")
			which = fmt.Sprintf(", segment %d with the key 0x%s,", ino, key)
		}
		return s.named(m[1]) + " has System V shared memory" + which + " which criu cannot save outside of an IPC namespace"
	}),

	// Sockets.
	newRule("netlink: The socket has data", `^netlink: The socket has data to read`, tryAgainHint, holds("a netlink socket with messages that it has not read")),
	newRule("Unknown socket collected", `Unknown socket collected \(family (\d+)\)`, closeHint, func(s *situation, m []string) string {
		return s.who() + " has " + socketOf(m[1]) + " open" + s.onlySocket() + cannot
	}),
	newRule("Unsupported proto ", `Unsupported proto (\d+) for socket ([0-9a-f]+)`, "", func(s *situation, m []string) string {
		what := "a socket of protocol " + m[1]
		switch m[1] {
		case "262":
			what, s.hint = "an MPTCP socket", "start the program so that it uses plain TCP; those in Go do with GODEBUG=multipathtcp=0"
		case "132":
			what = "an SCTP socket"
		}
		return s.socket(m[2], what)
	}),
	newRule(" inet socket ", `Can't dump \d+ inet socket ([0-9a-f]+)\.`, closeHint, func(s *situation, m []string) string { return s.socket(m[1], "a network socket of an unusual type") }),
	newRule("In-flight connection (l)", `In-flight connection \(l\) for ([0-9a-f]+)`, "try again, when the connection has been accepted", func(s *situation, m []string) string {
		return s.socket(m[1], "a listening socket with a connection that nobody has accepted yet")
	}),
	newRule("corked dgram", `Can't dump corked dgram socket ([0-9a-f]+)`, tryAgainHint, func(s *situation, m []string) string { return s.socket(m[1], "a corked UDP socket") }),
	newRule("Can't get 1:16 opt", `Can't get 1:16 opt`, "TCP, UDP and raw sockets need CRIU 4.2 or later on this kernel", func(s *situation, _ []string) string {
		return s.who() + " has network sockets open" + s.onlySocket() + ", which this criu is too old for"
	}),
	newRule("half of stream unix", `Can't dump half of stream unix connection`, closeHint, holds("a UNIX socket open that is connected to somebody who is not saved")),
	newRule("name-less external socket", `Can't dump name-less external socket`, closeHint, holds("a UNIX socket open that is connected to somebody who is not saved")),
	newRule("Net namespace is required", `^tun: Net namespace is required`, "start the job in a network namespace of its own, as by 'unshare --net', or without that device", func(s *situation, _ []string) string {
		return s.who() + " has a network device open" + s.openAs("/dev/net/tun") + ", which criu cannot save outside of a network namespace"
	}),

	// Files.
	newRule("Can't lookup mount=", `^Can't lookup mount=\d+ for fd=(-?\d+) path=(.*)$`, "", (*situation).lostMount),
	newRule("overmounted", `^Open files on overmounted mounts are not supported yet; mount=\d+ fd=(-?\d+) path=(.*)$`, "unmount it, or have the program open the file again", func(s *situation, m []string) string {
		return s.who() + " has " + show.Name(m[2]) + " open" + asDescriptor(m[1]) + ", and something else was mounted over it since"
	}),
	newRule("Can't create link remap", `^Can't create link remap for (.*)\. Use link-remap option`, "give the file its old name back, or have the program close it", func(s *situation, m []string) string {
		return s.who() + " has " + show.Name(m[1]) + " open" + s.openAs(m[1], m[1]+" (deleted)") + ", which was removed under that name and has another one"
	}),
	newRule("packetized mode", `^The packetized mode for pipes`, closeHint, holds("a pipe in packet mode (O_DIRECT)")),
	newRule("No NS ID with kid", `^No NS ID with kid (\d+)`, closeHint, func(s *situation, m []string) string {
		where := ""
		if fd := s.find(func(to string) bool { return strings.HasSuffix(to, ":["+m[1]+"]") }); fd >= 0 {
			where = " as descriptor " + itoa(fd)
		}
		return s.who() + " has a namespace open" + where + " that none of the processes is in" + cannot
	}),
	newRule("is not a part of process tree", `^pidfd: pidfd pid (\d+) is not a part of process tree`, "save them together, or have the program close it", func(s *situation, m []string) string {
		return s.who() + " has a descriptor open of " + s.named(m[1]) + ", which is not among those to be saved"
	}),

	// Processes.
	newRule("Can't dump nested ", `^Can't dump nested (\w+) namespace for (\d+)`, nsHint, func(s *situation, m []string) string {
		article := "a "
		if m[1] == "ipc" || m[1] == "uts" {
			article = "an "
		}
		return s.named(m[2]) + " is in " + article + m[1] + " namespace of its own, which criu cannot save together with the others"
	}),
	newRule("Unable to convert uid or gid", `^Unable to convert uid or gid`, "", func(s *situation, _ []string) string {
		return "the processes are in a user namespace of their own, as in a container without root, where their users are others"
	}),
	newRule("A session leader of ", `^A session leader of (\d+)\(\d+\) is outside of its pid namespace`, "start it with setsid(1), as 'unshare --pid --fork setsid PROGRAM'", func(s *situation, m []string) string {
		return s.named(m[1]) + " is in a session of another pid namespace, which criu cannot save"
	}),
	newRule(" running in 32-bit mode", `Can't dump task (\d+) running in 32-bit mode`, "", func(s *situation, m []string) string {
		return s.named(m[1]) + " is a 32-bit program, which this criu cannot save"
	}),
	newRule("LDT descriptors", `Can't dump task (\d+) with LDT descriptors`, "", func(s *situation, m []string) string {
		return s.named(m[1]) + " uses segments of memory as 16-bit Windows programs do (LDT)" + cannot
	}),
	newRule("Individually stopped threads", `^Individually stopped threads`, "detach the debugger, or have the whole process go on", holds("threads that are stopped while others run")),
	newRule("pending SIGTRAP", `Can't dump the (\d+) thread with a pending SIGTRAP`, tryAgainHint, func(s *situation, m []string) string {
		return s.named(m[1]) + " is at a debugger's breakpoint"
	}),
	newRule("Can't get rlimit", `^Can't get rlimit`, "", func(s *situation, _ []string) string {
		s.hint = "to save other users' processes criu needs the capability CAP_SYS_RESOURCE"
		if s.pid == 0 {
			return ""
		}
		if uid := s.owner(s.pid); uid >= 0 && uid != os.Geteuid() {
			return fmt.Sprintf("%s belongs to %s; to look at its limits takes CAP_SYS_RESOURCE, which %s does not have here", s.who(), hints.User(uid), hints.User(os.Geteuid()))
		}
		return ""
	}),
	newRule("rt vDSO area", `^vdso: Unexpected rt vDSO area`, "use a newer criu: CR_CRIU names it", func(s *situation, _ []string) string {
		return "this criu is too old for Linux " + hints.Kernel()
	}),

	// The restart.
	newRule("capabilities do not match", `^(cpu: )?CPU (instruction )?capabilities do not match run time`, "restart it on a machine with such a processor", (*situation).otherProcessor),
	newRule("xfeatures", `^(cpu: )?CPU xfeatures has unsupported bits`, "restart it on a machine with such a processor", (*situation).otherProcessor),
	newRule("march mismatch", `^Core march mismatch`, "", says("the context is of another architecture than this machine")),
	newRule("Unable to set real, effective", `^Unable to set real, effective and saved (user|group) ID`, "restart the job as that user, or as root", func(s *situation, _ []string) string {
		return "the processes belonged to another user, and " + hints.User(os.Geteuid()) + " may not make any of somebody else"
	}),
	newRule("can't write lsm profile", `^can't write lsm profile`, "load the profile here, or restart with a criu that may use it", says("the processes were confined by a security module's profile (AppArmor, SELinux) that cannot be had here")),
	newRule("Address already in use", `^(inet|unix): .*: Address already in use$`, "end that program first", func(s *situation, m []string) string {
		if m[1] == "unix" {
			return "another program has the address of a UNIX socket of the job"
		}
		return "another program has a network address of the job: see 'ss -lntu'"
	}),
	newRule("Cannot assign requested address", `: Cannot assign requested address$`, "", says("this machine does not have a network address that the job uses")),
	newRule("Resource temporarily unavailable", `^(Can't fork for \d+|fork\(\) failed): Resource temporarily unavailable`, "raise the limit, or end something", func(s *situation, _ []string) string {
		return strings.Join(hints.Processes(), "; ")
	}),
	newRule("Cannot allocate memory", `: Cannot allocate memory$`, "", func(s *situation, _ []string) string { return strings.Join(hints.Memory(), "; ") }),
}

// followUp is lines that say no more than the sentence that was made from another.
var followUp = pattern(`\(pid: \d+\) failed with -?\d+$|^Can't retrieve FDs from socket|^Message reply from daemon is trimmed|^Can't open \d+'s mapfile link|^Can't make \w+ns id` +
	`|^One or more namespaces doesn't belong|^sockets: Can't get 1:34 opt|^BUG at |^Can't stop all tasks on rt_sigreturn|is in unexpected state: b7f|^Task stopped with 11: `)

// aboutPid is in lines that say which process CRIU was saving.
var aboutPid = pattern(`\(pid: (\d+)\) failed with -?\d+$|^Can't open (\d+)'s mapfile link`)

// match finds the sentence for a line, and what to do; "" where there is none.
func (s *situation) match(text string) (sentence, hint string) {
	for _, r := range rules {
		if !strings.Contains(text, r.has) {
			continue
		}
		if m := r.expr().FindStringSubmatch(text); m != nil {
			s.hint = r.hint
			if sentence = r.say(s, m); sentence != "" || s.hint != r.hint {
				return sentence, s.hint
			}
		}
	}
	return "", ""
}

// consequence is lines that only follow from others.
var consequence = pattern(`FAILED\.$|^Unable to open stats-(dump|restore)|^One of more action scripts failed|^Script .* exited with|^Aborting restore due to|^Dump files \(fd|^Killing processes because` +
	"|^Can't fixup VMA's fd|^`- Can't open vma" + `|^[0-9]+ exited, status=1$|^[0-9]+ killed by signal 9`)
