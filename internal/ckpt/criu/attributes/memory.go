package attributes

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt/criu/images"
	"blcr-cli/internal/proc"
)

// Of memory this is noted, of a process: ranges of addresses in hexadecimal that are to be wiped
// in a child (MADV_WIPEONFORK), which CRIU saves from 4.2 on, that are locked as they come
// (MLOCK_ONFAULT), and that are sealed (mseal(2)); what is said of all mappings that are still to
// be made; and NUMA policies of mappings. Of a thread, its NUMA policy, and what it has chosen for
// memory errors.
//
//	4185 wiped=7f00-8000 onfault=9000-b000,c000-d000 sealed=… future=3 merge=1 mdwe=1 mapped=2:0-1@7f00-8000
//	4186 policy=3:0-1 mce=1
const (
	wiped   = "wiped"
	onFault = "onfault"
	sealed  = "sealed"
	future  = "future" // flags of mlockall(2)
	merge   = "merge"  // PR_SET_MEMORY_MERGE
	mdwe    = "mdwe"   // PR_SET_MDWE
	mapped  = "mapped" // NUMA policies of mappings
	policy  = "policy" // that of the thread
	mce     = "mce"    // PR_MCE_KILL
)

// Asked is what a process has answered, which is shown nowhere; see Ask.
type Asked struct {
	MDWE   uint64 // as of PR_GET_MDWE
	Future uint64 // flags of mlockall(2)
}

// Flagged is what is noted of the mappings of processes, by their pids; see Flags.
type Flagged map[int][]string

// Flags returns what [Save] notes of the mappings of processes, which should be frozen: the kernel
// looks at every page for that. It may be called while CRIU has code of its own in the processes.
// Those whose future mappings are locked are left to Save, as that code is locked as well.
func Flags(pids []int, asked map[int]Asked) Flagged {
	flagged := make(Flagged)
	for _, pid := range pids {
		if asked[pid].Future == 0 {
			flagged[pid] = flagsOf(pid)
		}
	}
	return flagged
}

// flagsOf returns what is noted of the mappings of a process.
func flagsOf(pid int) (values []string) {
	var wipe, fault, seal []images.Range
	ends := make(map[uint64]uint64)
	add := func(name, value string) { values = append(values, name+"="+value) }
	several := proc.SeveralNodes()
	for m := range proc.FlaggedMappings(pid) {
		if several {
			ends[m.Start] = m.End
		}
		if !m.Own {
			continue
		}
		for _, f := range []struct {
			flag string
			to   *[]images.Range
		}{{"wf", &wipe}, {"lf", &fault}, {"sl", &seal}} {
			if m.Has(f.flag) && !(f.to == &wipe && m.Has("dp")) { // a droppable mapping is always wiped
				*f.to = appendRange(*f.to, images.Range{Start: m.Start, End: m.End})
			}
		}
	}
	for _, f := range []struct {
		name   string
		ranges []images.Range
	}{{wiped, wipe}, {onFault, fault}, {sealed, seal}} {
		if f.ranges != nil {
			add(f.name, formatRanges(f.ranges))
		}
	}
	if !several {
		return values
	}
	own := proc.MemoryPolicy(pid)
	var noted []string
	for start, text := range proc.MemoryPolicies(pid) {
		if end := ends[start]; text != own && text != "default" && end != 0 {
			if p, ok := parsePolicy(text); ok {
				noted = append(noted, fmt.Sprintf("%s@%x-%x", p, start, end))
			}
		}
	}
	if noted != nil {
		add(mapped, strings.Join(noted, ";"))
	}
	return values
}

// saveMemory notes what holds for all memory of a process.
func saveMemory(pid int, asked Asked, add func(name, value string)) {
	if asked.Future != 0 {
		add(future, strconv.FormatUint(asked.Future, 10))
	}
	if asked.MDWE != 0 {
		add(mdwe, strconv.FormatUint(asked.MDWE, 10))
	}
	if proc.MergesMemory(pid) {
		add(merge, "1")
	}
}

