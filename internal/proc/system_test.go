package proc

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"golang.org/x/sys/unix"
)

func TestParseControlGroups(t *testing.T) {
	const text = "5:cpu,cpuacct:/a\n4:memory:/batch/job\n3:pids:/batch\n0::/batch/job\n1:name=systemd:/x:y\nnonsense\n"
	for controller, want := range map[string][]ControlGroup{
		"memory": {
			{"/batch/job", "/sys/fs/cgroup/memory/batch/job"}, {"/batch", "/sys/fs/cgroup/memory/batch"},
			{"/batch/job", "/sys/fs/cgroup/batch/job"}, {"/batch", "/sys/fs/cgroup/batch"},
			{"/batch/job", "/sys/fs/cgroup/unified/batch/job"}, {"/batch", "/sys/fs/cgroup/unified/batch"},
		},
		"freezer": {
			{"/batch/job", "/sys/fs/cgroup/batch/job"}, {"/batch", "/sys/fs/cgroup/batch"},
			{"/batch/job", "/sys/fs/cgroup/unified/batch/job"}, {"/batch", "/sys/fs/cgroup/unified/batch"},
		},
	} {
		if got := parseControlGroups(text, controller); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v, want %v", controller, got, want)
		}
	}
	if got := parseControlGroups("0::/\n", "memory"); got != nil {
		t.Errorf("the topmost: %v", got)
	}
}

func TestFindMount(t *testing.T) {
	const text = "22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n" +
		"40 22 254:0 /sub /bind rw - ext4 /dev/vda rw\n" +
		"41 22 0:50 /part /only\\040part rw master:2 shared:3 - tmpfs none rw\n"
	for _, c := range []struct {
		dev         uint64
		point, kind string
	}{
		{unix.Mkdev(254, 0), "/", "ext4"},
		{unix.Mkdev(0, 50), "/only part", "tmpfs"},
		{unix.Mkdev(0, 51), "", ""},
	} {
		if point, kind := findMount(text, c.dev); point != c.point || kind != c.kind {
			t.Errorf("%x: %q %q, want %q %q", c.dev, point, kind, c.point, c.kind)
		}
	}
}

func TestMachineMemory(t *testing.T) {
	m := MachineMemory()
	if m["MemTotal"] < 1<<20 || m["MemAvailable"] > m["MemTotal"] || m["nothing"] != 0 {
		t.Errorf("%v", m)
	}
}

