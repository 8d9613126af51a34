package pstree

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt/criu/binary"
	"blcr-cli/internal/hints"
	"blcr-cli/internal/proc"
	"blcr-cli/internal/show"
)

// A preflight looks at every process and thread of a tree for what CRIU saves without
// an error and cannot bring back, or brings back as something else. Such a tree is
// refused before CRIU is started, and once more when it is frozen: a program may have
// changed itself in between.
//
// What CRIU itself refuses is not looked for, as CRIU then lets the processes run on,
// except where CRIU takes long to say it or says it badly.
//
// There is a refusal for each rule in rules. Each was tried with CRIU 4.1.1: without it
// a job is lost, or changed without a word.
type preflight struct {
	*Tree
	freezers   proc.Freezers
	ours       []uint64              // the namespaces of this process, in the order of kinds
	roots      []uint64              // the same of the tree's root
	sockets    map[uint64]openSocket // by their inodes
	passing    []passing             // sockets with descriptors in their queue
	lasting    map[uint64]bool       // devices of file systems that process 1 sees; nil until it was asked
	private    map[uint64]bool       // see volatileDevices
	kept       map[uint64]bool       // mount namespaces
	gone       map[fileID]removedFile
	leased     map[fileID]bool  // files with a lease for writing; nil until it was asked
	user       bool             // CRIU has the rights of a user
	mostFiles  uint64           // that CRIU can have open
	threaded   bool             // a process has more than one thread
	may        map[access]error // what access(2) says
	asked      map[uint64]bool  // sockets, by their inodes
	readable   map[uint64]bool  // pipes that can be read from
	udp        []netip.AddrPort // addresses of UDP sockets
	unreceived []datagram
	found      []error // *ckpt.Error or *busyError
}

// subject is a process that is looked at.
type subject struct {
	*proc.Process
	parent  *proc.Process // nil for the root
	threads []int         // of more than one, all but the first
}

func newSubject(p *proc.Process) *subject {
	s := &subject{Process: p}
	if p.NumThreads > 1 {
		for _, tid := range proc.Threads(p.Pid) {
			if tid != p.Pid {
				s.threads = append(s.threads, tid)
			}
		}
	}
	return s
}

// rules look at one process each.
var rules = []func(*preflight, *subject){
	(*preflight).frozenGroup,
	(*preflight).limits,
	(*preflight).sharedMemory,
	(*preflight).namespaces,
	(*preflight).threadsOfTheirOwn,
	(*preflight).schedulers,
	(*preflight).executable,
	(*preflight).launcher,
	(*preflight).addressSpace,
	(*preflight).vdso,
	(*preflight).descriptors,
	(*preflight).leases,
	(*preflight).stopped,
	(*preflight).continued,
	(*preflight).volatile,
	(*preflight).robustMutexes,
	(*preflight).filtered,
	(*preflight).permissions,
}

// vforkLimit is how long a parent is waited for that waits for its child in vfork(2).
// It takes some milliseconds to execute another program. Those that take longer wait
// for the end of what they run.
const vforkLimit = 2 * time.Second

