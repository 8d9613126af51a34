// Package proc is the only reader of /proc: what it shows of processes and of the
// machine. See proc(5).
//
// It decides nothing, and knows neither checkpoints nor CRIU. What a process
// decides itself, such as its command line, is read up to a limit.
package proc

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Process is a process as /proc shows it at one moment.
type Process struct {
	Pid  int
	PPid int // 0 for one whose parent is not to be seen from here
	Pgid int
	Sid  int

	Terminal   uint64 // the device of the terminal that controls it; 0 for none
	Foreground int    // the process group in the foreground there; -1 for none

	Comm  string // the first 15 bytes of its name
	State byte   // as in /proc/PID/stat: 'R', 'S', 'Z' for a zombie, …

	// Start is when it was started, in clock ticks since boot: together with
	// Pid it names a process for good.
	Start uint64

	// NumThreads is how many threads it has, 1 for a zombie. The first thread counts
	// also where it has ended before the others; State is then 'Z'.
	NumThreads int

	// ExitSignal is the signal that its parent gets when it ends: SIGCHLD unless it was
	// made by clone(2) with another one, 0 for none, -1 for what is not its group's first
	// thread.
	ExitSignal int

	// ExitCode is how it has ended, as of wait(2), as far as the kernel tells.
	ExitCode int

	// Kernel says that it is a thread of the kernel.
	Kernel bool

	// MCEProcess and MCEEarly say what it has chosen for memory errors (PR_MCE_KILL of
	// prctl(2)): anything, and to be told early.
	MCEProcess, MCEEarly bool

	exiting bool
}

// Flags of the kernel's sched.h.
const (
	pfExiting  = 0x00000004
	pfMCEProc  = 0x00000080 // PF_MCE_PROCESS
	pfKthread  = 0x00200000
	pfMCEEarly = 0x08000000
)

// Dead tells whether the process has ended, and only its status is left, or soon
// will be: to give much memory back takes time.
func (p *Process) Dead() bool { return p.State == 'Z' || p.State == 'X' || p.exiting }

// Read reads one process. The error is ESRCH where there is none with that pid,
// or where it is the number of a thread only.
func Read(pid int) (*Process, error) { return readStat("/proc/"+strconv.Itoa(pid), pid) }

// readStat reads the file stat of a process or a thread.
func readStat(dir string, id int) (*Process, error) {
	text, err := read(dir + "/stat")
	if err != nil {
		return nil, syscall.ESRCH
	}
	p, err := parse(text)
	if err != nil || p.Pid != id {
		return nil, syscall.ESRCH
	}
	return p, nil
}

// parse reads the text of a stat file.
func parse(text []byte) (*Process, error) {
	// The name is in parentheses, and may itself contain any.
	open, end := bytes.IndexByte(text, '('), bytes.LastIndexByte(text, ')')
	if open < 1 || end < open || end+2 > len(text) {
		return nil, fmt.Errorf("no process in %q", text)
	}
	p := &Process{Comm: string(text[open+1 : end])}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text[:open])))
	if err != nil {
		return nil, err
	}
	p.Pid = pid
	// From the state on, which proc(5) counts as the third.
	fields := strings.Fields(string(text[end+1:]))
	if len(fields) < 36 {
		return nil, fmt.Errorf("no process in %q", text)
	}
	p.State = fields[0][0]
	for _, f := range []struct {
		to *int
		at int
	}{{&p.PPid, 1}, {&p.Pgid, 2}, {&p.Sid, 3}, {&p.Foreground, 5}, {&p.NumThreads, 17}, {&p.ExitSignal, 35}} {
		if *f.to, err = strconv.Atoi(fields[f.at]); err != nil {
			return nil, err
		}
	}
	// As stat(2) numbers it, in a signed number.
	terminal, err := strconv.ParseInt(fields[4], 10, 32)
	if err != nil {
		return nil, err
	}
	p.Terminal = uint64(uint32(terminal))
	if len(fields) > 49 { // before Linux 3.5 there is none
		p.ExitCode, _ = strconv.Atoi(fields[49])
	}
	flags, err := strconv.ParseUint(fields[6], 10, 64)
	if err != nil {
		return nil, err
	}
	p.Kernel, p.exiting = flags&pfKthread != 0, flags&pfExiting != 0
	p.MCEProcess, p.MCEEarly = flags&pfMCEProc != 0, flags&pfMCEEarly != 0
	if p.Start, err = strconv.ParseUint(fields[19], 10, 64); err != nil {
		return nil, err
	}
	return p, nil
}

