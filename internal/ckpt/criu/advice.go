package criu

import (
	"fmt"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/ctxfile"
	"blcr-cli/internal/hints"
	"blcr-cli/internal/proc"
)

// What criu's lines come to: who has what open that cannot be saved, and how to get
// on. Texts are those of CRIU 3.17 to 4.2. A line that nothing here fits is shown as
// it is; nothing here decides what happens.

// rule is for a line of criu's log.
type rule struct {
	has  string // what is in all lines that it fits; the expression is tried only there
	expr func() *regexp.Regexp
	// say makes a sentence of the expression's groups, "" for none after all.
	say func(at *scene, m []string) string
	way string // out of it, "" if none is known
}

func newRule(has, expr, way string, say func(at *scene, m []string) string) rule {
	return rule{has: has, expr: pattern(expr), say: say, way: way}
}

// says is a sentence that needs nothing.
func says(sentence string) func(*scene, []string) string {
	return func(*scene, []string) string { return sentence }
}

// holds is a sentence about what the process that criu was at has.
func holds(what string) func(*scene, []string) string {
	return func(at *scene, _ []string) string { return at.who() + " has " + what + cannot }
}

// What several of them say.
const (
	cannot   = ", which criu cannot save"
	close1   = "the program has to close it before it is saved"
	tryAgain = "try again; it may be over by then"
	ioUring  = "start the program so that it does without io_uring; Node.js and libuv do with UV_USE_IO_URING=0"
	sysvWay  = "start the job by 'unshare --ipc', or in a container: in an IPC namespace of its own it can be saved"
	nsWay    = "save the processes in there by themselves, or start them without a namespace of their own"
)