// preflight returns why the tree cannot be saved; nothing if it can. An error is a
// *ckpt.Error, or a *busyError for what may be over soon.
func (t *Tree) preflight() []error {
	for _, may := range []func() error{mayRestore, mayCompare} {
		if err := may(); err != nil {
			return []error{err}
		}
	}
	p := &preflight{Tree: t, freezers: make(proc.Freezers), sockets: make(map[uint64]openSocket), gone: make(map[fileID]removedFile), readable: make(map[uint64]bool), user: unprivileged(), mostFiles: MostFiles(), may: make(map[access]error), asked: make(map[uint64]bool), ours: proc.Namespaces(self(), kinds), roots: proc.Namespaces(t.Root, kinds)}
	t.pipes = make(map[uint64]pipeEnds)
	p.threaded = slices.ContainsFunc(t.PIDs, func(pid int) bool { return t.table[pid] != nil && t.table[pid].NumThreads > 1 })
	for _, pid := range t.PIDs {
		process := t.table[pid]
		if process == nil {
			continue // it has ended
		}
		s := newSubject(process)
		if pid != t.Root {
			s.parent = t.table[process.PPid]
		}
		switch {
		case p.untraceable(s): // and there is nothing to be seen of it
		case !process.Dead():
			for _, rule := range rules {
				rule(p, s)
			}
		case s.lives():
			p.firstThreadEnded(s)
		case proc.EndHidden(pid):
			p.refuse(syscall.EOPNOTSUPP, s, "has ended, and only root is shown how: CRIU restored it, for a user; its parent would be told that it had succeeded",
				"save it when its parent has waited for it, or as root")
		default:
			p.exitStatus(s)
		}
		p.exitSignal(s) // also of one that has ended, and has not been waited for
	}
	p.removedMappings()
	p.ownDatagrams()
	if n := len(p.readable); n > mostPipes {
		p.found = append(p.found, with(refusal(syscall.EOPNOTSUPP, "the processes have %d pipes open, and criu saves no more than %d", n, mostPipes),
			"the programs have to close some before they are saved"))
	}
	t.passes = len(p.passing) > 0
	if p.roots[kindNet] == p.ours[kindNet] {
		p.passedSockets()
		p.connections()
		p.unixConnections()
		p.netlinkConnections()
	}
	return p.found
}

// unprivileged is a variable for tests.
var unprivileged = binary.Unprivileged

// mayRestore refuses a caller that could save processes and could not restore them:
// root of a user namespace, or of a container, without power over its network. CRIU
// sets the sizes of socket buffers as root does, in each restore. It is a variable for
// tests, which may run in such a container.
var mayRestore = func() error {
	if binary.Unprivileged() {
		return nil
	}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer unix.Close(fds[0])
	defer unix.Close(fds[1])
	size, err := unix.GetsockoptInt(fds[0], unix.SOL_SOCKET, unix.SO_SNDBUF)
	if err != nil || unix.SetsockoptInt(fds[0], unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, size) != unix.EPERM {
		return nil
	}
	return with(refusal(syscall.EOPNOTSUPP, "root has no power over the network here (CAP_NET_ADMIN), as in a user namespace or a container, and criu needs it to restore what it would save"),
		"run cr_checkpoint as the user itself, outside of the namespace, or give the container that capability")
}

// mayCompare refuses a caller that may not call kcmp(2), as the filter of system calls that
// Docker gives its containers has it. A criu with no more than CAP_CHECKPOINT_RESTORE does not
// find that out before it begins.
func mayCompare() error {
	if _, err := proc.Shares(unix.Getpid(), unix.Getpid(), proc.SharedMemory); err != unix.EPERM {
		return nil
	}
	return with(refusal(syscall.EPERM, "criu needs kcmp(2), which a filter of system calls (seccomp(2)) forbids here, as in a container"), unfiltered)
}

// unfiltered is what to do where a container's filter of system calls is in the way.
const unfiltered = "start the container without the filter, as by 'docker run --security-opt seccomp=unconfined', or save its processes from outside"

// refuse notes that a process cannot be saved: what it has or is, without its name,
// and what to do.
func (p *preflight) refuse(errno syscall.Errno, s *subject, what, hint string) {
	p.found = append(p.found, with(refusal(errno, "%s %s", hints.Process(s.Pid), what), hint))
}

// refuseNow is refuse, with EBUSY, for what a process has or is and what may be over soon: that is
// waited for so long.
func (p *preflight) refuseNow(limit time.Duration, pid int, what, hint string) {
	e := with(refusal(syscall.EBUSY, "%s %s", hints.Process(pid), what), hint)
	p.found = append(p.found, &busyError{e, limit})
}

// frozenGroup refuses a process that does not run, and cannot be stopped by CRIU,
// until somebody thaws it.
func (p *preflight) frozenGroup(s *subject) {
	if group, ok := p.freezers.Frozen(s.Pid); ok {
		p.refuse(syscall.EBUSY, s, fmt.Sprintf("is frozen by its control group %s, as by 'docker pause' or 'systemctl freeze'", show.Name(group.Name)),
			"thaw it, and save it then")
	}
}

