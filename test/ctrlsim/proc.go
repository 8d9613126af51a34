//go:build linux && amd64

package ctrlsim

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt/kernel/abi"
)

// What is to be known about other processes, from /proc and their memory.

// readMem fills b from the memory of thread tid.
func readMem(tid int, addr uint64, b []byte) error {
	if len(b) == 0 {
		return nil
	}
	local := []unix.Iovec{{Base: &b[0]}}
	local[0].SetLen(len(b))
	remote := []unix.RemoteIovec{{Base: uintptr(addr), Len: len(b)}}
	n, err := unix.ProcessVMReadv(tid, local, remote, 0)
	if err == nil && n != len(b) {
		err = unix.EFAULT
	}
	return err
}

// writeMem puts b into the memory of thread tid, respecting its protections.
func writeMem(tid int, addr uint64, b []byte) error {
	if len(b) == 0 {
		return nil
	}
	local := []unix.Iovec{{Base: &b[0]}}
	local[0].SetLen(len(b))
	remote := []unix.RemoteIovec{{Base: uintptr(addr), Len: len(b)}}
	n, err := unix.ProcessVMWritev(tid, local, remote, 0)
	if err == nil && n != len(b) {
		err = unix.EFAULT
	}
	return err
}

// readString reads a NUL-terminated string of at most max bytes. It reads page
// by page: what comes after the string may not be readable.
func readString(tid int, addr uint64, max int) (string, error) {
	const page = 4096
	var s []byte
	for len(s) <= max {
		b := make([]byte, page-addr%page)
		if err := readMem(tid, addr, b); err != nil {
			return "", err
		}
		if i := bytes.IndexByte(b, 0); i >= 0 {
			return string(append(s, b[:i]...)), nil
		}
		s = append(s, b...)
		addr += uint64(len(b))
	}
	return "", unix.ENAMETOOLONG
}

func procFile(pid int, name string) string {
	return fmt.Sprintf("/proc/%d/%s", pid, name)
}

// status is a part of /proc/PID/status.
type status struct {
	tgid, threads             int
	pending, blocked, ignored uint64
	caught                    uint64
}

func readStatus(tid int) (status, error) {
	b, err := os.ReadFile(procFile(tid, "status"))
	if err != nil {
		return status{}, err
	}
	var st status
	for line := range strings.Lines(string(b)) {
		key, val, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ":\t")
		switch key {
		case "Tgid":
			st.tgid, err = strconv.Atoi(val)
		case "Threads":
			st.threads, err = strconv.Atoi(val)
		case "SigPnd", "ShdPnd", "SigBlk", "SigIgn", "SigCgt":
			var m uint64
			m, err = strconv.ParseUint(val, 16, 64)
			switch key {
			case "SigBlk":
				st.blocked = m
			case "SigIgn":
				st.ignored = m
			case "SigCgt":
				st.caught = m
			default:
				st.pending |= m
			}
		}
		if err != nil {
			return status{}, err
		}
	}
	return st, nil
}

// handles says whether there is a handler for signal 64.
func (st status) handles() bool { return st.caught&(1<<(abi.Sig-1)) != 0 }

// interrupted says whether a system call of the thread would give EINTR now.
func (st status) interrupted() bool {
	return st.pending&^st.blocked&^st.ignored != 0
}

// stat is a part of /proc/PID/stat.
type stat struct {
	pid                 int
	comm                string
	state               byte
	ppid, pgrp, session int
}

func readStat(pid int) (stat, error) {
	b, err := os.ReadFile(procFile(pid, "stat"))
	if err != nil {
		return stat{}, err
	}
	s := string(b)
	open, end := strings.IndexByte(s, '('), strings.LastIndexByte(s, ')')
	if open < 0 || end < open {
		return stat{}, fmt.Errorf("cannot read %q", s)
	}
	st := stat{pid: pid, comm: s[open+1 : end]}
	if _, err := fmt.Sscanf(s[end+1:], " %c %d %d %d", &st.state, &st.ppid, &st.pgrp, &st.session); err != nil {
		return stat{}, err
	}
	return st, nil
}

// allProcesses lists every process; those that go meanwhile are left out.
func allProcesses() []stat {
	d, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer d.Close()
	names, _ := d.Readdirnames(-1)
	var all []stat
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			if st, err := readStat(pid); err == nil {
				all = append(all, st)
			}
		}
	}
	slices.SortFunc(all, func(a, b stat) int { return a.pid - b.pid })
	return all
}

// mapping is a line of /proc/PID/maps.
type mapping struct {
	start, end uint64
	name       string
}

func (m mapping) contains(addr uint64) bool { return m.start <= addr && addr < m.end }