var rules = []rule{
	newRule("Can't dump file ", `^Can't dump file (-?\d+) of that type \[(\d+)\] \((\S+) (.*)\)$`, "", (*scene).unsupportedFile),
	newRule("send_fds failed (-22)", `^send_fds failed \(-22\)`, ioUring, func(at *scene, _ []string) string {
		fd := at.find(func(to string) bool { return to == "anon_inode:[io_uring]" })
		if fd < 0 {
			return ""
		}
		return at.who() + " has an io_uring open as descriptor " + itoa(fd) + cannot
	}),
	newRule("Can't retrieve FDs", `^Can't retrieve FDs from socket`, "have root raise that limit", func(at *scene, _ []string) string {
		var l unix.Rlimit
		if at.limit(&l); l.Max >= 1024 {
			return ""
		}
		return fmt.Sprintf("criu needs more files open at a time than the %d that it may have (ulimit -Hn)", l.Max)
	}),
	newRule("Unknown shit ", `^Unknown shit \d+ \((.*)\)$`, "", func(at *scene, m []string) string {
		what := m[1]
		switch {
		case what == "anon_inode:[io_uring]":
			what, at.more = "memory of an io_uring", ioUring
		case strings.HasPrefix(what, "/secretmem"):
			what = "secret memory (memfd_secret)"
		}
		return at.who() + " has mapped " + hints.Shown(what) + cannot
	}),
	newRule("Unsupported mapping found ", `^Unsupported mapping found ([0-9a-f]+)-`, "", func(at *scene, m []string) string {
		start, _ := strconv.ParseUint(m[1], 16, 64)
		if name, _ := at.mapping(start); name != "" {
			return at.who() + " has mapped " + hints.Shown(name) + cannot
		}
		return at.who() + " has mapped memory at 0x" + m[1] + " of a kind that criu cannot save"
	}),
	newRule("SysVIPC", `^Task (\d+) with SysVIPC shmem map @([0-9a-f]+) doesn't live in IPC ns`, sysvWay, func(at *scene, m []string) string {
		start, _ := strconv.ParseUint(m[2], 16, 64)
		which := ""
		if name, ino := at.mapping(start); strings.HasPrefix(name, "/SYSV") {
			key, _, _ := strings.Cut(strings.TrimPrefix(name, "/SYSV"), " ")
			which = fmt.Sprintf(", segment %d with the key 0x%s,", ino, key)
		}
		return at.named(m[1]) + " has System V shared memory" + which + " which criu cannot save outside of an IPC namespace"
	}),

	// Sockets.
	newRule("netlink: The socket has data", `^netlink: The socket has data to read`, tryAgain, holds("a netlink socket with messages that it has not read")),
	newRule("Unknown socket collected", `Unknown socket collected \(family (\d+)\)`, close1, func(at *scene, m []string) string {
		return at.who() + " has " + socketOf(m[1]) + " open" + at.onlySocket() + cannot
	}),
	newRule("Unsupported proto ", `Unsupported proto (\d+) for socket ([0-9a-f]+)`, "", func(at *scene, m []string) string {
		what := "a socket of protocol " + m[1]
		switch m[1] {
		case "262":
			what, at.more = "an MPTCP socket", "start the program so that it uses plain TCP; those in Go do with GODEBUG=multipathtcp=0"
		case "132":
			what = "an SCTP socket"
		}
		return at.socket(m[2], what)
	}),
	newRule(" inet socket ", `Can't dump \d+ inet socket ([0-9a-f]+)\.`, close1, func(at *scene, m []string) string { return at.socket(m[1], "a network socket of an unusual type") }),
	newRule("In-flight connection (l)", `In-flight connection \(l\) for ([0-9a-f]+)`, "try again, when the connection has been accepted", func(at *scene, m []string) string {
		return at.socket(m[1], "a listening socket with a connection that nobody has accepted yet")
	}),
	newRule("corked dgram", `Can't dump corked dgram socket ([0-9a-f]+)`, tryAgain, func(at *scene, m []string) string { return at.socket(m[1], "a corked UDP socket") }),
	newRule("Can't get 1:16 opt", `Can't get 1:16 opt`, "TCP, UDP and raw sockets need CRIU 4.2 or later on this kernel", func(at *scene, _ []string) string {
		return at.who() + " has network sockets open" + at.onlySocket() + ", which this criu is too old for"
	}),
	newRule("half of stream unix", `Can't dump half of stream unix connection`, close1, holds("a UNIX socket open that is connected to somebody who is not saved")),
	newRule("name-less external socket", `Can't dump name-less external socket`, close1, holds("a UNIX socket open that is connected to somebody who is not saved")),
	newRule("Net namespace is required", `^tun: Net namespace is required`, "start the job in a network namespace of its own, as by 'unshare --net', or without that device", func(at *scene, _ []string) string {
		return at.who() + " has a network device open" + at.openAs("/dev/net/tun") + ", which criu cannot save outside of a network namespace"
	}),

	// Files.
	newRule("Can't lookup mount=", `^Can't lookup mount=\d+ for fd=(-?\d+) path=(.*)$`, "", (*scene).lostMount),
	newRule("overmounted", `^Open files on overmounted mounts are not supported yet; mount=\d+ fd=(-?\d+) path=(.*)$`, "unmount it, or have the program open the file again", func(at *scene, m []string) string {
		return at.who() + " has " + hints.Shown(m[2]) + " open" + asDescriptor(m[1]) + ", and something else was mounted over it since"
	}),
	newRule("Can't create link remap", `^Can't create link remap for (.*)\. Use link-remap option`, "give the file its old name back, or have the program close it", func(at *scene, m []string) string {
		return at.who() + " has " + hints.Shown(m[1]) + " open" + at.openAs(m[1], m[1]+" (deleted)") + ", which was removed under that name and has another one"
	}),
	newRule("packetized mode", `^The packetized mode for pipes`, close1, holds("a pipe in packet mode (O_DIRECT)")),
	newRule("No NS ID with kid", `^No NS ID with kid (\d+)`, close1, func(at *scene, m []string) string {
		where := ""
		if fd := at.find(func(to string) bool { return strings.HasSuffix(to, ":["+m[1]+"]") }); fd >= 0 {
			where = " as descriptor " + itoa(fd)
		}
		return at.who() + " has a namespace open" + where + " that none of the processes is in" + cannot
	}),
	newRule("is not a part of process tree", `^pidfd: pidfd pid (\d+) is not a part of process tree`, "save them together, or have the program close it", func(at *scene, m []string) string {
		return at.who() + " has a descriptor open of " + at.named(m[1]) + ", which is not among those to be saved"
	}),

	// Processes.
	newRule("Can't dump nested ", `^Can't dump nested (\w+) namespace for (\d+)`, nsWay, func(at *scene, m []string) string {
		article := "a "
		if m[1] == "ipc" || m[1] == "uts" {
			article = "an "
		}
		return at.named(m[2]) + " is in " + article + m[1] + " namespace of its own, which criu cannot save together with the others"
	}),
	newRule("Unable to convert uid or gid", `^Unable to convert uid or gid`, "", func(at *scene, _ []string) string {
		return "the processes are in a user namespace of their own, as in a container without root, where their users are others"
	}),
	newRule("A session leader of ", `^A session leader of (\d+)\(\d+\) is outside of its pid namespace`, "start it with setsid(1), as 'unshare --pid --fork setsid PROGRAM'", func(at *scene, m []string) string {
		return at.named(m[1]) + " is in a session of another pid namespace, which criu cannot save"
	}),
	newRule(" running in 32-bit mode", `Can't dump task (\d+) running in 32-bit mode`, "", func(at *scene, m []string) string {
		return at.named(m[1]) + " is a 32-bit program, which this criu cannot save"
	}),
	newRule("LDT descriptors", `Can't dump task (\d+) with LDT descriptors`, "", func(at *scene, m []string) string {
		return at.named(m[1]) + " uses segments of memory as 16-bit Windows programs do (LDT)" + cannot
	}),
	newRule("Individually stopped threads", `^Individually stopped threads`, "detach the debugger, or have the whole process go on", holds("threads that are stopped while others run")),
	newRule("pending SIGTRAP", `Can't dump the (\d+) thread with a pending SIGTRAP`, tryAgain, func(at *scene, m []string) string {
		return at.named(m[1]) + " is at a debugger's breakpoint"
	}),
	newRule("Can't get rlimit", `^Can't get rlimit`, "", func(at *scene, _ []string) string {
		at.more = "to save other users' processes criu needs the capability CAP_SYS_RESOURCE"
		if at.pid == 0 {
			return ""
		}
		if uid := at.owner(at.pid); uid >= 0 && uid != os.Geteuid() {
			return fmt.Sprintf("%s belongs to %s; to look at its limits takes CAP_SYS_RESOURCE, which %s does not have here", at.who(), hints.User(uid), hints.User(os.Geteuid()))
		}
		return ""
	}),
	newRule("rt vDSO area", `^vdso: Unexpected rt vDSO area`, "use a newer criu: CR_CRIU names it", func(at *scene, _ []string) string {
		return "this criu is too old for Linux " + hints.Kernel()
	}),

	// The restart.
	newRule("capabilities do not match", `^(cpu: )?CPU (instruction )?capabilities do not match run time`, "restart it on a machine with such a processor", (*scene).otherProcessor),
	newRule("xfeatures", `^(cpu: )?CPU xfeatures has unsupported bits`, "restart it on a machine with such a processor", (*scene).otherProcessor),
	newRule("march mismatch", `^Core march mismatch`, "", says("the context is of another architecture than this machine")),
	newRule("Unable to set real, effective", `^Unable to set real, effective and saved (user|group) ID`, "restart the job as that user, or as root", func(at *scene, _ []string) string {
		return "the processes belonged to another user, and " + hints.User(os.Geteuid()) + " may not make any of somebody else"
	}),
	newRule("can't write lsm profile", `^can't write lsm profile`, "load the profile here, or restart with a criu that may use it", says("the processes were confined by a security module's profile (AppArmor, SELinux) that cannot be had here")),
	newRule("Address already in use", `^(inet|unix): .*: Address already in use$`, "end that program first", func(at *scene, m []string) string {
		if m[1] == "unix" {
			return "another program has the address of a UNIX socket of the job"
		}
		return "another program has a network address of the job: see 'ss -lntu'"
	}),
	newRule("Cannot assign requested address", `: Cannot assign requested address$`, "", says("this machine does not have a network address that the job uses")),
	newRule("Resource temporarily unavailable", `^(Can't fork for \d+|fork\(\) failed): Resource temporarily unavailable`, "raise the limit, or end something", func(at *scene, _ []string) string {
		return strings.Join(hints.Processes(), "; ")
	}),
	newRule("Cannot allocate memory", `: Cannot allocate memory$`, "", func(at *scene, _ []string) string { return strings.Join(hints.Memory(), "; ") }),
}

