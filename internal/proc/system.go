package proc

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// What concerns no single process: limits and figures of the machine, control
// groups, mounts.

// SetLastPid has the next process of this pid namespace get the first free number after
// pid, as far as the caller may.
func SetLastPid(pid int) {
	fd, err := unix.Open("/proc/sys/kernel/ns_last_pid", unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err == nil {
		_, _ = unix.Write(fd, strconv.AppendInt(nil, int64(pid), 10))
		unix.Close(fd)
	}
}

// LastPid returns the number that was given last in this pid namespace; 0 if it is not known.
func LastPid() int {
	if last := Numbers("/proc/sys/kernel/ns_last_pid"); len(last) == 1 {
		return int(last[0])
	}
	return 0
}

// SkipNumbers sees to it that the next process or thread of this pid namespace gets a number
// after that one. Where the caller may not say so, it uses up those before it, if these are no
// more than most.
func SkipNumbers(after, most int) {
	SetLastPid(after)
	if last := LastPid(); after-last > most {
		return
	}
	for n := 0; n < most && LastPid() < after; n++ {
		// A thread to which a goroutine is locked ends with it.
		done := make(chan struct{})
		go func() {
			runtime.LockOSThread()
			close(done)
		}()
		<-done
	}
}

// SetClocks sets by how many seconds the clocks CLOCK_MONOTONIC and CLOCK_BOOTTIME are
// ahead of the machine's in the time namespace of the next process that the first thread of
// this one starts. The error is that of open(2) or write(2): EACCES if there is one already.
func SetClocks(monotonic, boottime int) error {
	fd, err := unix.Open("/proc/self/timens_offsets", unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	_, err = unix.Write(fd, fmt.Appendf(nil, "monotonic %d 0\nboottime %d 0\n", monotonic, boottime))
	return err
}

// Boot returns the id of this start of the machine. Process ids of another one mean
// nothing.
func Boot() (string, error) {
	id, err := read("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(id)), err
}

// UserIDs returns the map of users of a process's user namespace, see user_namespaces(7):
// three numbers for each range. It is nil if it cannot be read.
func UserIDs(pid int) []uint64 { return Numbers(fmt.Sprintf("/proc/%d/uid_map", pid)) }

// Numbers returns the numbers in a small file of /proc or /sys; none if it cannot
// be read or has anything else in it, such as "max".
func Numbers(name string) []uint64 {
	text, err := read(name)
	if err != nil {
		return nil
	}
	var found []uint64
	for _, word := range strings.Fields(string(text)) {
		n, err := strconv.ParseUint(word, 10, 64)
		if err != nil {
			return nil
		}
		found = append(found, n)
	}
	return found
}

// MachineMemory returns lines of /proc/meminfo in bytes: "MemTotal",
// "MemAvailable", and so on. What there is not is 0.
func MachineMemory() map[string]uint64 {
	text, _ := read("/proc/meminfo")
	all := make(map[string]uint64)
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, ":")
		if f := strings.Fields(value); len(f) == 2 && f[1] == "kB" {
			n, _ := strconv.ParseUint(f[0], 10, 64)
			all[name] = n << 10
		}
	}
	return all
}

// ControlGroup is a control group that a process is in, or one above it.
type ControlGroup struct {
	Name string // as the kernel calls it: "/batch/4185"
	Dir  string // where its files are, if the file system is where it usually is
}

// ControlGroups returns the control groups of a process that may have files of a
// controller, such as "memory", its own first. The topmost, which has no limits,
// is left out.
func ControlGroups(pid int, controller string) []ControlGroup {
	text, err := read(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return nil
	}
	return parseControlGroups(string(text), controller)
}

// MemoryLimit is a limit of a control group, in bytes.
type MemoryLimit struct {
	Group      ControlGroup
	File       string // which has the limit: "memory.max"
	Limit, Now uint64
}

// MemoryLimits returns the limits of memory of a process's control groups, its own first.
func MemoryLimits(pid int) []MemoryLimit {
	var all []MemoryLimit
	for _, g := range ControlGroups(pid, "memory") {
		for _, names := range [][2]string{{"memory.max", "memory.current"}, {"memory.limit_in_bytes", "memory.usage_in_bytes"}} {
			most, now := Numbers(g.Dir+"/"+names[0]), Numbers(g.Dir+"/"+names[1])
			if len(most) == 1 && len(now) == 1 && most[0] < 1<<60 { // more is none
				all = append(all, MemoryLimit{g, names[0], most[0], now[0]})
			}
		}
	}
	return all
}

// KilledForMemory returns how many processes of a control group for memory, or below it, the
// kernel has killed for want of memory.
func KilledForMemory(g ControlGroup) (n uint64) {
	for _, name := range []string{"memory.events", "memory.oom_control"} {
		text, _ := read(g.Dir + "/" + name)
		for line := range strings.Lines(string(text)) {
			if count, ok := strings.CutPrefix(line, "oom_kill "); ok {
				n, _ = strconv.ParseUint(strings.TrimSpace(count), 10, 64)
			}
		}
	}
	return n
}

// parseControlGroups reads "4:memory:/batch", or "0::/batch" of version 2.
func parseControlGroups(text, controller string) []ControlGroup {
	const mounted = "/sys/fs/cgroup"
	var found []ControlGroup
	for line := range strings.Lines(text) {
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(f) < 3 {
			continue
		}
		var roots []string
		switch f[1] {
		case "":
			roots = []string{mounted, mounted + "/unified"}
		case controller:
			roots = []string{mounted + "/" + controller}
		}
		for _, root := range roots {
			for name := f[2]; len(name) > 1; name = filepath.Dir(name) {
				found = append(found, ControlGroup{name, root + name})
			}
		}
	}
	return found
}

// Frozen returns the control group by which a process is frozen, as by "docker
// pause" or "systemctl freeze": it does not run, and cannot be traced, until that
// is thawed. ok is false for a process that is not frozen.
func Frozen(pid int) (group ControlGroup, ok bool) { return make(Freezers).Frozen(pid) }

// Freezers is which control groups are frozen, as far as they have been looked at. It
// is for a look at many processes of the same groups at one moment.
type Freezers map[string]*ControlGroup // by the text of /proc/PID/cgroup; nil for none

// Frozen is Frozen, with one look at each group.
func (f Freezers) Frozen(pid int) (group ControlGroup, ok bool) {
	text, err := read(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return group, false
	}
	found, known := f[string(text)]
	if !known {
		found = frozen(string(text))
		f[string(text)] = found
	}
	if found == nil {
		return group, false
	}
	return *found, true
}

// frozen returns the first frozen group of a process with that text in
// /proc/PID/cgroup, nil for none.
func frozen(text string) *ControlGroup {
	for _, g := range parseControlGroups(text, "freezer") {
		if n := Numbers(g.Dir + "/cgroup.freeze"); len(n) == 1 && n[0] == 1 {
			return &g
		}
		if text, err := read(g.Dir + "/freezer.self_freezing"); err == nil && strings.TrimSpace(string(text)) == "1" {
			return &g
		}
	}
	return nil
}

// Mount returns where the file system with that device number, as of st_dev, is
// mounted here, and its type; "" if it is not to be seen. The last of several
// places is the one that is seen.
func Mount(dev uint64) (point, kind string) {
	text, err := readAll("/proc/self/mountinfo", mostMounts)
	if err != nil {
		return "", ""
	}
	return findMount(string(text), dev)
}

func findMount(mountinfo string, dev uint64) (point, kind string) {
	want := fmt.Sprintf("%d:%d", unix.Major(dev), unix.Minor(dev))
	for line := range strings.Lines(mountinfo) {
		f := strings.Fields(line)
		if len(f) < 10 || f[2] != want || point != "" && f[3] != "/" {
			continue
		}
		for i := 6; i+1 < len(f); i++ {
			if f[i] == "-" {
				point, kind = unescape(f[4]), f[i+1]
				break
			}
		}
	}
	return point, kind
}

// unescape undoes what the kernel does to blanks in mountinfo.
func unescape(s string) string {
	for i := 0; i+4 <= len(s); i++ {
		if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); s[i] == '\\' && err == nil {
			s = s[:i] + string([]byte{byte(n)}) + s[i+4:]
		}
	}
	return s
}