func readMaps(pid int) ([]mapping, error) {
	b, err := os.ReadFile(procFile(pid, "maps"))
	if err != nil {
		return nil, err
	}
	var all []mapping
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 5 {
			continue
		}
		var m mapping
		if _, err := fmt.Sscanf(f[0], "%x-%x", &m.start, &m.end); err != nil {
			return nil, err
		}
		if len(f) > 5 {
			m.name = f[5]
		}
		all = append(all, m)
	}
	return all, nil
}

// tasks are the thread ids of a process.
func tasks(pid int) ([]int, error) { return numbers(procFile(pid, "task")) }

// descriptors are the open descriptors of a process.
func descriptors(pid int) ([]int, error) { return numbers(procFile(pid, "fd")) }

// children are the child processes, zombies included.
func children(pid int) []int {
	var all []int
	for _, st := range allProcesses() {
		if st.ppid == pid {
			all = append(all, st.pid)
		}
	}
	return all
}

func numbers(dir string) ([]int, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	var all []int
	for _, name := range names {
		if n, err := strconv.Atoi(name); err == nil {
			all = append(all, n)
		}
	}
	slices.Sort(all)
	return all, nil
}

// closeOnExec says whether descriptor fd of process pid has that flag.
func closeOnExec(pid, fd int) bool {
	b, err := os.ReadFile(procFile(pid, "fdinfo/"+strconv.Itoa(fd)))
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(b)) {
		if val, ok := strings.CutPrefix(line, "flags:\t"); ok {
			n, _ := strconv.ParseUint(strings.TrimSpace(val), 8, 64)
			return n&unix.O_CLOEXEC != 0
		}
	}
	return false
}

// process is a process that has made a trapped call at some time.
type process struct {
	pid   int
	pidfd int
	job   bool // has become a job: its calls are not counted any more
	order int  // number among those with counted calls, 0 before the first
	calls int  // counted calls
}

// alive is false as soon as all threads have ended, before the parent waits.
func (p *process) alive() bool {
	fds := []unix.PollFd{{Fd: int32(p.pidfd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(fds, 0)
		if err != unix.EINTR {
			return err == nil && n == 0
		}
	}
}

// reaped is true when its number may be another's.
func (p *process) reaped() bool { return p.kill(0) == unix.ESRCH }

// kill sends a signal to just this process, whoever has its number now.
func (p *process) kill(sig unix.Signal) error {
	return unix.PidfdSendSignal(p.pidfd, sig, nil, 0)
}

// open makes a copy of its descriptor fd, with the offset and the status flags
// in common.
func (p *process) open(fd int) (int, error) {
	return unix.PidfdGetfd(p.pidfd, fd, 0)
}

// processTable has every process that made a trapped call.
type processTable struct {
	mu    sync.Mutex
	all   map[int]*process
	ended []*process // whose numbers others have now; somebody may still hold them
}

// of is the process of a thread that is waiting for an answer, or was killed
// meanwhile.
func (t *processTable) of(tid int) (*process, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if p := t.all[tid]; p != nil && !p.reaped() {
		return p, nil
	}
	st, err := readStatus(tid)
	if err != nil {
		return nil, err
	}
	if p := t.all[st.tgid]; p != nil {
		if !p.reaped() {
			return p, nil // a call of a thread that was killed, handled late
		}
		// Not closed here: whoever waits for its end, or is about to, would get
		// the file that is the next to have the number of its pidfd.
		t.ended = append(t.ended, p)
		delete(t.all, st.tgid)
	}
	fd, err := unix.PidfdOpen(st.tgid, 0)
	if err != nil {
		return nil, err
	}
	p := &process{pid: st.tgid, pidfd: fd}
	if t.all == nil {
		t.all = make(map[int]*process)
	}
	t.all[p.pid] = p
	return p, nil
}

// live are those that are still there.
func (t *processTable) live() []*process {
	t.mu.Lock()
	defer t.mu.Unlock()
	var live []*process
	for _, p := range t.all {
		if p.alive() {
			live = append(live, p)
		}
	}
	slices.SortFunc(live, func(a, b *process) int { return a.pid - b.pid })
	return live
}

func (t *processTable) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, p := range t.all {
		unix.Close(p.pidfd)
	}
	for _, p := range t.ended {
		unix.Close(p.pidfd)
	}
	t.all, t.ended = nil, nil
}

// addBelow adds all descendants of the processes in a set, by pid.
func addBelow(in map[int]bool, all []stat) {
	for grown := true; grown; {
		grown = false
		for _, st := range all {
			if !in[st.pid] && in[st.ppid] {
				in[st.pid], grown = true, true
			}
		}
	}
}

// killTree kills the given processes and everything below them.
func killTree(roots []*process) {
	below := make(map[int]bool)
	for _, p := range roots {
		below[p.pid] = true
	}
	addBelow(below, allProcesses())
	for _, p := range roots {
		p.kill(unix.SIGKILL)
		delete(below, p.pid)
	}
	for pid := range below {
		unix.Kill(pid, unix.SIGKILL)
	}
}