// followUp is lines that say no more than the sentence that was made of another.
var followUp = pattern(`\(pid: \d+\) failed with -?\d+$|^Can't retrieve FDs from socket|^Message reply from daemon is trimmed|^Can't open \d+'s mapfile link|^Can't make \w+ns id` +
	`|^One or more namespaces doesn't belong|^sockets: Can't get 1:34 opt|^BUG at |^Can't stop all tasks on rt_sigreturn|is in unexpected state: b7f|^Task stopped with 11: `)

// aboutPid is in lines that tell who criu was at work on.
var aboutPid = pattern(`\(pid: (\d+)\) failed with -?\d+$|^Can't open (\d+)'s mapfile link`)

// advise finds the sentence for a line, and the way out; "" where there is none.
func (at *scene) advise(text string) (sentence, way string) {
	for _, r := range rules {
		if !strings.Contains(text, r.has) {
			continue
		}
		if m := r.expr().FindStringSubmatch(text); m != nil {
			at.more = r.way
			if sentence = r.say(at, m); sentence != "" || at.more != r.way {
				return sentence, at.more
			}
		}
	}
	return "", ""
}

// scene is where criu was at work: the processes that it was to save. They run on,
// and are looked at when it has failed. The zero value is a scene without processes.
type scene struct {
	proc string      // for tests: what to read instead of /proc
	ours map[int]int // our numbers of them, where criu has others
	tree []int       // all of them, by our numbers
	pid  int         // the one that criu was at when it failed, by our number; 0 if it did not say

	// more is the way out, which a sentence may replace.
	more string
}