// Limit returns a resource limit of a process, by its name in /proc/PID/limits such
// as "Max open files": ^uint64(0) is no limit. ok is false if it cannot be read.
func Limit(pid int, name string) (soft, hard uint64, ok bool) {
	text, err := read(fmt.Sprintf("/proc/%d/limits", pid))
	if err != nil {
		return 0, 0, false
	}
	return parseLimit(string(text), name)
}

// parseLimit finds "Max open files            1024                 524288               files".
func parseLimit(text, name string) (soft, hard uint64, ok bool) {
	for line := range strings.Lines(text) {
		rest, found := strings.CutPrefix(line, name+" ")
		if !found {
			continue
		}
		f := strings.Fields(rest)
		if len(f) < 2 {
			break
		}
		value := func(text string) uint64 {
			n, err := strconv.ParseUint(text, 10, 64)
			if text == "unlimited" {
				return ^uint64(0)
			}
			ok = ok && err == nil
			return n
		}
		ok = true
		soft, hard = value(f[0]), value(f[1])
		return soft, hard, ok
	}
	return 0, 0, false
}

// Membership is a multicast group that somebody in a network namespace is in.
type Membership struct {
	Index     int    // of the interface
	Interface string // its name
	IP        netip.Addr
}

// Memberships returns those of the network namespace of a process. What it uses itself, such
// as the group of all systems, is among them.
func Memberships(pid int) (all []Membership) {
	four, _ := readAll(fmt.Sprintf("/proc/%d/net/igmp", pid), mostMounts)
	var of Membership
	for line := range strings.Lines(string(four)) {
		// "2	eth0      :     1      V3", and then "				010000E0     1 0:00000000		0"
		fields := strings.Fields(line)
		if !strings.HasPrefix(line, "\t") {
			if len(fields) > 1 {
				of.Index, _ = strconv.Atoi(fields[0])
				of.Interface = strings.TrimSuffix(fields[1], ":")
			}
		} else if n, err := strconv.ParseUint(fields[0], 16, 32); err == nil {
			of.IP = netip.AddrFrom4([4]byte(binary.NativeEndian.AppendUint32(nil, uint32(n))))
			all = append(all, of)
		}
	}
	six, _ := readAll(fmt.Sprintf("/proc/%d/net/igmp6", pid), mostMounts)
	for line := range strings.Lines(string(six)) {
		// "2    eth0            ff020000000000000000000000000001     1 0000000C 0"
		fields := strings.Fields(line)
		if len(fields) < 3 {
			continue
		}
		if ip, err := hex.DecodeString(fields[2]); err == nil && len(ip) == 16 {
			index, _ := strconv.Atoi(fields[0])
			all = append(all, Membership{index, fields[1], netip.AddrFrom16([16]byte(ip))})
		}
	}
	return all
}
