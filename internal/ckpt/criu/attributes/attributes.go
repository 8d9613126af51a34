// Package attributes saves and restores what processes and threads have set for
// themselves and CRIU does not save: the processors that a thread runs on, its
// I/O priority and timer slack, the filter of a process for core files, its
// oom_score_adj, its personality, options of sockets and the multicast groups that they are in,
// large counters of eventfd(2) and which are semaphores, locks of fcntl(2), states of pseudo
// terminals, and attributes of removed files. And it mends timers that CRIU lost, and
// notes pending signals, which tell of others.
//
// They are a member of the context, which belongs to no image: see [Save]. What is
// in images belongs to package images.
package attributes

import (
	"fmt"
	"math"
	"math/bits"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/proc"
)

// The member is a text with a line for each process, and for each thread that has
// anything to be noted: its number in its own pid namespace, and names with
// values. A name that is not known has no effect.
//
//	4185 coredump_filter=00000033 oom_score_adj=0 cpus=3
//	4186 ioprio=24576 timerslack_ns=1000
const (
	coreFilter  = "coredump_filter"
	oomScore    = "oom_score_adj"
	personality = "personality" // hexadecimal, as in /proc; only where it is not 0
	timerSlack  = "timerslack_ns"
	timers      = "timers"     // descriptors: "5,7"; see timers.go
	pending     = "pending"    // signals, hexadecimal: signal N is bit N-1
	sockets     = "sockets"    // see sockets.go
	events      = "events"     // see events.go
	semaphores  = "semaphores" // the same
	masters     = "masters"    // see masters.go
	locks       = "locks"      // see locks.go
	groups      = "groups"     // see multicast.go
	terminals   = "terminals"  // see terminals.go
	removed     = "removed"    // see removed.go
	stdio       = "stdio"      // of the first process only; see stdio.go
	cpus        = "cpus"       // a list as the kernel writes it: "0-3,8"
	ioPriority  = "ioprio"     // as of ioprio_get(2)
	slice       = "slice"      // nanoseconds; see slice.go
)

// most is how many lines are read, which is more than there may be threads.
const most = 1 << 22

// defaultSlack is the timer slack of threads that have set none, in nanoseconds.
const defaultSlack = "50000"

// Save returns the member for processes, which should be frozen, the first one of the job before
// the others. What cannot be read is left out. Asked is what they have answered before, by their
// pids, and flagged what [Flags] has returned for them; it may be nil.
func Save(pids []int, asked map[int]Asked, flagged Flagged) []byte {
	var text []byte
	d := newDescriptorSaver()
	lockers := lockers()
	usual := sliceOf(os.Getpid())
	for i, pid := range pids {
		allowed, err := proc.AllowedCPUs(pid)
		for _, tid := range proc.Threads(pid) {
			var values []string
			add := func(name, value string) { values = append(values, name+"="+value) }
			if tid == pid {
				saveProcess(pid, add)
				savePending(pid, add)
				d.save(pid, add)
				if i == 0 {
					saveStdio(pid, add)
				}
				saveMemory(pid, asked[pid], add)
				words, known := flagged[pid]
				if !known {
					words = flagsOf(pid)
				}
				values = append(values, words...)
				if lockers[pid] {
					saveLocks(pid, add)
				}
			}
			if err == nil {
				saveCPUs(tid, &allowed, add)
			}
			saveIOPriority(tid, add)
			saveSlice(tid, usual, add)
			saveThread(pid, tid, add)
			// Of a real-time thread it is 0.
			if slack, err := proc.Setting(tid, timerSlack); err == nil && slack != defaultSlack && slack != "0" {
				add(timerSlack, slack)
			}
			if values == nil {
				continue
			}
			text = appendLine(text, tid, values)
		}
	}
	for pid, values := range d.terminals.noted() {
		text = appendLine(text, pid, []string{terminals + "=" + strings.Join(values, ",")})
	}
	return text
}

// appendLine adds a line for a thread. There may be several for one.
func appendLine(text []byte, tid int, values []string) []byte {
	if inner, err := proc.InnerPid(tid); err == nil {
		text = fmt.Appendf(text, "%d %s\n", inner, strings.Join(values, " "))
	}
	return text
}

func saveProcess(pid int, add func(name, value string)) {
	for _, name := range []string{coreFilter, oomScore, personality} {
		value, err := proc.Setting(pid, name)
		if err == nil && value != "" && (name != personality || strings.Trim(value, "0") != "") {
			add(name, value)
		}
	}
}