// newScene is for the processes of a scope. Criu may have seen them from within their
// pid namespace.
func newScene(s *scope) *scene {
	at := &scene{}
	if s == nil {
		return at
	}
	at.tree = s.tree
	if in, _, err := namespacesOf(s.root); err != nil || in == nil {
		return at
	}
	at.ours = make(map[int]int)
	for _, pid := range s.tree {
		if inner, err := proc.InnerPids(pid); err == nil {
			at.ours[inner[len(inner)-1]] = pid
		}
	}
	return at
}

// begin notes who criu was at.
func (at *scene) begin(texts []string) {
	for _, text := range texts {
		if m := aboutPid().FindStringSubmatch(text); m != nil {
			at.pid = at.our(m[1] + m[2])
			return
		}
	}
	if len(at.tree) == 1 {
		at.pid = at.tree[0]
	}
}

// our is our number of a process that criu names.
func (at *scene) our(text string) int {
	pid, _ := strconv.Atoi(text)
	if ours, ok := at.ours[pid]; ok {
		return ours
	}
	return pid
}

// file is the name of a file of a process.
func (at *scene) file(pid int, name string) string {
	dir := at.proc
	if dir == "" {
		dir = "/proc"
	}
	return path.Join(dir, itoa(pid), name)
}

// who is the process that criu was at.
func (at *scene) who() string {
	if at.pid == 0 {
		return "one of the processes"
	}
	return at.process(at.pid)
}

// named is a process that criu names.
func (at *scene) named(text string) string { return at.process(at.our(text)) }

func (at *scene) process(pid int) string {
	comm, err := os.ReadFile(at.file(pid, "comm"))
	if err != nil {
		return "process " + itoa(pid)
	}
	return fmt.Sprintf("process %d (%s)", pid, hints.Shown(strings.TrimSuffix(string(comm), "\n")))
}

// owner is the user of a process, -1 if that is not to be seen.
func (at *scene) owner(pid int) int {
	var st unix.Stat_t
	if unix.Stat(at.file(pid, ""), &st) != nil {
		return -1
	}
	return int(st.Uid)
}