// limits refuses a process whose limits of resources root may not read, as criu may not
// either: another user's, in a container. A user's criu may have more capabilities than
// this process.
func (p *preflight) limits(s *subject) {
	var limit unix.Rlimit
	if binary.Unprivileged() || unix.Prlimit(s.Pid, unix.RLIMIT_CPU, nil, &limit) != unix.EPERM {
		return
	}
	owner, gid, err := proc.RealIDs(s.Pid)
	if err != nil {
		return // it has ended
	}
	if owner == unix.Geteuid() && gid != unix.Getegid() {
		p.refuse(syscall.EPERM, s, fmt.Sprintf("has the group %s; to look at its limits takes CAP_SYS_RESOURCE, which %s does not have here", hints.Group(gid), hints.User(owner)), inGroup(gid))
		return
	}
	p.refuse(syscall.EPERM, s, fmt.Sprintf("belongs to %s; to look at its limits takes CAP_SYS_RESOURCE, which %s does not have here", hints.User(owner), hints.User(unix.Geteuid())),
		"save it as its owner, or give the container that capability")
}

// firstThreadEnded refuses a process whose first thread has ended before the others:
// CRIU takes it for a zombie.
func (p *preflight) firstThreadEnded(s *subject) {
	p.refuse(syscall.EOPNOTSUPP, s, "has lost its first thread, which has ended by pthread_exit(3), and criu cannot save the others without it",
		"the program has to keep its first thread, as by waiting for the others in pthread_join(3)")
}

// lives reports whether the process has a thread besides the first that is not about
// to end.
func (s *subject) lives() bool {
	for _, tid := range s.threads {
		if thread, err := proc.Thread(s.Pid, tid); err == nil && !thread.Dead() && !proc.Killed(s.Pid, tid) {
			return true
		}
	}
	return false
}

// sharedMemory refuses a process that has its memory in common with its parent. Often
// that is a child of vfork(2), which soon has a program and memory of its own; the
// parent cannot be stopped before.
func (p *preflight) sharedMemory(s *subject) {
	if s.parent == nil {
		return
	}
	parent := s.parent.Pid
	if shared, err := proc.Shares(parent, s.Pid, proc.SharedMemory); err == nil && shared && !ending(s.Pid, s.Pid) {
		e := with(refusal(syscall.EOPNOTSUPP, "%s has its memory in common with its parent %d (clone(2) with CLONE_VM), and criu saves no memory that two processes have", hints.Process(s.Pid), parent),
			"start it by fork(2), or as a thread")
		if uninterruptible(parent) {
			e = with(refusal(syscall.EBUSY, "%s waits in vfork(2) for %s, which has not executed a program yet", hints.Process(parent), hints.Process(s.Pid)),
				"try again: until then nothing can stop it")
		}
		// Before and after the parent waits, a child of vfork(2) looks like the other.
		p.found = append(p.found, &busyError{e, vforkLimit})
		return
	}
	if shared, err := proc.Shares(parent, s.Pid, proc.SharedDirectory); err == nil && shared && !ending(s.Pid, s.Pid) {
		p.refuse(syscall.EOPNOTSUPP, s, fmt.Sprintf("has its working directory in common with its parent %d (clone(2) with CLONE_FS), which criu cannot save", parent),
			"start it by fork(2)")
	}
}

// exitSignal refuses a process that was made by clone(2) with another signal for its end
// than SIGCHLD. CRIU gives all that one, and then waitpid(2) with __WCLONE does not find
// the process. With its next program a process gets SIGCHLD anyway.
func (p *preflight) exitSignal(s *subject) {
	if s.parent == nil || s.ExitSignal == int(unix.SIGCHLD) || s.ExitSignal < 0 {
		return
	}
	what := "no signal"
	if s.ExitSignal != 0 {
		what = show.Signal(syscall.Signal(s.ExitSignal))
	}
	p.refuse(syscall.EOPNOTSUPP, s, fmt.Sprintf("sends its parent %d %s when it ends (clone(2)), and criu restores all processes with SIGCHLD", s.PPid, what),
		"start it by fork(2), or by clone(2) with SIGCHLD")
}