// Table is all processes at about one moment, by pid.
type Table map[int]*Process

// All reads the table.
func All() (Table, error) { return tableWithout(nil) }

// Programs reads the table without the threads of the kernel, which are most processes of
// many machines, as far as they are to be seen in a pid namespace and the kernel lists
// children; see ThreadChildren.
func Programs() (Table, error) {
	const kthreadd = 2 // the parent of all others
	var threads []int
	if p, err := Read(kthreadd); err == nil && p.Kernel {
		threads, _ = ThreadChildren(kthreadd, kthreadd)
	}
	return tableWithout(threads)
}

func tableWithout(some []int) (Table, error) {
	pids, err := numbers("/proc")
	if err != nil {
		return nil, err
	}
	without := make(map[int]bool, len(some))
	for _, pid := range some {
		without[pid] = true
	}
	table := make(Table, len(pids))
	for _, pid := range pids {
		if without[pid] {
			continue
		}
		if p, err := Read(pid); err == nil {
			table[pid] = p
		}
	}
	return table, nil
}

// Descends reports whether a process is that root or descends from it, as far as can be seen
// while they run.
func Descends(pid, root int) bool {
	tree, err := Descend(root)
	return err == nil && slices.Contains(tree, pid)
}

// Children returns the pids of the children of each process.
func (t Table) Children() map[int][]int {
	children := make(map[int][]int)
	for pid, p := range t {
		children[p.PPid] = append(children[p.PPid], pid)
	}
	return children
}

// Tree returns that process and all its descendants, parents first, and the
// children of each in the order of their pids. Empty if there is no such process.
func (t Table) Tree(root int) []int {
	if t[root] == nil {
		return nil
	}
	children := t.Children()
	tree := []int{root}
	for i := 0; i < len(tree); i++ {
		pids := children[tree[i]]
		slices.Sort(pids)
		tree = append(tree, pids...)
	}
	return tree
}

// Descend returns that process and all its descendants, parents first, without
// a look at the others. To be trusted only while none of them runs.
func Descend(root int) ([]int, error) {
	tree := []int{root}
	for i := 0; i < len(tree); i++ {
		pids, err := Children(tree[i])
		if errors.Is(err, fs.ErrNotExist) {
			// A kernel without these files.
			table, err := All()
			if err != nil {
				return nil, err
			}
			return table.Tree(root), nil
		}
		if err != nil {
			return nil, err
		}
		tree = append(tree, pids...)
	}
	return tree, nil
}

// Children returns the pids of the children of all threads of a process. The
// error is ENOENT on a kernel that does not list them.
func Children(pid int) ([]int, error) {
	var pids []int
	for _, tid := range Threads(pid) {
		more, err := ThreadChildren(pid, tid)
		if err != nil {
			if unix.Access(threadDir(pid, tid), unix.F_OK) != nil {
				continue // the thread has ended
			}
			return nil, err
		}
		pids = append(pids, more...)
	}
	return pids, nil
}

// ThreadChildren returns the pids of the children that a thread of a process is
// the parent of. The error is ENOENT where there is no such thread, or on a kernel
// that does not list them: it does with CONFIG_PROC_CHILDREN, on Linux 3.5 with
// CONFIG_CHECKPOINT_RESTORE.
func ThreadChildren(pid, tid int) ([]int, error) {
	text, err := readAll(threadDir(pid, tid)+"/children", mostChildren)
	if err != nil {
		return nil, err
	}
	var pids []int
	for word := range strings.FieldsSeq(string(text)) {
		child, err := strconv.Atoi(word)
		if err != nil {
			return nil, err
		}
		pids = append(pids, child)
	}
	return pids, nil
}

func threadDir(pid, tid int) string { return fmt.Sprintf("/proc/%d/task/%d", pid, tid) }

// Leader returns the process of which id is a thread; id itself for most.
// The error is ESRCH where there is neither.
func Leader(id int) (int, error) {
	n, err := field(id, "Tgid")
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(n[0])
}