// TestDescriptors looks at descriptors of this process.
func TestDescriptors(t *testing.T) {
	dir := t.TempDir()
	file, err := os.OpenFile(dir+"/file", os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := os.Remove(dir + "/file"); err != nil {
		t.Fatal(err)
	}
	inotify, err := unix.InotifyInit1(unix.IN_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(inotify)
	if _, err := unix.InotifyAddWatch(inotify, dir, unix.IN_CREATE); err != nil {
		t.Fatal(err)
	}
	found := make(map[int]Descriptor)
	last := -1
	for d, err := range Descriptors(os.Getpid()) {
		if err != nil {
			t.Fatal(err)
		}
		if d.FD <= last {
			t.Errorf("%d stands behind %d", d.FD, last)
		}
		found[d.FD], last = d, d.FD
	}
	if got, want := found[int(file.Fd())], (Descriptor{int(file.Fd()), dir + "/file (deleted)", false, true}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got := found[inotify].Link; got != "anon_inode:inotify" {
		t.Errorf("inotify is %q", got)
	}
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		t.Fatal(err)
	}
	if got := Watched(os.Getpid(), inotify); len(got) != 1 || got[0].Dev != st.Dev || got[0].Ino != st.Ino {
		t.Errorf("it watches %+v, want %x:%x", got, st.Dev, st.Ino)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	pipes := make(map[int]Descriptor)
	for d, err := range Pipes(os.Getpid()) {
		if err != nil {
			t.Fatal(err)
		}
		pipes[d.FD] = d
	}
	reads, writes := pipes[int(r.Fd())], pipes[int(w.Fd())]
	if reads.Link != writes.Link || !reads.Readable || reads.Writable || writes.Readable || !writes.Writable {
		t.Errorf("the ends of a pipe are %+v and %+v", reads, writes)
	}
	if d, ok := pipes[inotify]; ok {
		t.Errorf("%+v is no pipe", d)
	}
	for d, err := range Descriptors(1 << 23) {
		if err == nil {
			t.Errorf("%+v of a process that cannot be", d)
		}
	}
}

func TestParseLimit(t *testing.T) {
	const text = "Limit                     Soft Limit           Hard Limit           Units     \n" +
		"Max open files            1024                 524288               files     \n" +
		"Max address space         unlimited            unlimited            bytes     \n" +
		"Max nice priority         x                    0                    \n"
	for _, c := range []struct {
		name       string
		soft, hard uint64
		ok         bool
	}{
		{"Max open files", 1024, 524288, true},
		{"Max address space", 1<<64 - 1, 1<<64 - 1, true},
		{"Max nice priority", 0, 0, false},
		{"Max open", 0, 0, false},
	} {
		if soft, hard, ok := parseLimit(text, c.name); ok != c.ok || ok && (soft != c.soft || hard != c.hard) {
			t.Errorf("%s: %d, %d, %v", c.name, soft, hard, ok)
		}
	}
}

// TestPrograms: it has every program, and no thread of the kernel that is listed as a child
// of kthreadd.
func TestPrograms(t *testing.T) {
	all, err := All()
	if err != nil {
		t.Fatal(err)
	}
	programs, err := Programs()
	if err != nil {
		t.Fatal(err)
	}
	_, notListed := ThreadChildren(2, 2)
	for pid, p := range all {
		got := programs[pid]
		switch {
		case p.Kernel && p.PPid == 2 && notListed == nil:
			if got != nil && got.Start == p.Start {
				t.Errorf("%d (%s) is a thread of the kernel", pid, p.Comm)
			}
		case got == nil:
			if now, err := Read(pid); err == nil && now.Start == p.Start {
				t.Errorf("%d (%s) is missing", pid, p.Comm)
			}
		}
	}
	if programs[os.Getpid()] == nil {
		t.Error("this process is missing")
	}
}

// TestSocketDir: the relative name of a socket is looked for where a process works.
func TestSocketDir(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: "s"}); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"s": dir, "other": "", dir + "/s": "", "": ""} {
		if got := SocketDir(os.Getpid(), name); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
	os.Remove("s")
	if got := SocketDir(os.Getpid(), "s"); got != "" {
		t.Errorf("it is removed, and found in %q", got)
	}
}

// TestShown: names in /proc are told apart.
func TestShown(t *testing.T) {
	type of struct {
		id, tid int
		what    string
	}
	for name, want := range map[string]of{
		"/proc/12": {12, 12, ""}, "/proc/12/fd": {12, 12, "fd"}, "/proc/12/fdinfo/3": {12, 12, "fdinfo/3"}, "/proc/12/task": {12, 12, "task"},
		"/proc/12/task/13": {12, 13, ""}, "/proc/12/task/12/fd": {12, 12, "fd"}, "/proc/sys/kernel": {}, "/tmp/12": {}, "": {},
	} {
		if id, tid, what := Shown(name); (of{id, tid, what}) != want {
			t.Errorf("%s: %d, %d, %q, want %+v", name, id, tid, what, want)
		}
	}
}

// TestKilledForMemory: both versions of control groups.
func TestKilledForMemory(t *testing.T) {
	for name, text := range map[string]string{
		"memory.events":      "low 0\nhigh 0\nmax 12\noom 2\noom_kill 3\noom_group_kill 0\n",
		"memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n",
		"none":               "",
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		want := uint64(3)
		if text == "" {
			want = 0
		}
		if n := KilledForMemory(ControlGroup{Dir: dir}); n != want {
			t.Errorf("%s: %d", name, n)
		}
	}
}
