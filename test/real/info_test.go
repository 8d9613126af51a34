//go:build real

package real

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// infoFile, infoProcess and info are what cr_info --json says, as far as /proc
// says it too.
type infoFile struct {
	FD          uint32 `json:"fd"`
	Kind        string `json:"kind"`
	Path        string `json:"path"`
	Offset      *int64 `json:"offset"`
	Access      string `json:"access"`
	Inode       uint64 `json:"inode"`
	CloseOnExec bool   `json:"close_on_exec"`
	Removed     bool   `json:"removed"`
	External    bool   `json:"external"`
}

type infoThread struct {
	TID  int    `json:"tid"`
	Name string `json:"name"`
}

type infoProcess struct {
	PID     int          `json:"pid"`
	PPID    int          `json:"ppid"`
	PGID    int          `json:"pgid"`
	SID     int          `json:"sid"`
	Name    string       `json:"name"`
	State   string       `json:"state"`
	UID     uint32       `json:"uid"`
	GID     uint32       `json:"gid"`
	Threads []infoThread `json:"threads"`
	Memory  struct {
		Mapped uint64 `json:"mapped"`
		Saved  uint64 `json:"saved"`
	} `json:"memory"`
	Exe   string     `json:"exe"`
	Cwd   string     `json:"cwd"`
	Root  string     `json:"root"`
	Files []infoFile `json:"files"`
}

type info struct {
	File      string
	Format    string
	Complete  bool
	Engine    string
	Created   time.Time
	Host      string
	Kernel    string
	Machine   string
	Command   []string
	Processes []infoProcess
	Removed   []struct {
		Path   string
		Stored int64
	} `json:"removed_files"`
	Saved []struct{ Path string } `json:"saved_files"`
	Size  struct{ Memory, Images, Total int64 }
}

// info runs cr_info, which has to succeed without a word besides.
func (j *job) info(file string) *info {
	j.t.Helper()
	p := j.command("cr_info", "--json", file)
	return j.parseInfo(p)
}

func (j *job) parseInfo(p *process) *info {
	j.t.Helper()
	end := j.wait(p)
	stderr, _ := os.ReadFile(p.stderr)
	stdout, _ := os.ReadFile(p.stdout)
	if end != 0 || len(stderr) > 0 {
		j.t.Fatalf("cr_info: %s\n%s", describe(end), stderr)
	}
	i := new(info)
	if err := json.Unmarshal(stdout, i); err != nil {
		j.t.Fatalf("%v: %s", err, stdout)
	}
	return i
}

// seen is what /proc says of a process.
func (j *job) seen(pid int) infoProcess {
	j.t.Helper()
	s := stat(pid)
	if s == nil {
		j.t.Fatalf("there is no process %d", pid)
	}
	p := infoProcess{PID: pid, PPID: s.ppid, PGID: s.group, SID: s.session, Name: comm(pid)}
	if pid == j.pid {
		p.PPID = 0
	}
	proc := fmt.Sprintf("/proc/%d/", pid)
	p.State = map[byte]string{'T': "stopped", 'Z': "zombie"}[s.state]
	if p.State == "" {
		j.t.Fatalf("process %d is in state %c", pid, s.state)
	}
	p.Threads = []infoThread{{pid, p.Name}}
	if s.state == 'Z' {
		return p
	}
	status, _ := os.ReadFile(proc + "status")
	for line := range strings.Lines(string(status)) {
		fmt.Sscanf(line, "Uid: %d", &p.UID)
		fmt.Sscanf(line, "Gid: %d", &p.GID)
	}
	tasks, _ := os.ReadDir(proc + "task")
	for _, task := range tasks {
		if tid, _ := strconv.Atoi(task.Name()); tid != pid {
			name, _ := os.ReadFile(proc + "task/" + task.Name() + "/comm")
			p.Threads = append(p.Threads, infoThread{tid, strings.TrimSuffix(string(name), "\n")})
		}
	}
	maps, _ := os.ReadFile(proc + "maps")
	for line := range strings.Lines(string(maps)) {
		var from, to uint64
		if fmt.Sscanf(line, "%x-%x", &from, &to); !strings.Contains(line, "[vsyscall]") {
			p.Memory.Mapped += to - from
		}
	}
	link := func(name string) string {
		to, _ := os.Readlink(proc + name)
		return strings.TrimSuffix(to, " (deleted)")
	}
	p.Exe, p.Cwd, p.Root = link("exe"), link("cwd"), link("root")
	fds, _ := os.ReadDir(proc + "fd")
	for _, fd := range fds {
		p.Files = append(p.Files, j.seenFile(proc, fd.Name()))
	}
	slices.SortFunc(p.Files, func(a, b infoFile) int { return int(a.FD) - int(b.FD) })
	return p
}