// limit is the one for open files that criu had.
func (at *scene) limit(l *unix.Rlimit) { _ = unix.Getrlimit(unix.RLIMIT_NOFILE, l) }

// link is what a descriptor of the process leads to, "" if that is not to be seen.
func (at *scene) link(fd string) string {
	to, _ := os.Readlink(at.file(at.pid, "fd/"+fd))
	return to
}

// find is the first descriptor of the process that leads to such a thing, -1 for none.
func (at *scene) find(is func(to string) bool) int {
	if fds := at.findAll(is); len(fds) > 0 {
		return fds[0]
	}
	return -1
}

func (at *scene) findAll(is func(to string) bool) []int {
	entries, _ := os.ReadDir(at.file(at.pid, "fd"))
	var fds []int
	for _, e := range entries {
		if fd, err := strconv.Atoi(e.Name()); err == nil && is(at.link(e.Name())) {
			fds = append(fds, fd)
		}
	}
	slices.Sort(fds)
	return fds
}

// openAs names the descriptor that leads to one of these.
func (at *scene) openAs(names ...string) string {
	if fd := at.find(func(to string) bool { return slices.Contains(names, to) }); fd >= 0 {
		return " as descriptor " + itoa(fd)
	}
	return ""
}

// onlySocket names the sockets of the process: it cannot be seen of which family they
// are.
func (at *scene) onlySocket() string {
	switch fds := at.findAll(func(to string) bool { return strings.HasPrefix(to, "socket:") }); len(fds) {
	case 0:
		return ""
	case 1:
		return " as descriptor " + itoa(fds[0])
	default:
		return ", among its descriptors " + list(fds)
	}
}

// socket is the sentence for a socket that criu names by its inode, in hexadecimal.
func (at *scene) socket(inode, what string) string {
	n, _ := strconv.ParseUint(inode, 16, 64)
	to := fmt.Sprintf("socket:[%d]", n)
	if at.find(func(s string) bool { return s == to }) < 0 {
		for _, pid := range at.tree {
			there := *at
			if there.pid = pid; there.openAs(to) != "" {
				at.pid = pid
				break
			}
		}
	}
	return at.who() + " has " + what + " open" + at.openAs(to) + cannot
}

// asDescriptor is a descriptor that criu names; negative ones are its own.
func asDescriptor(fd string) string {
	if strings.HasPrefix(fd, "-") {
		return ""
	}
	return " as descriptor " + fd
}

// mapping is the name and inode of what the process has mapped from an address on.
func (at *scene) mapping(start uint64) (name string, inode uint64) {
	text, _ := os.ReadFile(at.file(at.pid, "maps"))
	for line := range strings.Lines(string(text)) {
		// "7fdc0feb9000-7fdc0febb000 rw-s 00001000 00:01 32769     /SYSV00000000 (deleted)"
		var begin, end, offset uint64
		var perm, dev string
		if n, _ := fmt.Sscanf(line, "%x-%x %s %x %s %d", &begin, &end, &perm, &offset, &dev, &inode); n < 6 || begin != start {
			continue
		}
		if f := strings.SplitN(strings.TrimSuffix(line, "\n"), "/", 2); len(f) == 2 {
			return "/" + f[1], inode
		}
		return "", inode
	}
	return "", 0
}

// anonymous are the kernel's objects that are no files.
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