// savePending notes the signals that are pending for a process, and for its other threads if it has
// timers that may send them any.
func savePending(pid int, add func(name, value string)) {
	signals := proc.Pending(pid)
	if threads := proc.Threads(pid); len(threads) > 1 {
		if list, _ := proc.Setting(pid, "timers"); list != "" {
			for _, tid := range threads {
				signals |= proc.Pending(tid)
			}
		}
	}
	if signals != 0 {
		add(pending, strconv.FormatUint(signals, 16))
	}
}

// Pending returns the signals that were pending for a process when CRIU had saved it, signal N as
// bit N-1.
func (s Saved) Pending(pid int32) uint64 {
	text, _ := s.value(pid, pending)
	signals, _ := strconv.ParseUint(text, 16, 64)
	return signals
}

// descriptorSaver notes what CRIU does not save of what processes have open.
type descriptorSaver struct {
	sockets   *socketSaver
	groups    memberships
	terminals terminalSaver
	files     map[inode]bool // removed files that were noted
}

func newDescriptorSaver() *descriptorSaver {
	return &descriptorSaver{newSocketSaver(), make(memberships), make(terminalSaver), make(map[inode]bool)}
}

func (s *descriptorSaver) save(pid int, add func(name, value string)) {
	var due, counts, counting, closed, noted, joined, files []string
	for d, err := range proc.Descriptors(pid) {
		switch {
		case err != nil:
		case d.Link == proc.TimerFD:
			if isSetOrExpired(pid, d.FD) {
				due = append(due, strconv.Itoa(d.FD))
			}
		case d.Link == proc.EventFD:
			if count, err := proc.EventCount(pid, d.FD); err == nil && count > math.MaxUint32 {
				counts = append(counts, fmt.Sprintf("%d:%x", d.FD, count))
			}
			if text := noteSemaphore(pid, d.FD); text != "" {
				counting = append(counting, text)
			}
		case wasClosed(pid, d):
			closed = append(closed, strconv.Itoa(d.FD))
		case strings.HasPrefix(d.Link, "socket:"):
			options, list := s.sockets.of(pid, d, s.groups)
			if options != "" {
				noted = append(noted, options)
			}
			joined = append(joined, list...)
		case strings.HasPrefix(d.Link, "/") && strings.HasSuffix(d.Link, proc.Deleted):
			if text := s.removed(pid, d.FD); text != "" {
				files = append(files, text)
			}
		default:
			s.terminals.add(pid, d)
		}
	}
	if due != nil {
		add(timers, strings.Join(due, ","))
	}
	if counts != nil {
		add(events, strings.Join(counts, ","))
	}
	if counting != nil {
		add(semaphores, strings.Join(counting, ","))
	}
	if closed != nil {
		add(masters, strings.Join(closed, ","))
	}
	if noted != nil {
		add(sockets, strings.Join(noted, ";"))
	}
	if joined != nil {
		add(groups, strings.Join(joined, ";"))
	}
	if files != nil {
		add(removed, strings.Join(files, ";"))
	}
}

// saveCPUs notes the processors of a thread, unless they are all that it may have:
// then it is to have all at the restart as well, whichever those are.
func saveCPUs(tid int, allowed *unix.CPUSet, add func(name, value string)) {
	var set unix.CPUSet
	if unix.SchedGetaffinity(tid, &set) == nil && set != *allowed {
		add(cpus, formatCPUs(&set))
	}
}

func formatCPUs(set *unix.CPUSet) string {
	var list []string
	for i, word := range set {
		for w := uint64(word); w != 0; w &= w - 1 {
			list = append(list, strconv.Itoa(i*64+bits.TrailingZeros64(w)))
		}
	}
	return strings.Join(list, ",")
}

// Arguments of ioprio_get(2), and parts of its result.
const (
	ioprioWhoProcess = 1
	ioprioClassShift = 13
	ioprioClassNone  = 0
	ioprioClassBE    = 2 // best effort
	ioprioLevel      = 1<<3 - 1
)

// saveIOPriority notes the I/O priority of a thread, unless it is that which the
// kernel derives from its nice value.
func saveIOPriority(tid int, add func(name, value string)) {
	n, _, errno := unix.RawSyscall(unix.SYS_IOPRIO_GET, ioprioWhoProcess, uintptr(tid), 0)
	if errno != 0 {
		return
	}
	switch n >> ioprioClassShift {
	case ioprioClassNone:
		return
	case ioprioClassBE:
		// The system call returns 20 - nice: 40 to 1.
		nice, err := unix.Getpriority(unix.PRIO_PROCESS, tid)
		if err == nil && int(n&ioprioLevel) == (40-nice)/5 {
			return
		}
	}
	add(ioPriority, strconv.Itoa(int(n)))
}