// seenFile is what /proc says of a descriptor.
func (j *job) seenFile(proc, name string) infoFile {
	n, _ := strconv.Atoi(name)
	f := infoFile{FD: uint32(n)}
	to, err := os.Readlink(proc + "fd/" + name)
	if err != nil {
		j.t.Fatal(err)
	}
	var pos int64
	var flags int
	text, _ := os.ReadFile(proc + "fdinfo/" + name)
	for line := range strings.Lines(string(text)) {
		fmt.Sscanf(line, "pos: %d", &pos)
		fmt.Sscanf(line, "flags: %o", &flags)
	}
	f.CloseOnExec = flags&unix.O_CLOEXEC != 0
	access := []string{"read", "write", "read_write"}[flags&unix.O_ACCMODE]
	anonymous := map[string]string{
		"anon_inode:[eventpoll]": "epoll", "anon_inode:[eventfd]": "eventfd", "anon_inode:[signalfd]": "signalfd",
		"anon_inode:[timerfd]": "timerfd", "anon_inode:inotify": "inotify",
	}
	if kind := anonymous[to]; kind != "" {
		f.Kind = kind
		return f
	}
	if k, _ := fmt.Sscanf(to, "pipe:[%d]", &f.Inode); k == 1 {
		f.Kind, f.Access = "pipe", access
		return f
	}
	if k, _ := fmt.Sscanf(to, "socket:[%d]", &f.Inode); k == 1 {
		f.Kind = "unix_socket"
		sockets, _ := os.ReadFile(proc + "net/unix")
		for line := range strings.Lines(string(sockets)) {
			// Number, three counts, type, state, inode, and the name if it has one.
			if fields := strings.Fields(line); len(fields) == 8 && fields[6] == fmt.Sprint(f.Inode) {
				f.Path = fields[7]
			}
		}
		if f.Path != "" && !strings.ContainsAny(f.Path[:1], "/@") {
			f.Path = filepath.Join(j.dir, f.Path)
		}
		return f
	}
	to, f.Removed = strings.CutSuffix(to, " (deleted)")
	f.Access, f.Path = access, to
	if memfd, ok := strings.CutPrefix(to, "/memfd:"); ok {
		f.Kind, f.Path, f.Offset, f.Removed = "memfd", memfd, &pos, false
		return f
	}
	var st unix.Stat_t
	if err := unix.Stat(proc+"fd/"+name, &st); err != nil {
		j.t.Fatal(err)
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFIFO:
		f.Kind = "fifo"
		return f
	case unix.S_IFCHR:
		f.Kind = "device"
		if strings.HasPrefix(to, "/dev/pts/") || to == "/dev/ptmx" || to == "/dev/tty" {
			f.Kind = "terminal"
			return f
		}
	case unix.S_IFDIR:
		f.Kind = "directory"
	default:
		f.Kind = "file"
	}
	f.Offset = &pos
	return f
}

// halt stops the job's processes, so that nothing changes, and returns all that
// it has; carryOn is the other way.
func (j *job) halt() []int {
	j.t.Helper()
	all := tree(j.pid)
	for _, pid := range all {
		_ = unix.Kill(pid, unix.SIGSTOP)
	}
	j.until("all processes to stop", func() bool {
		return !slices.ContainsFunc(all, func(pid int) bool { s := stat(pid); return s != nil && s.state != 'T' && s.state != 'Z' })
	})
	return all
}

func (j *job) carryOn(all []int) {
	for _, pid := range slices.Backward(all) {
		_ = unix.Kill(pid, unix.SIGCONT)
	}
}