// unsupportedFile is for "Can't dump file 3 of that type [20600] (chr 10:232)".
func (at *scene) unsupportedFile(m []string) string {
	mode, _ := strconv.ParseUint(m[2], 8, 32)
	fd, kind, info := m[1], m[3], m[4]
	at.more = close1
	what, to := "", at.link(fd)
	switch {
	case kind == "anon":
		name := strings.TrimPrefix(info, "anon_inode:")
		if what = anonymous[name]; what == "" {
			what = "an object of the kernel's, " + hints.Shown(name) + ","
		}
		if name == "[io_uring]" {
			at.more = ioUring
		}
	case mode&unix.S_IFMT == unix.S_IFCHR:
		what = "the device " + info
		if strings.HasPrefix(to, "/") {
			what = "the device " + hints.Shown(to)
		}
		if strings.HasPrefix(info, "226:") || strings.HasPrefix(to, "/dev/nvidia") || strings.HasPrefix(to, "/dev/kfd") {
			at.more = "what uses a graphics card can be saved only by a criu with a plugin for that card"
		}
	case mode&unix.S_IFMT == unix.S_IFBLK:
		what = "the block device " + hints.Shown(info)
	case mode&unix.S_IFMT == unix.S_IFSOCK:
		what = "a socket of a kind"
	default:
		what = hints.Shown(info)
	}
	return at.who() + " has " + what + " open" + asDescriptor(fd) + cannot
}

// families are those of sockets that criu does not know.
var families = map[string]string{"29": "a CAN socket", "31": "a Bluetooth socket", "38": "a socket of the kernel's cryptography (AF_ALG)", "40": "a VSOCK socket", "44": "an XDP socket"}

func socketOf(family string) string {
	if s := families[family]; s != "" {
		return s
	}
	return "a socket of family " + family
}

// mqueueMagic is the type of the file system of POSIX message queues.
const mqueueMagic = 0x19800202

// lostMount is for a file on a file system that is not where criu looks for it.
func (at *scene) lostMount(m []string) string {
	fd, name := m[1], hints.Shown(m[2])
	if strings.HasPrefix(fd, "-") {
		at.more = "start the whole job in one mount namespace"
		return at.who() + " uses " + name + " (its program, a library or its directory) from outside of its mount namespace" + cannot
	}
	var fs unix.Statfs_t
	if unix.Statfs(at.file(at.pid, "fd/"+fd), &fs) == nil && fs.Type == mqueueMagic {
		at.more = close1
		return at.who() + " has the POSIX message queue " + name + " open" + asDescriptor(fd) + cannot
	}
	at.more = "mount it again and have the program open the file anew, or have it close the file"
	return at.who() + " has " + name + " open" + asDescriptor(fd) + ", on a file system that was unmounted since, or that is another mount namespace's" + cannot
}

// otherProcessor is for a context that was made on another processor.
func (at *scene) otherProcessor([]string) string {
	return "the processor of this machine cannot do everything that the one could on which the job was saved, and that it may use"
}

// Who has a number that a restart needs.

// whoHas says who has a pid, and what to do; nothing if it is free by now.
func whoHas(id int) []string {
	who := holder(id)
	if who == "" {
		return nil
	}
	return []string{who, "cr_restart --no-restore-pid restarts the job with new pids beside it"}
}

func holder(id int) string {
	leader, err := proc.Leader(id)
	if err != nil {
		return numberOf(id)
	}
	if leader != id {
		return fmt.Sprintf("%d is a thread of %s%s", id, hints.Process(leader), of(leader))
	}
	p, err := proc.Read(id)
	if err != nil {
		return ""
	}
	if p.Dead() {
		parent := "its parent"
		if p.PPid != 0 {
			parent += ", " + hints.Process(p.PPid) + ","
		}
		return fmt.Sprintf("%s%s has ended, and keeps its pid until %s has taken notice", hints.Process(id), of(id), parent)
	}
	return fmt.Sprintf("it is that of %s%s", hints.Process(id), of(id))
}

// numberOf is for one that no process has by itself.
func numberOf(id int) string {
	table, err := proc.All()
	if err != nil {
		return ""
	}
	for _, kind := range []struct {
		what string
		of   func(*proc.Process) int
	}{{"session", func(p *proc.Process) int { return p.Sid }}, {"process group", func(p *proc.Process) int { return p.Pgid }}} {
		var members []int
		for pid, p := range table {
			if kind.of(p) == id {
				members = append(members, pid)
			}
		}
		if len(members) > 0 {
			slices.Sort(members)
			return fmt.Sprintf("it is the number of the %s of %s", kind.what, hints.Process(members[0]))
		}
	}
	return ""
}