// InnerPids returns the numbers of a process in its pid namespaces, the one of
// our own namespace first, the one that it knows itself by last.
func InnerPids(pid int) ([]int, error) {
	texts, err := field(pid, "NSpid")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, text := range texts {
		n, err := strconv.Atoi(text)
		if err != nil {
			return nil, err
		}
		pids = append(pids, n)
	}
	return pids, nil
}

// InnerPid returns the number that a process knows itself by.
func InnerPid(pid int) (int, error) {
	pids, err := InnerPids(pid)
	if err != nil {
		return 0, err
	}
	return pids[len(pids)-1], nil
}

// OutsideSession reports whether a process in another pid namespace is in a session of which
// the leader is outside of that.
func OutsideSession(pid int) bool {
	ids, err := field(pid, "NSsid")
	return err == nil && len(ids) > 1 && ids[len(ids)-1] == "0" && !Ended(pid)
}

// Tracer returns the pid of the process that traces this one, 0 for none.
func Tracer(pid int) (int, error) {
	n, err := field(pid, "TracerPid")
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(n[0])
}

// Caught returns which signals are pending for a process that it has a handler for
// and that one of its threads does not block, bit N-1 for signal N: what it will do next.
func Caught(pid int) (set uint64) {
	for _, tid := range Threads(pid) {
		status, err := fields(tid, "SigPnd", "ShdPnd", "SigCgt", "SigBlk")
		if err != nil {
			continue // It has ended.
		}
		set |= (mask(status["SigPnd"]) | mask(status["ShdPnd"])) & mask(status["SigCgt"]) &^ mask(status["SigBlk"])
	}
	return set
}

// Deliverable returns which signals are pending for a thread, or for its process, that it
// does not block, bit N-1 for signal N; none for one that has ended.
func Deliverable(tid int) (set uint64) {
	status, err := fields(tid, "SigPnd", "ShdPnd", "SigBlk")
	if err != nil {
		return 0
	}
	return (mask(status["SigPnd"]) | mask(status["ShdPnd"])) &^ mask(status["SigBlk"])
}

// Pending returns which signals are pending for a thread, or for its process, as Deliverable,
// also those that it blocks.
func Pending(tid int) uint64 {
	status, _ := fields(tid, "SigPnd", "ShdPnd")
	return mask(status["SigPnd"]) | mask(status["ShdPnd"])
}

// mask is a set of signals in the words of a line of /proc/PID/status.
func mask(words []string) uint64 {
	if len(words) == 0 {
		return 0
	}
	n, _ := strconv.ParseUint(words[0], 16, 64)
	return n
}

// Registers returns the stack pointer and the program counter of a thread that does not
// run. It takes the right to trace the thread.
func Registers(tid int) (sp, pc uint64, ok bool) {
	text, err := read("/proc/" + strconv.Itoa(tid) + "/syscall")
	words := strings.Fields(string(text))
	if err != nil || len(words) < 2 {
		return 0, 0, false // It runs, and the kernel says nothing but that.
	}
	sp, err1 := strconv.ParseUint(words[len(words)-2], 0, 64)
	pc, err2 := strconv.ParseUint(words[len(words)-1], 0, 64)
	return sp, pc, err1 == nil && err2 == nil
}

// Blocked returns which signals a thread blocks, bit N-1 for signal N. The error is
// ESRCH if there is no such thread.
func Blocked(tid int) (set uint64, err error) {
	words, err := field(tid, "SigBlk")
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(words[0], 16, 64)
}

// Handled returns which signals a process has a handler for, bit N-1 for signal N.
func Handled(pid int) uint64 {
	words, _ := field(pid, "SigCgt")
	return mask(words)
}

// Catches reports whether a process has a handler for a signal.
func Catches(pid, signal int) bool { return Handled(pid)&(1<<(signal-1)) != 0 }

// field returns the words of a line of /proc/PID/status.
func field(pid int, name string) ([]string, error) {
	status, err := fields(pid, name)
	if len(status[name]) == 0 {
		return nil, syscall.ESRCH
	}
	return status[name], err
}