// compare compares what cr_info says of processes with what /proc said.
func (j *job) compare(got []infoProcess, want map[int]infoProcess) {
	j.t.Helper()
	if len(got) != len(want) {
		j.t.Errorf("%d processes, want %d", len(got), len(want))
	}
	position := map[int]int{}
	for i, p := range got {
		position[p.PID] = i
		if parent, ok := position[p.PPID]; p.PPID != 0 && (!ok || parent >= i) {
			j.t.Errorf("process %d comes before its parent %d", p.PID, p.PPID)
		}
		if p.State != "zombie" && (p.Memory.Saved == 0 || p.Memory.Saved > p.Memory.Mapped) {
			j.t.Errorf("process %d: %d bytes saved of %d", p.PID, p.Memory.Saved, p.Memory.Mapped)
		}
		p.Memory.Saved = 0
		byTID := func(a, b infoThread) int { return a.TID - b.TID }
		w := want[p.PID]
		slices.SortFunc(p.Threads, byTID)
		slices.SortFunc(w.Threads, byTID)
		if reflect.DeepEqual(p, w) {
			continue
		}
		g, _ := json.Marshal(p)
		s, _ := json.Marshal(w)
		j.t.Errorf("process %d:\n%s\n/proc said\n%s", p.PID, g, s)
	}
}

// TestInfo: what cr_info says of a context is what /proc said of the processes
// when they were saved, in a file, in a directory, and through a pipe.
func TestInfo(t *testing.T) {
	engine(t)
	for _, name := range []string{
		"threads", "tree", "session", "zombie", "credentials", "cwd", "execed", "argv", "goroutines",
		"pipes", "offsets", "dup", "unlinked", "socketpair", "unix_socket", "fifo", "devices", "memfd", "pty", "fdtable", "big",
		"epoll", "signalfd", "timerfd", "inotify", "openflags", "mmap_shared",
	} {
		t.Run(name, func(t *testing.T) {
			j := newJob(t, name)
			j.launch()
			all := j.halt()
			want := map[int]infoProcess{}
			for _, pid := range all {
				want[pid] = j.seen(pid)
			}
			ctx, dir := filepath.Join(j.dir, "ctx"), filepath.Join(j.dir, "images")
			before := time.Now().Truncate(time.Second)
			j.checkpoint(ctx, j.id(0))
			file := j.info(ctx)
			j.compare(file.Processes, want)

			var host unix.Utsname
			_ = unix.Uname(&host)
			if file.Format != "criu" || !file.Complete || file.Engine != "criu" || file.Created.Before(before) || file.Created.After(time.Now()) ||
				file.Host != unix.ByteSliceToString(host.Nodename[:]) || file.Kernel != unix.ByteSliceToString(host.Release[:]) ||
				file.Machine != unix.ByteSliceToString(host.Machine[:]) {
				t.Errorf("%+v", file)
			}
			if command := strings.Join(file.Command, "\x00") + "\x00"; len(command) < 500 && command != string(cmdline(j.pid)) {
				t.Errorf("the command is %q, was %q", file.Command, cmdline(j.pid))
			}
			st, err := os.Stat(ctx)
			if err != nil || file.Size.Total != st.Size() || file.Size.Memory <= 0 || file.Size.Images <= 0 {
				t.Errorf("%v: size %+v, of the file %d", err, file.Size, st.Size())
			}

			j.saveTo(dir, j.id(0))
			images := j.info(dir)
			j.compare(images.Processes, want)
			if images.Format != "criu_directory" || !images.Complete || images.Machine != file.Machine || images.Created.Before(before) {
				t.Errorf("%+v", images)
			}

			// The shell is as good as "cr_checkpoint -F 1 | cat >file".
			script := fmt.Sprintf("%[1]s/cr_checkpoint -F 1 %[2]s | cat | %[1]s/cr_info --json -", bin, j.id(0))
			piped := j.parseInfo(j.start("sh", []string{"/bin/sh", "-c", script}, nil))
			j.compare(piped.Processes, want)
			if piped.File != "-" || piped.Format != "criu" || !piped.Complete || piped.Host != file.Host || piped.Size.Total < file.Size.Memory {
				t.Errorf("%+v", piped)
			}

			// People are told of each process, too.
			p := j.command("cr_info", ctx)
			if end := j.wait(p); end != 0 {
				t.Errorf("for people: %s", describe(end))
			}
			text, _ := os.ReadFile(p.stdout)
			for _, pid := range all {
				if !strings.Contains(string(text), fmt.Sprintf(" %d ", pid)) {
					t.Errorf("nothing of process %d:\n%s", pid, text)
				}
			}
			j.carryOn(all)
			j.finish()
		})
	}
}

