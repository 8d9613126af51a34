package explain

import (
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/hints"
	"blcr-cli/internal/proc"
)

// nobody is a pid that no process has: it is above the kernel's PID_MAX_LIMIT.
const nobody = 4194999

// each yields the elements of a list, as package proc does.
func each[T any](list *[]T) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for _, x := range *list {
			if !yield(x, nil) {
				return
			}
		}
	}
}

// sim looks like a process with these descriptors and mappings.
func sim(descriptors []proc.Descriptor, mappings ...proc.Mapping) *facts {
	none := limit{unlimited, unlimited}
	return &facts{comm: "sim", uid: os.Geteuid(), openFiles: none, memory: none, locked: func() limit { return none }, descriptors: each(&descriptors), mappings: each(&mappings)}
}

// example is a case of a file in testdata, which dump.txt describes.
type example struct {
	name   string
	line   int
	facts  *facts
	fds    []proc.Descriptor
	maps   []proc.Mapping
	status unix.WaitStatus
	log    []string
	errno  syscall.Errno
	detail []string
}

// examples reads a file in testdata.
func examples(t *testing.T, name string) []*example {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	var all []*example
	for i, line := range strings.Split(string(text), "\n") {
		if line == "" || line[0] == '#' {
			continue
		}
		bad := func(err error) {
			if err != nil {
				t.Fatalf("%s:%d: %v", name, i+1, err)
			}
		}
		key, value, _ := strings.Cut(line, " ")
		if key == "==" {
			e := &example{name: value, line: i + 1, status: 1 << 8, facts: sim(nil)}
			e.facts.descriptors, e.facts.mappings = each(&e.fds), each(&e.maps)
			all = append(all, e)
			continue
		}
		if len(all) == 0 {
			t.Fatalf("%s:%d: no case", name, i+1)
		}
		e := all[len(all)-1]
		limits := func() (l limit) {
			for j, to := range []*uint64{&l.soft, &l.hard} {
				word := strings.Fields(value)[j]
				if *to = unlimited; word != "unlimited" {
					*to, err = strconv.ParseUint(word, 10, 64)
					bad(err)
				}
			}
			return l
		}
		switch key {
		case "fd":
			var d proc.Descriptor
			_, err := fmt.Sscan(value, &d.FD)
			bad(err)
			_, d.Link, _ = strings.Cut(value, " ")
			e.fds = append(e.fds, d)
		case "map":
			var m proc.Mapping
			_, err := fmt.Sscanf(value, "%x %d", &m.Start, &m.Ino)
			bad(err)
			m.Path = strings.SplitN(value, " ", 3)[2]
			e.maps = append(e.maps, m)
		case "openfiles":
			e.facts.openFiles = limits()
		case "memory":
			e.facts.memory = limits()
		case "locked":
			locked := limits()
			e.facts.locked = func() limit { return locked }
		case "uid":
			e.facts.uid, err = strconv.Atoi(value)
			bad(err)
		case "signal":
			n, err := strconv.Atoi(value)
			bad(err)
			e.status = unix.WaitStatus(n)
		case "log":
			text, err := strconv.Unquote(`"` + strings.ReplaceAll(value, `"`, `\"`) + `"`)
			bad(err)
			e.log = append(e.log, text)
		case "errno":
			n, err := strconv.Atoi(value)
			bad(err)
			e.errno = syscall.Errno(n)
		case "-":
			here := strings.NewReplacer("KERNEL", hints.Kernel(), "USER", hints.User(os.Geteuid()), "GROUP", strconv.Itoa(os.Getegid()), "GETCRIU", hints.GetCriu())
			e.detail = append(e.detail, here.Replace(value))
		default:
			t.Fatalf("%s:%d: what is %s?", name, i+1, key)
		}
	}
	return all
}