// fields returns the words of some lines of /proc/PID/status, as they were at one
// moment.
func fields(pid int, names ...string) (map[string][]string, error) {
	text, err := read("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return nil, syscall.ESRCH
	}
	status := make(map[string][]string, len(names))
	for line := range strings.Lines(string(text)) {
		if key, value, _ := strings.Cut(line, ":"); slices.Contains(names, key) {
			status[key] = strings.Fields(value)
		}
		if len(status) == len(names) {
			break
		}
	}
	return status, nil
}

// Threads returns the numbers of a process's threads.
func Threads(pid int) []int {
	tids, err := numbers(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return nil
	}
	return tids
}

// Memory returns how many bytes of its own a process has in memory or in swap space:
// not those of files. On kernels before 4.5 these are included.
func Memory(pid int) int64 {
	status, err := fields(pid, "RssAnon", "RssShmem", "VmRSS", "VmSwap")
	if err != nil {
		return 0
	}
	kib := func(name string) (int64, bool) {
		if len(status[name]) == 0 {
			return 0, false
		}
		n, err := strconv.ParseInt(status[name][0], 10, 64)
		return n << 10, err == nil
	}
	swapped, _ := kib("VmSwap")
	if anonymous, ok := kib("RssAnon"); ok {
		shared, _ := kib("RssShmem")
		return anonymous + shared + swapped
	}
	all, _ := kib("VmRSS")
	return all + swapped
}

// CommandLine returns the arguments of a process, of longer ones than 256 KiB the
// beginning; none for a thread of the kernel, or a process that has ended. The
// process itself decides what is in there, and how much.
func CommandLine(pid int) []string {
	text, err := readAll(fmt.Sprintf("/proc/%d/cmdline", pid), mostArguments)
	if err != nil || len(text) == 0 {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(text), "\x00"), "\x00")
}

// Executable returns the path of the program that a process runs, without the
// kernel's note that it was deleted meanwhile. Empty where it is not to be seen.
func Executable(pid int) string {
	path, err := os.Readlink(ExecutableLink(pid))
	if err != nil {
		return ""
	}
	return strings.TrimSuffix(path, Deleted)
}

// ExecutableLink is the program itself, whatever has become of its name. Following
// the link takes the right to trace the process.
func ExecutableLink(pid int) string { return fmt.Sprintf("/proc/%d/exe", pid) }

// Program is the last part of Executable.
func Program(pid int) string {
	path := Executable(pid)
	if path == "" {
		return ""
	}
	return filepath.Base(path)
}

// OwnExecutable leads to the program of the process that opens it.
const OwnExecutable = "/proc/self/exe"

// Self is the path of the program that this process runs, for another process to
// execute. If the file is gone meanwhile, or is another one, the path is one of
// /proc that leads to it as long as this process exists.
func Self() string {
	path, err := os.Executable()
	if err == nil {
		_, err = os.Stat(path)
	}
	if err != nil {
		return ExecutableLink(os.Getpid())
	}
	return path
}

// SetOOMScoreAdj sets how likely the kernel is to kill a process for want of
// memory: from -1000, never, to 1000.
func SetOOMScoreAdj(pid, score int) error {
	return Set(pid, "oom_score_adj", strconv.Itoa(score))
}

// EndHidden reports whether the kernel hides from this process how a zombie ended: its
// exit code is 0 in /proc/PID/stat for whoever may not trace it, and its namespaces are
// closed as well. A zombie that was restored with the help of a file capability can be
// traced by root only.
func EndHidden(pid int) bool {
	_, err := Namespace(pid, "user")
	return errors.Is(err, unix.EACCES)
}

// Uses tells whether a number is that of a process, a thread, a session or a process
// group, and whether a process that has not ended has it.
func Uses(id int) (used, living bool) {
	if leader, err := Leader(id); err == nil {
		return true, !Ended(leader)
	}
	table, err := All()
	if err != nil {
		return true, true
	}
	for _, p := range table {
		if p.Sid == id || p.Pgid == id {
			used, living = true, living || !p.Dead()
		}
	}
	return used, living
}

// Ended reports whether a process has ended: there is none, or a zombie, or one
// that is about to become a zombie.
func Ended(pid int) bool {
	p, err := Read(pid)
	return err != nil || p.Dead()
}