// of names a process's user if that is another one than ours.
func of(pid int) string {
	var st unix.Stat_t
	if unix.Stat("/proc/"+itoa(pid), &st) != nil || int(st.Uid) == os.Geteuid() {
		return ""
	}
	return " of " + hints.User(int(st.Uid))
}

// tracedBy says who traces a process, "" for nobody.
func tracedBy(pid int) string {
	tracer, err := proc.Tracer(pid)
	if err != nil || tracer == 0 {
		return ""
	}
	// It is one of that one's threads.
	if leader, err := proc.Leader(tracer); err == nil {
		tracer = leader
	}
	return hints.Process(tracer)
}

// forbidden is why a process may not be saved, and what to do.
func forbidden(pid int) []string {
	said := []string{fmt.Sprintf("Bad permissions to checkpoint task %d", pid)} // BLCR's line
	var st unix.Stat_t
	if unix.Stat("/proc/"+itoa(pid), &st) != nil {
		return said
	}
	owner := hints.User(int(st.Uid))
	if int(st.Uid) == os.Geteuid() {
		return append(said, fmt.Sprintf("%s has more rights than %s has, as a set-user-ID program has: only root may save it", hints.Process(pid), owner))
	}
	who := owner + " or as root"
	if st.Uid == 0 {
		who = "root"
	}
	return append(said, fmt.Sprintf("%s belongs to %s: run cr_checkpoint as %s", hints.Process(pid), owner, who))
}

// roomFor adds to an error of writing the context how much room there is, and would
// have to be.
func (c *checkpoint) roomFor(err error) error {
	e, ok := err.(*ckpt.Error)
	if !ok {
		return err
	}
	switch e.Errno {
	case unix.ENOSPC, unix.EDQUOT, unix.EFBIG:
		copied := *e
		copied.Detail = append(slices.Clone(e.Detail), hints.Space(int(c.request.FD), e.Errno, memoryOf(c.scope.tree))...)
		return &copied
	}
	return err
}

// memoryOf is what processes have in memory that is in no file, roughly, in bytes.
func memoryOf(pids []int) uint64 {
	var sum uint64
	for _, pid := range pids {
		text, _ := os.ReadFile("/proc/" + itoa(pid) + "/status")
		for line := range strings.Lines(string(text)) {
			key, value, _ := strings.Cut(line, ":")
			switch key {
			case "RssAnon", "RssShmem", "VmSwap":
				if f := strings.Fields(value); len(f) > 0 {
					n, _ := strconv.ParseUint(f[0], 10, 64)
					sum += n << 10
				}
			}
		}
	}
	return sum
}

// limitsOf are the lines for an error of a system call that hits a limit.
func limitsOf(errno syscall.Errno) []string { return hints.Limits(errno) }

// namespaceWay is what to do where no pid namespace can be made.
func namespaceWay(errno syscall.Errno) []string {
	switch errno {
	case unix.EPERM:
		return []string{"to make one takes the capability CAP_SYS_ADMIN: run cr_restart as root, or with the old pids"}
	case unix.ENOSPC, unix.EUSERS:
		return []string{"there are as many as there may be: see sysctl user.max_pid_namespaces"}
	}
	return limitsOf(errno)
}

// elsewhere adds to an error of the restart what is other than where the context was
// made, as far as that may be the cause.
func (r *restart) elsewhere(e *ckpt.Error) error {
	c, ok := r.source.(interface{ Header() ctxfile.Header })
	if !ok {
		return e
	}
	h := c.Header()
	var host unix.Utsname
	_ = unix.Uname(&host)
	machine := unix.ByteSliceToString(host.Machine[:])
	switch {
	case h.Machine != "" && h.Machine != machine:
		e.Detail = append(e.Detail, fmt.Sprintf("the context was made on %s, and this machine is %s: there it has to be restarted", hints.Shown(h.Machine), machine))
	case e.Errno == syscall.EIO && h.Kernel != "" && h.Kernel != hints.Kernel():
		e.Detail = append(e.Detail, fmt.Sprintf("the context was made on %s with Linux %s; this is Linux %s", hints.Shown(h.Host), hints.Shown(h.Kernel), hints.Kernel()))
	}
	return e
}