// TestExamples compares what is said about failures with what is in testdata.
func TestExamples(t *testing.T) {
	for _, c := range []struct {
		op    string
		rules []rule
	}{{"dump", dumpRules}, {"restore", restoreRules}} {
		used := make(map[string]bool)
		for _, e := range examples(t, c.op+".txt") {
			t.Run(c.op+"/"+e.name, func(t *testing.T) {
				s := newSituation(Failure{Status: e.status, Log: e.log, Tree: []int{nobody}})
				s.look = func(int) *facts { return e.facts }
				got := s.explain(c.op, c.rules)
				if got.Op != c.op || got.Errno != e.errno || !slices.Equal(got.Detail, e.detail) {
					t.Errorf("%s.txt:%d:\nerrno %d\n- %s\nwant\nerrno %d\n- %s", c.op, e.line, int(got.Errno), strings.Join(got.Detail, "\n- "), int(e.errno), strings.Join(e.detail, "\n- "))
				}
			})
			for _, text := range e.log {
				for _, r := range c.rules {
					if strings.Contains(text, r.has) && r.expr.compiled().MatchString(text) {
						used[r.expr.compiled().String()] = true
					}
				}
			}
		}
		// What is said about these depends on the machine.
		for _, r := range []rule{outOfMemory, outOfFiles, outOfProcesses, outOfThreads} {
			used[r.expr.compiled().String()] = true
		}
		for _, r := range c.rules {
			if !used[r.expr.compiled().String()] {
				t.Errorf("no case in %s.txt for %s", c.op, r.expr)
			}
		}
	}
}

// dumpOf is Dump for this process.
func dumpOf(log ...string) *ckpt.Error {
	return Dump(Failure{Status: 1 << 8, Log: log, Tree: []int{os.Getpid()}})
}

// check compares an error with what it has to be.
func check(t *testing.T, got *ckpt.Error, errno syscall.Errno, detail ...string) {
	t.Helper()
	if got.Errno != errno || !slices.Equal(got.Detail, detail) {
		t.Errorf("errno %d\n- %s\nwant\nerrno %d\n- %s", int(got.Errno), strings.Join(got.Detail, "\n- "), int(errno), strings.Join(detail, "\n- "))
	}
}

// TestEnded: the processes have ended by themselves.
func TestEnded(t *testing.T) {
	check(t, Dump(Failure{Status: 1 << 8, Log: []string{"Something: No space left on device"}, Tree: []int{nobody}}), unix.ESRCH)
}

// TestResources: what says that there was too little of something here. The sentence is about
// this machine.
func TestResources(t *testing.T) {
	for text, errno := range map[string]syscall.Errno{
		"Can't fork for 3864: Resource temporarily unavailable": unix.EAGAIN,
		"fork() failed: Resource temporarily unavailable":       unix.EAGAIN,
		"fork: Resource temporarily unavailable":                unix.EAGAIN,
		"Unable to create a thread: -11":                        unix.EAGAIN,
		"Can't chose service_fd_base: 1000 1024 5":              unix.EMFILE,
		"sfd: Can't chose service_fd_base: 0 287":               unix.EMFILE,
	} {
		got := Restore(Failure{Status: 1 << 8, Log: []string{text}, Tree: []int{os.Getpid()}}, Origin{})
		if got.Errno != errno || len(got.Detail) != 3 || got.Detail[1] != fromCriu+text || got.Detail[2] != moreHint {
			t.Errorf("%s: errno %d, %q", text, int(got.Errno), got.Detail)
		}
	}
}

// TestUnseizable: the processes are there, and could not be stopped.
func TestUnseizable(t *testing.T) {
	log := []string{"Unseizable non-zombie 4194999 found, state D, err -1/4"}
	for _, c := range []struct {
		state  byte
		detail []string
	}{
		{'S', []string{"process 4194999 (sim), or one below it, is being saved or traced by another process, or could not be stopped in time", tryAgainHint}},
		{'D', []string{"process 4194999 (sim) waits in a system call that nothing can interrupt, as vfork(2) until the child runs another program, or a read from a file server that does not answer", tryAgainHint}},
	} {
		s := newSituation(Failure{Log: log, Tree: []int{nobody}})
		f := sim(nil)
		f.state = c.state
		s.look = func(int) *facts { return f }
		check(t, s.unseizable(), unix.EBUSY, c.detail...)
	}
	for _, text := range []string{log[0], "ptrace: No such process"} {
		e := dumpOf(text)
		check(t, e, unix.EBUSY, hints.Process(os.Getpid())+", or one below it, is being saved or traced by another process, or could not be stopped in time", tryAgainHint)
	}
}