// appendRange appends a range, to the last one if that ends where it begins.
func appendRange(all []images.Range, r images.Range) []images.Range {
	if n := len(all); n > 0 && all[n-1].End == r.Start {
		all[n-1].End = r.End
		return all
	}
	return append(all, r)
}

func formatRanges(all []images.Range) string {
	var words []string
	for _, r := range all {
		words = append(words, fmt.Sprintf("%x-%x", r.Start, r.End))
	}
	return strings.Join(words, ",")
}

// parseRanges reads ranges, which anyone may have made.
func parseRanges(list string) (all []images.Range) {
	for text := range strings.SplitSeq(list, ",") {
		if r, ok := parseRange(text); ok {
			all = append(all, r)
		}
	}
	return all
}

func parseRange(text string) (r images.Range, ok bool) {
	start, end, _ := strings.Cut(text, "-")
	r.Start, _ = strconv.ParseUint(start, 16, 64)
	r.End, _ = strconv.ParseUint(end, 16, 64)
	return r, r.End > r.Start
}

// saveThread notes what a thread has chosen for its memory.
func saveThread(pid, tid int, add func(name, value string)) {
	if p, ok := parsePolicy(proc.MemoryPolicy(tid)); ok && p.mode != 0 {
		add(policy, p.String())
	}
	if t, err := proc.Thread(pid, tid); err == nil && t.MCEProcess {
		early := "0"
		if t.MCEEarly {
			early = "1"
		}
		add(mce, early)
	}
}

// numaPolicy is a NUMA policy as of set_mempolicy(2).
type numaPolicy struct {
	mode  uint64 // with its flags
	nodes string // a list as the kernel writes it
}

func (p numaPolicy) String() string { return fmt.Sprintf("%d:%s", p.mode, p.nodes) }

// modes are the names of policies in numa_maps, by their numbers (linux/mempolicy.h).
var modes = []string{"default", "prefer", "bind", "interleave", "local", "prefer (many)", "weighted interleave"}

// parsePolicy reads a policy as numa_maps has it: "interleave=static|balancing:0-3,8".
func parsePolicy(text string) (p numaPolicy, ok bool) {
	text, p.nodes, _ = strings.Cut(text, ":")
	name, flags, _ := strings.Cut(text, "=")
	mode := slices.Index(modes, name)
	p.mode = uint64(max(mode, 0))
	for flag := range strings.SplitSeq(flags, "|") {
		p.mode |= map[string]uint64{"static": 1 << 15, "relative": 1 << 14, "balancing": 1 << 13}[flag]
	}
	return p, mode >= 0
}

// notedPolicy reads a policy that was noted, by anyone.
func notedPolicy(text string) (p numaPolicy, ok bool) {
	mode, nodes, ok := strings.Cut(text, ":")
	p.nodes = nodes
	var err error
	p.mode, err = strconv.ParseUint(mode, 10, 16)
	return p, ok && err == nil
}

// mask returns the nodes as the kernel takes them; none for a list that is not one.
func (p numaPolicy) mask() []byte {
	if p.nodes == "" {
		return nil
	}
	set, err := proc.ParseCPUs(p.nodes) // lists of nodes look the same
	if err != nil {
		return nil
	}
	return slices.Clone(unsafe.Slice((*byte)(unsafe.Pointer(&set)), unsafe.Sizeof(set)))
}

// nodesInMask is how many nodes there are in a mask, and one more, as the kernel wants it.
const nodesInMask = 1024 + 1