// endedLimit is how long a parent may take to wait for a child that has ended.
const endedLimit = time.Second

// exitStatus refuses a process that has ended with a status of which CRIU restores the lower
// seven bits only (restore_one_zombie), or with a core file, and that its parent would be told so.
func (p *preflight) exitStatus(s *subject) {
	const core = 0x80 // WCOREDUMP
	how := ""
	switch signal, status := s.ExitCode&0x7f, s.ExitCode>>8; {
	case signal != 0 && s.ExitCode&core != 0:
		how = fmt.Sprintf("of %s with a core file, which criu would restore as without", show.Signal(syscall.Signal(signal)))
	case signal == 0 && status&0x80 != 0:
		how = fmt.Sprintf("with status %d, which criu would restore as %d", status, status&0x7f)
	default:
		return
	}
	p.refuseNow(endedLimit, s.Pid, fmt.Sprintf("has ended %s, and process %d has not waited for it yet", how, s.PPid),
		fmt.Sprintf("try again when process %d has waited for it", s.PPid))
}

// mostPipes is how many pipes CRIU looks into (NR_PIPES_WITH_DATA).
const mostPipes = 1024

// uninterruptible reports whether a thread of a process is in a sleep that no signal
// ends, as in vfork(2).
func uninterruptible(pid int) bool {
	for _, tid := range proc.Threads(pid) {
		if thread, err := proc.Thread(pid, tid); err == nil && thread.State == 'D' {
			return true
		}
	}
	return false
}

// kinds are the namespaces of processes, in the order of their importance, and last that
// in which their next child would be.
var kinds = []string{"mnt", "net", "pid", "user", "ipc", "uts", "cgroup", "time", "pid_for_children"}

// The places of some of them.
const (
	kindMnt = iota
	kindNet
	kindPid
	kindUser
	kindIPC
	kindUTS
	kindTime     = 7
	kindChildren = 8
)

// namespaces refuses a process in other namespaces than the root's. CRIU refuses most
// of them itself. It does not where it can restore some, and those of mounts and of
// networks it can only where the root's is another than its own, too.
func (p *preflight) namespaces(s *subject) {
	theirs := proc.Namespaces(s.Pid, kinds)
	if s.Pid == p.Root {
		if user, ours := theirs[kindUser], p.ours[kindUser]; user != 0 && ours != 0 && user != ours && p.Through() == nil {
			p.refuse(syscall.EOPNOTSUPP, s, "is in a user namespace of its own, which criu cannot restore without the container around it",
				"start it without one, or save it from inside; what cr_restart --no-restore-pid has started for a user only that user can save")
		}
		mnt, ours := theirs[kindMnt], p.ours[kindMnt]
		switch apart := mnt != 0 && ours != 0 && mnt != ours; {
		case apart && p.container():
			// CRIU would restore the mounts only into a copy of its root file system that
			// somebody has made for it, as a container's runtime does.
			p.refuse(syscall.EOPNOTSUPP, s, "is the first process of a container with a mount namespace of its own, which criu cannot restore without the container's runtime",
				fmt.Sprintf("save what it has started, from inside: nsenter --all --target %d cr_checkpoint …; it is restarted in a container like this one", s.Pid))
		case apart && theirs[kindPid] == p.ours[kindPid]:
			// CRIU would save the whole namespace.
			p.refuse(syscall.EOPNOTSUPP, s, "is in a mount namespace of its own, which criu cannot restore without the container around it",
				fmt.Sprintf("save it from inside: nsenter --mount --target %d cr_checkpoint …; it is restarted where the same files are", s.Pid))
		default:
			if pid := theirs[kindPid]; pid != p.ours[kindPid] && pid != 0 && !p.container() {
				if name := p.otherFiles(pid); name != "" {
					inner, _ := proc.InnerPid(s.Pid)
					p.refuse(syscall.EOPNOTSUPP, s, "is in a container with other files than here ("+show.Name(name)+"), which criu cannot save from outside",
						fmt.Sprintf("save it from inside: nsenter --all --target %d cr_checkpoint … %d; it is restarted in a container like this one", s.Pid, inner))
				}
			}
			p.foreign(s, theirs)
		}
	} else if other := p.differs(theirs); other != "" {
		p.refuse(syscall.EOPNOTSUPP, s, fmt.Sprintf("is in %s %s namespace of its own, which criu cannot restore together with the others", article(other), word(other)),
			"save the processes in there by themselves, or start them without a namespace of their own")
	}
	// One that ends meanwhile has no namespaces.
	if p.separateChildren(theirs) && !ending(s.Pid, s.Pid) {
		p.refuse(syscall.EOPNOTSUPP, s, "has made a pid namespace for its children (unshare(2) with CLONE_NEWPID), which criu does not save",
			"start it by 'unshare --pid --fork', which puts it into the namespace itself")
	}
	if times := proc.Namespaces(s.Pid, timeKinds); times[0] != 0 && times[1] != 0 && times[0] != times[1] && !ending(s.Pid, s.Pid) {
		p.refuse(syscall.EOPNOTSUPP, s, "has made a time namespace for its children (unshare(2) with CLONE_NEWTIME), which criu does not save",
			"start it by 'unshare --time --fork', which puts it into the namespace itself")
	}
}