// TestOtherLink: a removed file has another name, which is found.
func TestOtherLink(t *testing.T) {
	dir := t.TempDir()
	name, other := dir+"/first", dir+"/other one"
	file, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := os.Link(name, other); err != nil {
		t.Skip(err)
	}
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	me := hints.Process(os.Getpid())
	line := "Can't create link remap for " + name + ". Use link-remap option."
	followUp := fmt.Sprintf("Dump files (pid: %d) failed with -1", os.Getpid())
	check(t, dumpOf(line, followUp), unix.EOPNOTSUPP,
		fmt.Sprintf("%s has %s open as descriptor %d, which was removed under that name and has the name %s: criu saves a removed file only if it has no name left", me, name, file.Fd(), other),
		"criu: "+line,
		fmt.Sprintf("have the program open %s instead; or remove that, if the name is not needed", other))

	elsewhere := t.TempDir() + "/other"
	if err := os.Rename(other, elsewhere); err != nil {
		t.Fatal(err)
	}
	st, _ := file.Stat()
	got := dumpOf(line, followUp)
	if want := fmt.Sprintf(" -xdev -inum %d' finds that name", st.Sys().(*syscall.Stat_t).Ino); !strings.HasSuffix(got.Detail[len(got.Detail)-1], want) {
		t.Errorf("%q, want %q", got.Detail, want)
	}
	if want := "has another one in another directory"; !strings.Contains(got.Detail[0], want) {
		t.Errorf("%q, want %q", got.Detail, want)
	}
}