// TestInfoExternal: external pipes and sockets are told from those with both ends in
// the tree, and files that were saved are listed.
func TestInfoExternal(t *testing.T) {
	engine(t)
	j := newJob(t, "counter")
	var pipe, inner [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	if err := unix.Pipe2(inner[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	gone, err := os.Create(filepath.Join(j.dir, "gone"))
	if err != nil {
		t.Fatal(err)
	}
	gone.WriteString("forgotten")
	os.Remove(gone.Name())
	// Ours are 3, 4 to 5, 6 and 7: the reading end of one pipe, both ends of
	// another, a socket, and the file.
	j.proc = j.start("program", []string{"/bin/sleep", "1000"}, nil,
		uintptr(pipe[0]), uintptr(inner[0]), uintptr(inner[1]), uintptr(pair[0]), gone.Fd())
	j.pid = j.proc.pid
	for _, fd := range []int{pipe[0], inner[0], inner[1], pair[0]} {
		unix.Close(fd)
	}
	gone.Close()
	j.until("sleep to begin", func() bool { return comm(j.pid) == "sleep" })
	ctx := filepath.Join(j.dir, "ctx")
	j.checkpoint(ctx, "--save-exe", j.id(0))
	got := j.info(ctx)
	p := got.Processes[0]
	if p.State != "running" {
		t.Errorf("it is %s", p.State)
	}
	external := map[uint32]bool{3: true, 6: true}
	for _, f := range p.Files {
		if f.External != external[f.FD] || f.Removed != (f.FD == 7) {
			t.Errorf("%+v", f)
		}
	}
	if len(p.Files) != 8 {
		t.Errorf("%d descriptors", len(p.Files))
	}
	if len(got.Removed) != 1 || got.Removed[0].Path != filepath.Join(j.dir, "gone") || got.Removed[0].Stored < int64(len("forgotten")) {
		t.Errorf("removed: %+v", got.Removed)
	}
	if exe, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", j.pid)); len(got.Saved) != 1 || got.Saved[0].Path != exe {
		t.Errorf("saved: %+v", got.Saved)
	}
	_ = unix.Kill(j.pid, syscall.SIGKILL)
	j.wait(j.proc)
	unix.Close(pipe[1])
	unix.Close(pair[1])
}

// TestInfoCRIU: a directory that criu itself has written is told as well, and one
// that is incomplete.
func TestInfoCRIU(t *testing.T) {
	engine(t)
	j := newJob(t, "threads")
	j.launch()
	all := j.halt()
	want := map[int]infoProcess{j.pid: j.seen(j.pid)}
	dir := filepath.Join(j.dir, "theirs")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	j.criu("dump", "-D", dir, "-t", strconv.Itoa(j.pid), "--shell-job", "--leave-running")
	got := j.info(dir)
	j.compare(got.Processes, want)
	if got.Format != "criu_directory" || !got.Complete {
		t.Errorf("%+v", got)
	}
	if err := os.Truncate(filepath.Join(dir, "pages-1.img"), 4096); err != nil {
		t.Fatal(err)
	}
	p := j.command("cr_info", dir)
	if end := j.wait(p); end.ExitStatus() != 1 {
		t.Errorf("truncated: %s", describe(end))
	}
	if text, _ := os.ReadFile(p.stderr); string(text) != fmt.Sprintf("cr_info: %s: incomplete: pages-1.img is truncated\n", dir) {
		t.Errorf("truncated: %s", text)
	}
	j.carryOn(all)
	j.finish()
}