// timeKinds are the time namespaces of a process, and of its next child.
var timeKinds = []string{"time", "time_for_children"}

// separateChildren reports whether the next child of a process would be in another pid
// namespace than the process. There is no such namespace before its first child, and
// before Linux 4.12 none is shown.
func (p *preflight) separateChildren(theirs []uint64) bool {
	return p.ours[kindChildren] != 0 && theirs[kindPid] != 0 && theirs[kindChildren] != theirs[kindPid]
}

// container reports whether the root is the first process of a pid namespace. CRIU
// saves it with all its namespaces.
func (p *preflight) container() bool {
	pids, err := proc.InnerPids(p.Root)
	return err == nil && len(pids) > 1 && pids[len(pids)-1] == 1
}

// differs returns the first kind of namespace that a process does not have in common
// with the root, and that CRIU cannot restore; "" for none.
func (p *preflight) differs(theirs []uint64) string {
	for i, kind := range kinds[:kindChildren] {
		root := p.roots[i]
		switch {
		case root == 0 || theirs[i] == 0 || theirs[i] == root:
		case i == kindNet && root != p.ours[i]:
		default:
			return kind
		}
	}
	return ""
}

func word(kind string) string {
	switch kind {
	case "mnt":
		return "mount"
	case "net":
		return "network"
	}
	return kind
}

func article(kind string) string {
	if kind == "ipc" {
		return "an"
	}
	return "a"
}

// threadKinds are the namespaces that a thread may have for itself.
var threadKinds = []string{"net", "uts", "ipc", "cgroup"}

// threadsOfTheirOwn refuses threads that have something for themselves that threads
// usually have in common. CRIU saves it once for the process.
func (p *preflight) threadsOfTheirOwn(s *subject) {
	if len(s.threads) == 0 {
		return
	}
	apart := make(map[string][]int)
	var order []string
	first := proc.Namespaces(s.Pid, threadKinds)
	for _, tid := range s.threads {
		whats := p.ownOf(s.Pid, tid, first)
		if len(whats) == 0 || ending(s.Pid, tid) || ending(s.Pid, s.Pid) {
			continue // one that ends gives all of it up before it has gone
		}
		for _, what := range whats {
			if apart[what] == nil {
				order = append(order, what)
			}
			apart[what] = append(apart[what], tid)
		}
	}
	for _, what := range order {
		of := fmt.Sprintf("has a thread, %d, with ", apart[what][0])
		if len(apart[what]) > 1 {
			of = fmt.Sprintf("has threads, %s, each with ", list(apart[what]))
		}
		p.refuse(syscall.EOPNOTSUPP, s, of+what+", and criu restores all threads of a process with the same",
			"save the process when that thread has ended, or have the program use a process for it")
	}
}