// TestSemaphore: sem_open(3) makes the file of a semaphore under another name, and
// the program has it mapped.
func TestSemaphore(t *testing.T) {
	file, err := os.CreateTemp("/dev/shm", "sem.")
	if err != nil {
		t.Skip(err)
	}
	defer file.Close()
	defer os.Remove(file.Name())
	if err := file.Truncate(32); err != nil {
		t.Fatal(err)
	}
	memory, err := unix.Mmap(int(file.Fd()), 0, 32, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(memory)
	file.Close()
	semaphore := fmt.Sprintf("blcr-cli-test.%d", os.Getpid())
	defer os.Remove("/dev/shm/sem." + semaphore)
	if err := os.Rename(file.Name(), "/dev/shm/sem."+semaphore); err != nil {
		t.Fatal(err)
	}
	// A rename is seen in /proc; a link and a removal are not.
	s := newSituation(Failure{Tree: []int{os.Getpid()}})
	f := lookAt(os.Getpid())
	var mappings []proc.Mapping
	for m := range f.mappings {
		if m.Path == "/dev/shm/sem."+semaphore {
			m.Path = file.Name() + proc.Deleted
		}
		mappings = append(mappings, m)
	}
	f.mappings = each(&mappings)
	s.look = func(int) *facts { return f }
	s.Log = []string{"Can't create link remap for " + file.Name() + ". Use link-remap option."}
	check(t, s.explain("dump", dumpRules), unix.EOPNOTSUPP,
		fmt.Sprintf("%s uses the POSIX semaphore /%s, which criu cannot save while it has a name", hints.Process(os.Getpid()), semaphore),
		"criu: "+s.Log[0],
		"when all programs that use it have it open, remove its name: sem_unlink(3), or rm /dev/shm/sem."+semaphore)
}

// TestWatched: the file system of what is watched is named.
func TestWatched(t *testing.T) {
	inotify, err := unix.InotifyInit1(unix.IN_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(inotify)
	var st unix.Stat_t
	if _, err := unix.InotifyAddWatch(inotify, "/proc", unix.IN_CREATE); err != nil || unix.Stat("/proc", &st) != nil {
		t.Skip(err)
	}
	got := dumpOf("fsnotify: \tCan't dump that handle", fmt.Sprintf("Dump files (pid: %d) failed with -1", os.Getpid()))
	if want := fmt.Sprintf("watches a file by inotify (descriptor %d) on the file system /proc (proc), and criu cannot find out the name of that file", inotify); !strings.HasSuffix(got.Detail[0], want) {
		t.Errorf("%q, want %q", got.Detail, want)
	}
}

// TestInside: criu has seen the processes from within their pid namespace.
func TestInside(t *testing.T) {
	s := newSituation(Failure{Log: []string{"inet: Unsupported proto 132 for socket ff", "Dump files (pid: 7) failed with -1"}, Tree: []int{nobody - 1, nobody}})
	s.inner = map[int]int{7: nobody}
	s.look = func(pid int) *facts {
		f := sim(nil)
		if pid == nobody {
			f = sim([]proc.Descriptor{{FD: 3, Link: "socket:[255]"}})
			f.comm += "\x1b[1m"
		}
		return f
	}
	s.find()
	got := s.explain("dump", dumpRules).Detail
	if want := `process 4194999 ("sim\x1b[1m") has an SCTP socket open as descriptor 3, which criu cannot save`; got[0] != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestWhose: the line does not say which of several processes it is about; the
// socket does.
func TestWhose(t *testing.T) {
	s := newSituation(Failure{Log: []string{"inet: Can't dump corked dgram socket ff"}, Tree: []int{nobody - 1, nobody}})
	s.look = func(pid int) *facts {
		if pid != nobody {
			return sim(nil)
		}
		return sim([]proc.Descriptor{{FD: 3, Link: "socket:[255]"}})
	}
	got := s.explain("dump", dumpRules).Detail
	if want := "process 4194999 (sim) has a corked UDP socket open as descriptor 3, which criu cannot save"; got[0] != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestNeeds: what criu does not name is found among what the restore needs.
func TestNeeds(t *testing.T) {
	dir := t.TempDir()
	file := dir + "/was a directory"
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	restore := func(text string, n Needs) *ckpt.Error {
		return Restore(Failure{Status: 1 << 8, Log: []string{text, "Restoring FAILED."}, Needs: func() Needs { return n }}, Origin{})
	}
	const cwd = "Can't change cwd: Not a directory"
	check(t, restore(cwd, Needs{Directories: []string{dir, file}}), unix.ENOTDIR, "cannot enter "+file+": Not a directory", "criu: "+cwd, relocateHint)

	const noexec = "Unable to map ANON_VMA: Operation not permitted"
	check(t, restore(noexec, Needs{Mapped: []string{dir + "/none"}}), unix.EPERM, "criu: "+noexec)
	const program = "/proc/version" // on a file system that is mounted noexec nearly everywhere
	var fs unix.Statfs_t
	if unix.Statfs(program, &fs) != nil || fs.Flags&unix.ST_NOEXEC == 0 {
		t.Skip("/proc allows programs")
	}
	check(t, restore(noexec, Needs{Mapped: []string{dir, program}}), unix.EPERM,
		program+" is on the file system /proc (proc), which is mounted noexec", "criu: "+noexec, "allow programs there: mount -o remount,exec /proc")
}

// TestOrigin: where a context was made is said if it may be the cause.
func TestOrigin(t *testing.T) {
	var host unix.Utsname
	_ = unix.Uname(&host)
	machine := unix.ByteSliceToString(host.Machine[:])
	for _, c := range []struct {
		made  Origin
		errno syscall.Errno
		want  string
	}{
		{Origin{Host: "far", Kernel: "2.6", Machine: "vax"}, syscall.EINVAL, "the context was made on vax, and this machine is " + machine + ": there it has to be restarted"},
		{Origin{Host: "far", Kernel: "2.6", Machine: machine}, syscall.EIO, "the context was made on far with Linux 2.6; this is Linux " + hints.Kernel()},
		{Origin{Host: "far", Kernel: "2.6", Machine: machine}, syscall.ENOENT, ""},
		{Origin{Host: "far", Kernel: hints.Kernel(), Machine: machine}, syscall.EIO, ""},
		{Origin{}, syscall.EIO, ""},
	} {
		if got := c.made.differs(c.errno); got != c.want {
			t.Errorf("%+v: %q, want %q", c.made, got, c.want)
		}
	}
}

func TestTerminalInUse(t *testing.T) {
	for _, c := range []struct {
		log    []string
		number uint32
		ok     bool
	}{
		{[]string{"noise", "tty: Unable to open dev/ptmx with specified index 12", "tty: Can't open master pty 0x6 (index 12)"}, 12, true},
		{[]string{"tty: Unable to open dev/ptmx with specified index"}, 0, false},
		{nil, 0, false},
	} {
		if number, ok := TerminalInUse(c.log); ok != c.ok || ok && number != c.number {
			t.Errorf("%q: %d, %v", c.log, number, ok)
		}
	}
}

func TestPidInUse(t *testing.T) {
	for _, c := range []struct {
		log []string
		pid int // -1: none
	}{
		{[]string{"Can't fork for 3864: File exists", "Restoring FAILED."}, 3864},
		{[]string{"noise", "Pid 12 do not match expected 13"}, 13},
		{[]string{"Can't fork for 3864: Resource temporarily unavailable"}, -1},
		{[]string{"Unable to create a thread: -17"}, 0},
		{[]string{"Unable to create a thread: -11"}, -1},
		{nil, -1},
	} {
		if pid, ok := PidInUse(c.log); ok != (c.pid >= 0) || ok && pid != c.pid {
			t.Errorf("%q: %d, %v", c.log, pid, ok)
		}
	}
}

func TestCheck(t *testing.T) {
	for line, want := range map[string]string{
		"Error (criu/kerndat.c:727): Unable to connect a socket: Network is unreachable":                    "criu needs the loopback device lo, which is down in this network namespace; set it up first: ip link set lo up",
		"Error (criu/mount.c:381): mnt: No parent found for mountpoint 82 (@./sys)":                         "this is a chroot whose / is no mount point, where criu does not work; mount that directory on itself before the chroot: mount --bind DIR DIR",
		"Error (criu/vdso.c:299): vdso: Unexpected rt vDSO area bounds":                                     "this criu is too old for Linux " + hints.Kernel() + "; " + hints.GetCriu(),
		"Error (criu/cr-check.c:160): sys/kernel/ns_last_pid sysctl is inaccessible: Read-only file system": "pids cannot be chosen in this container: /proc/sys is read-only, and clone3(2) is forbidden; allow clone3, as by 'docker run --security-opt seccomp=unconfined', or mount /proc/sys for writing",
		"Error (criu/crtools.c:267): Could not initialize kernel features detection.":                       "; ",
		"Unable to connect a socket: Network is unreachable":                                                "; ",
		"": "; ",
	} {
		sentence, hint, ok := Check(line)
		if got := sentence + "; " + hint; got != want || ok != (want != "; ") {
			t.Errorf("%q: %q, want %q", line, got, want)
		}
	}
}

// FuzzLog: whatever a log says, the lines can be shown, and there are not too many.
func FuzzLog(f *testing.F) {
	for _, name := range []string{"dump.txt", "restore.txt"} {
		text, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			f.Fatal(err)
		}
		for _, example := range strings.Split(string(text), "\n== ") {
			var log []string
			for line := range strings.Lines(example) {
				if text, ok := strings.CutPrefix(line, "log "); ok {
					log = append(log, text)
				}
			}
			f.Add(strings.Join(log, ""), int32(1<<8))
		}
	}
	f.Add(strings.Repeat("Can't open file "+strings.Repeat("\xff", 5000)+": Is a directory\n", 40), int32(9))
	look := func(int) *facts {
		f := sim([]proc.Descriptor{{FD: 3, Link: "socket:[255]"}, {FD: 4, Link: "/x\n (deleted)"}}, proc.Mapping{Start: 0x1000, Path: "/SYSV0\x1b"})
		f.comm, f.openFiles = "a\nb\xff", limit{5, 5}
		return f
	}
	f.Fuzz(func(t *testing.T, text string, status int32) {
		for _, op := range []struct {
			name  string
			rules []rule
		}{{"dump", dumpRules}, {"restore", restoreRules}} {
			s := newSituation(Failure{Status: unix.WaitStatus(status), Log: strings.Split(text, "\n"), Tree: []int{nobody, nobody + 1}})
			s.look = look
			e := s.explain(op.name, op.rules)
			if e.Errno == 0 {
				t.Errorf("no number")
			}
			if len(e.Detail) > 3*mostDetail+1 {
				t.Errorf("%d lines", len(e.Detail))
			}
			for _, line := range e.Detail {
				if len(line) > longest+10 || line == "" {
					t.Errorf("a line of %d bytes", len(line))
				}
				for _, r := range line {
					if !strconv.IsPrint(r) || r == utf8.RuneError && !strings.Contains(text, "\ufffd") {
						t.Errorf("%q is in %q", r, line)
					}
				}
			}
		}
		PidInUse(strings.Split(text, "\n"))
	})
}

// TestHalted: only what a signal to suspend or resume a job does is to be tried again for.
func TestHalted(t *testing.T) {
	for line, want := range map[string]bool{
		"100 stopped by signal 19: Stopped (signal)":      true,
		"100 stopped by signal 5: Trace/breakpoint trap":  true,
		"Task stopped with 19: Stopped (signal)":          true,
		"Task stopped with 11: Segmentation fault":        false,
		"100 stopped by signal 11: Segmentation fault":    false,
		"100 killed by signal 9: Killed":                  false,
		"100 stopped by signal 15: Terminated (5 and 19)": false,
	} {
		if got := Halted([]string{"another line", line}); got != want {
			t.Errorf("%s: %v", line, got)
		}
	}
}

func TestConnectionInUse(t *testing.T) {
	for text, want := range map[string]bool{
		"Can't connect inet socket back: Cannot assign requested address": true,
		"Can't bind inet socket back: Cannot assign requested address":    false,
		"Can't connect inet socket back: Connection refused":              false,
	} {
		if got := ConnectionInUse([]string{"first", text}); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
}