// Policy has this process, and what it starts, get memory by the NUMA policy of the saved
// processes, as far as all of their threads had the same: memory comes while the job is made.
// It is false, and nothing is changed, if this process was started with a policy of its own, as by
// numactl(8), which is that of the job then.
func (s Saved) Policy(ids []int32) bool {
	if own, ok := parsePolicy(proc.MemoryPolicy(os.Getpid())); !ok || own.mode != 0 || len(ids) == 0 {
		return false
	}
	common, _ := s.value(ids[0], policy)
	for _, id := range ids {
		if text, _ := s.value(id, policy); text != common {
			return true
		}
	}
	if p, ok := notedPolicy(common); ok {
		var at uintptr
		mask := p.mask()
		if mask != nil {
			at = uintptr(unsafe.Pointer(&mask[0]))
		}
		_, _, _ = syscall.AllThreadsSyscall(unix.SYS_SET_MEMPOLICY, uintptr(p.mode), at, nodesInMask)
	}
	return true
}

// Call is a system call that a thread is to make for itself. What this process may not have it
// do is left.
type Call struct {
	Number uintptr
	Args   []uint64
	Data   []byte // memory that an argument points to
	DataAt int    // which argument that is
}

// Numbers and arguments that golang.org/x/sys does not have.
const (
	mbindMove     = 2 // MPOL_MF_MOVE
	mceSet        = 1 // PR_MCE_KILL_SET
	mlockOnFault  = 1 // MLOCK_ONFAULT
	mlockallMasks = unix.MCL_FUTURE | unix.MCL_ONFAULT
)

// Calls returns what a thread is to do, in this order, that is tid here. It is a process where
// these are the number of one.
func (r *Restorer) Calls(id int32, tid int) (calls []Call) {
	add := func(number uintptr, args ...uint64) { calls = append(calls, Call{Number: number, Args: args}) }
	value := func(name string) string {
		text, _ := r.saved.value(id, name)
		return text
	}
	if p, ok := notedPolicy(value(policy)); ok && r.Policies {
		if now, ok := parsePolicy(proc.MemoryPolicy(tid)); ok && now != p {
			calls = append(calls, p.call(unix.SYS_SET_MEMPOLICY, 1, p.mode, 0, nodesInMask))
		}
	}
	if early, err := strconv.ParseUint(value(mce), 10, 1); err == nil {
		add(unix.SYS_PRCTL, unix.PR_MCE_KILL, mceSet, early)
	}
	for text := range strings.SplitSeq(value(mapped), ";") {
		was, where, _ := strings.Cut(text, "@")
		p, ok := notedPolicy(was)
		if at, isRange := parseRange(where); ok && isRange && r.Policies {
			calls = append(calls, p.call(unix.SYS_MBIND, 3, at.Start, at.End-at.Start, p.mode, 0, nodesInMask, mbindMove))
		}
	}
	for _, at := range parseRanges(value(onFault)) {
		add(unix.SYS_MLOCK2, at.Start, at.End-at.Start, mlockOnFault)
	}
	if flags, err := strconv.ParseUint(value(future), 10, 8); err == nil && flags&unix.MCL_FUTURE != 0 {
		add(unix.SYS_MLOCKALL, flags&mlockallMasks)
	}
	if value(merge) == "1" {
		add(unix.SYS_PRCTL, unix.PR_SET_MEMORY_MERGE, 1)
	}
	for _, at := range parseRanges(value(sealed)) {
		add(unix.SYS_MSEAL, at.Start, at.End-at.Start)
	}
	if bits, err := strconv.ParseUint(value(mdwe), 10, 8); err == nil && bits != 0 {
		add(unix.SYS_PRCTL, unix.PR_SET_MDWE, bits)
	}
	return calls
}

// call is one with the nodes of a policy as one of its arguments.
func (p numaPolicy) call(number uintptr, at int, args ...uint64) Call {
	c := Call{Number: number, Args: args, Data: p.mask(), DataAt: at}
	return c
}

// Ranges returns what of the memory of a process is to be wiped in a child, and what is locked
// as it comes.
func (s Saved) Ranges(id int32) (wipe, fault []images.Range) {
	w, _ := s.value(id, wiped)
	f, _ := s.value(id, onFault)
	return parseRanges(w), parseRanges(f)
}