// ownOf returns what a thread has for itself. first is the namespaces of the first
// thread.
func (p *preflight) ownOf(pid, tid int, first []uint64) (whats []string) {
	if shared, err := proc.Shares(pid, tid, proc.SharedDirectory); err == nil && !shared {
		whats = append(whats, "a working directory of its own (unshare(2) with CLONE_FS)")
	}
	if shared, err := proc.Shares(pid, tid, proc.SharedDescriptors); err == nil && !shared {
		whats = append(whats, "open descriptors of its own (unshare(2) with CLONE_FILES)")
	}
	for i, inode := range proc.ThreadNamespaces(pid, tid, threadKinds) {
		if inode != 0 && first[i] != 0 && inode != first[i] {
			whats = append(whats, fmt.Sprintf("%s %s namespace of its own", article(threadKinds[i]), word(threadKinds[i])))
		}
	}
	return whats
}

// ending reports whether a thread has ended, or is about to.
func ending(pid, tid int) bool {
	thread, err := proc.Thread(pid, tid)
	return err != nil || thread.Dead()
}

// resetOnFork is SCHED_RESET_ON_FORK, which sched_getscheduler(2) adds to the policy.
const resetOnFork = 0x40000000

// schedulers refuses scheduling policies that CRIU cannot restore.
func (p *preflight) schedulers(s *subject) {
	for _, tid := range append([]int{s.Pid}, s.threads...) {
		policy, _, errno := unix.RawSyscall(unix.SYS_SCHED_GETSCHEDULER, uintptr(tid), 0, 0)
		if errno != 0 {
			continue
		}
		name := ""
		switch policy &^ resetOnFork {
		case unix.SCHED_NORMAL, unix.SCHED_FIFO, unix.SCHED_RR, unix.SCHED_BATCH, unix.SCHED_IDLE:
			continue
		case unix.SCHED_DEADLINE:
			name = "SCHED_DEADLINE"
		default:
			name = fmt.Sprintf("number %d", policy)
		}
		of := ""
		if tid != s.Pid {
			of = fmt.Sprintf(" in its thread %d", tid)
		}
		p.refuse(syscall.EOPNOTSUPP, s, fmt.Sprintf("has the scheduling policy %s%s, which criu cannot restore", name, of),
			fmt.Sprintf("'chrt --all-tasks --other --pid 0 %d' gives it the usual one", s.Pid))
		return
	}
}

// executable refuses a program that was executed from a memfd: it is in no file system.
func (p *preflight) executable(s *subject) {
	if name := proc.Executable(s.Pid); strings.HasPrefix(name, "/memfd:") {
		p.refuse(syscall.EOPNOTSUPP, s, fmt.Sprintf("runs a program that is only in memory, %s (memfd_create(2)), which criu cannot restore", show.Name(name)),
			"start the program from a file")
	}
}

// vdso refuses a process that has unmapped the code of vdso(7) and kept its data. CRIU
// restores all other parts of them.
func (p *preflight) vdso(s *subject) {
	if proc.LacksVDSO(s.Pid) {
		p.refuse(syscall.EOPNOTSUPP, s, "has unmapped the kernel's code for it, [vdso], and kept the data of that, [vvar], which criu cannot restore alone",
			"have the program unmap both, or none")
	}
}

// launcher refuses SLURM's srun, whose tasks are children of a daemon: they would be
// neither in the context nor stopped.
func (p *preflight) launcher(s *subject) {
	if proc.Program(s.Pid) == "srun" {
		p.refuse(syscall.EOPNOTSUPP, s, "has its tasks run by SLURM: they are not its children, and would not be saved",
			"save each task on its node: srun --jobid=ID --overlap cr_checkpoint PID; 'scontrol listpids' shows them")
	}
}

// mostAddresses is more address space than CRIU can reserve while it restores a
// process, in bytes: what lies below the address at which Linux loads CRIU itself, two
// thirds of what a process may have on amd64.
const mostAddresses = 0x555555554000

// addressSpace refuses a process that has reserved more of it than CRIU can.
func (p *preflight) addressSpace(s *subject) {
	if size := proc.AddressSpace(s.Pid); size >= mostAddresses {
		p.refuse(syscall.EOPNOTSUPP, s, fmt.Sprintf("has reserved %s of address space, as programs do that were built with -fsanitize=thread, and criu has no place left to restore it from", show.Size(size)),
			"build the program without that")
	}
}