// Saved are attributes that were read from a context, by the number of a thread.
// That of a process is the number of its first thread.
type Saved map[int32][]string

// Parse reads the member, which anyone may have made. Lines that are not as they
// should be are left out.
func Parse(text []byte) Saved {
	s := make(Saved)
	for line := range strings.Lines(string(text)) {
		words := strings.Fields(line)
		if len(words) < 2 || len(s) == most {
			continue
		}
		if id, err := strconv.ParseInt(words[0], 10, 32); err == nil {
			s[int32(id)] = append(s[int32(id)], words[1:]...)
		}
	}
	return s
}

// value returns one of the attributes of a thread.
func (s Saved) value(id int32, name string) (value string, ok bool) {
	for _, word := range s[id] {
		if value, ok = strings.CutPrefix(word, name+"="); ok {
			return value, true
		}
	}
	return "", false
}

// inherited are the bits of a personality (linux/personality.h) that CRIU can have
// while it restores processes, which inherit them: ADDR_NO_RANDOMIZE,
// ADDR_COMPAT_LAYOUT, SHORT_INODE, WHOLE_SECONDS and STICKY_TIMEOUTS. The others
// would change how CRIU itself works.
const inherited = 0x0040000 | 0x0200000 | 0x1000000 | 0x2000000 | 0x4000000

// Personality returns the personality that the CRIU that restores these processes
// has to have, which is what all of them have in common. It can be set in no other
// way.
func (s Saved) Personality(pids []int32) uint32 {
	common := uint32(inherited)
	for _, pid := range pids {
		text, _ := s.value(pid, personality)
		bits, _ := strconv.ParseUint(text, 16, 32)
		common &= uint32(bits)
	}
	if len(pids) == 0 {
		return 0
	}
	return common
}

// Restorer sets attributes again.
type Restorer struct {
	saved Saved
	own   unix.CPUSet // processors that the restored processes may have
	bound bool        // of these only some, as this process was started so

	Policies bool // NUMA policies are set again
}

// Restorer returns one for processes that are restored by this one.
func (s Saved) Restorer() *Restorer {
	r := &Restorer{saved: s}
	allowed, err := proc.AllowedCPUs(os.Getpid())
	if err == nil {
		err = unix.SchedGetaffinity(0, &r.own)
	}
	r.bound = err == nil && r.own != allowed
	return r
}

// Needs reports whether there is anything to be set of that thread.
func (r *Restorer) Needs(id int32) bool { return len(r.saved[id]) > 0 }

// Set sets what was saved of the thread id for the thread that is tid here, which
// should not run. It is a process where these are the number of one. What this
// process has no permission for is left as it is.
func (r *Restorer) Set(id int32, tid int) {
	for _, name := range []string{coreFilter, oomScore, timerSlack} {
		value, ok := r.saved.value(id, name)
		if !ok {
			continue
		}
		if name == coreFilter {
			value = "0x" + value // it is read as decimal otherwise
		}
		if now, err := proc.Setting(tid, name); err == nil && now != strings.TrimPrefix(value, "0x") {
			_ = proc.Set(tid, name, value)
		}
	}
	for _, a := range []struct {
		name string
		set  func(tid int, value string)
	}{
		{cpus, r.setCPUs}, {timers, setTimers}, {events, setCounts}, {masters, closeSlaves}, {sockets, setSockets}, {groups, join},
		{terminals, setTerminals}, {removed, setRemoved}, {slice, setSlice}, {ioPriority, setIOPriority},
	} {
		if value, ok := r.saved.value(id, a.name); ok {
			a.set(tid, value)
		}
	}
}

func setIOPriority(tid int, text string) {
	if n, err := strconv.ParseUint(text, 10, 16); err == nil {
		_, _, _ = unix.RawSyscall(unix.SYS_IOPRIO_SET, ioprioWhoProcess, uintptr(tid), uintptr(n))
	}
}

// setCPUs has a thread run on the processors that it had. If this process was
// started for some processors only, as by a batch system, the thread gets no
// others, and all of them if none of them is among its own.
func (r *Restorer) setCPUs(tid int, list string) {
	set, err := proc.ParseCPUs(list)
	if err != nil {
		return
	}
	if r.bound {
		for i := range set {
			set[i] &= r.own[i]
		}
	}
	if set.Count() > 0 {
		_ = unix.SchedSetaffinity(tid, &set)
	}
}
