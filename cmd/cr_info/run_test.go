package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/ckpt/criu/images"
	"blcr-cli/internal/ckpt/criu/inspect"
	"blcr-cli/internal/ckpt/kernel/header"
	"blcr-cli/internal/cli"
	"blcr-cli/internal/ctxfile"
	"blcr-cli/internal/show"
)

// Whole runs are tested by testdata/script/cr_info, and reading by the tests of package
// inspect. These are tests of the output.

// filled returns a report with s in every text and n in every number.
func filled(s string, n int64) *report {
	f := inspect.File{
		FD: uint32(n), Kind: "type_99", Path: s, Offset: n, Access: "read_write", Inode: uint32(n),
		Local: s, Peer: s, PeerInode: uint32(n), Listening: true, CloseOnExec: true, Removed: true, External: true,
	}
	pipe := inspect.File{Kind: "pipe", Inode: uint32(n), Offset: -1}
	p := inspect.Process{
		PID: int32(n), PGID: int32(n), SID: int32(n),
		Name: s, State: images.StateAlive, UID: uint32(n), GID: uint32(n), Mapped: uint64(n), Saved: uint64(n),
		Threads: []inspect.Thread{{TID: int32(n), Name: s}, {TID: 1, Name: s + "!"}}, Exe: s, Cwd: s, Root: s,
		Files: []inspect.File{f, pipe, {}}, FilesOf: int32(n),
	}
	dead := inspect.Process{PID: 2, PPID: int32(n), Name: s, State: images.StateDead, Status: unix.WaitStatus(n)}
	other := inspect.Process{PID: 2, PPID: int32(n), Name: s, State: images.State(n)}
	return &report{file: s, err: notContext(s), criu: &inspect.Info{
		Header: ctxfile.Header{
			Engine: s, Created: time.Unix(n, 0), Host: s, Kernel: s, Machine: s, Command: []string{s, s + "x"}, Cut: true,
		},
		Missing: s, Processes: []inspect.Process{p, dead, other},
		External: []inspect.External{{File: f, FDs: []inspect.Descriptor{{PID: int32(n), FD: uint32(n)}, {PID: int32(n), FD: 1}, {PID: 3, FD: 1}}}},
		Removed:  []inspect.RemovedFile{{Path: s, To: s, Stored: n}, {Path: s}},
		Saved:    []inspect.SavedFile{{Path: s, Size: n, Stored: n, Shared: true}},
		Sizes:    inspect.Sizes{Pages: n, Removed: n, Saved: n, Images: n, Rest: n},
	}}
}

// filledBLCR does the same for a context of BLCR.
func filledBLCR(s string, n int64) *report {
	return &report{file: s, blcr: &blcrContext{Header: &header.Header{
		Version: int(n), Scope: int(n), Architecture: int(n),
		First: &header.Process{PID: int(n), Name: s, Kernel: s, Threads: []int{int(n)}},
	}, size: n, ended: true, endKnown: true}}
}

// harmless reports whether text consists of complete lines that cannot control a
// terminal.
func harmless(text string) bool {
	return utf8.ValidString(text) && strings.HasSuffix(text, "\n") &&
		!strings.ContainsFunc(text, func(r rune) bool { return r != '\n' && !isPrint(r) })
}

func isPrint(r rune) bool {
	if r < utf8.RuneSelf {
		return printable[r]
	}
	return show.Text(string(r)) == string(r)
}

// printable has the characters of ASCII, of which most output consists.
var printable = func() (is [utf8.RuneSelf]bool) {
	for r := range is {
		is[r] = show.Text(string(rune(r))) == string(rune(r))
	}
	return is
}()

// FuzzOutput: no content of a context breaks out of its line, and the JSON output is
// valid JSON that contains it.
func FuzzOutput(f *testing.F) {
	for _, s := range []string{
		"", "plain", "with blank", " ", "\n\n\n", "\x1b[2J\x07", "\x00", "\x7f", "\u009b31m", "\u202e", "\xff\xfe", "\ufffd", `"`, `\`, "é", "\U000e0001", "...", "'", "\u2028",
	} {
		for _, n := range []int64{0, 1, -1, 1 << 20, -1 << 63, 1<<63 - 1} {
			f.Add(s, n)
		}
	}
	f.Fuzz(func(t *testing.T, s string, n int64) {
		for _, r := range []*report{filled(s, n), filledBLCR(s, n)} {
			lines := 0
			for _, heading := range []bool{false, true} {
				text := r.text(heading, false)
				if !harmless(text) {
					t.Errorf("%q", text)
				}
				lines = strings.Count(text, "\n")
			}
			plain := filled("x", n)
			if r.blcr != nil {
				plain = filledBLCR("x", n)
			}
			// Lines may be left out, but none is added.
			if want := strings.Count(plain.text(true, false), "\n"); lines > want {
				t.Errorf("%d lines, want %d:\n%s", lines, want, r.text(true, false))
			}
			cells := strings.Join(r.row(), "")
			if differ := differences(nil, r.parts(), false) + differences(r.parts(), plain.parts(), false); !harmless(cells + "\n" + differ) {
				t.Errorf("%q, %q", cells, differ)
			}
			line := r.json()
			if !harmless(line) || strings.Count(line, "\n") != 1 {
				t.Errorf("%q", line)
			}
			var got jsonContext
			if err := json.Unmarshal([]byte(line), &got); err != nil {
				t.Fatalf("%v: %s", err, line)
			}
			if !utf8.ValidString(s) {
				continue
			}
			if got.File != s || r.criu != nil && (got.Host != s || got.Processes[0].Files[0].Path != s || got.Command[0] != s) {
				t.Errorf("%q: %s", s, line)
			}
		}
		for _, err := range []error{
			notContext(s), errors.New(s), &ckpt.Error{Errno: syscall.EINVAL, Detail: []string{"directory: " + s}}, &ctxfile.Error{Errno: syscall.EINVAL, Object: s, Reason: s}, syscall.Errno(n),
			&ckpt.Error{Errno: syscall.Errno(n), Detail: []string{s}}, &usageError{s}, &cli.OutputError{Err: errors.New(s)},
		} {
			for _, text := range []string{reason(err), message(err)} {
				if !harmless(text+"\n") || strings.Contains(text, "\n") {
					t.Errorf("%q", text)
				}
			}
		}
	})
}

func TestColour(t *testing.T) {
	terminal, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer terminal.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	for _, test := range []struct {
		stdout        *os.File
		term, noColor string
		want          colour
	}{
		{terminal, "xterm", "", true}, {terminal, "dumb", "", false}, {terminal, "", "", false}, {terminal, "xterm", "1", false}, {null, "xterm", "", false},
	} {
		t.Setenv("TERM", test.term)
		t.Setenv("NO_COLOR", test.noColor)
		if got := colourOf(cli.FD(test.stdout.Fd())); got != test.want {
			t.Errorf("%s, TERM=%s NO_COLOR=%s: %v", test.stdout.Name(), test.term, test.noColor, got)
		}
	}
	if got := colour(true).state("complete") + colour(true).state("damaged") + colour(false).state("complete"); got != "\x1b[32mcomplete\x1b[0m\x1b[31mdamaged\x1b[0mcomplete" {
		t.Errorf("%q", got)
	}
}

func TestDifferences(t *testing.T) {
	process := func(pid int32, name string) inspect.Process {
		return inspect.Process{PID: pid, PGID: 7, SID: 7, Name: name, State: images.StateAlive, Threads: make([]inspect.Thread, 2), Mapped: 8192, Saved: 4096,
			Exe: "/bin/" + name, Cwd: "/", Root: "/", Files: []inspect.File{
				{FD: 1, Kind: "file", Path: "/out", Access: "write", Offset: 6}, {FD: 2, Kind: "pipe", Access: "write", Offset: -1, Inode: 77, External: true},
			}}
	}
	info := func(created int64, processes ...inspect.Process) *report {
		return &report{criu: &inspect.Info{Header: ctxfile.Header{Created: time.Unix(created, 0), Engine: "criu 4.2"}, Processes: processes}}
	}
	old, now := process(7, "sim"), process(7, "sim")
	now.Saved = 8192
	now.Files[0].Offset = 24
	now.Files[1] = inspect.File{FD: 3, Kind: "directory", Path: "/tmp", Access: "read", CloseOnExec: true, Removed: true}
	ended := process(8, "old")
	ended.PPID, ended.State, ended.Status = 7, images.StateZombie, 9
	a, b := info(1, old, ended), info(2, now, process(9, "new"))
	got := differences(a.parts(), b.parts(), false)
	want := `- Memory: 16 KiB mapped, 8.0 KiB saved
+ Memory: 16 KiB mapped, 12 KiB saved
- Process 7, memory: 8192 bytes mapped, 4096 saved
+ Process 7, memory: 8192 bytes mapped, 8192 saved
- Process 7, descriptor 1: file, write, offset 6, /out
+ Process 7, descriptor 1: file, write, offset 24, /out
- Process 7, descriptor 2: pipe, write, pipe:[77], external
+ Process 7, descriptor 3: directory, read, offset 0, close on exec, /tmp, removed
- Process 8: old, zombie, SIGKILL, child of 7, group 7, session 7, 2 threads
+ Process 9: new, running, group 7, session 7, user 0, 2 threads
`
	if got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
	if got := differences(a.parts(), info(3, old, ended).parts(), false); got != "" {
		t.Errorf("between the same: %s", got)
	}
	coloured := strings.NewReplacer("- ", "\x1b[31m- ", "+ ", "\x1b[32m+ ", "\n", "\x1b[0m\n").Replace(want)
	if got := differences(a.parts(), b.parts(), true); got != coloured {
		t.Errorf("%q\nwant\n%q", got, coloured)
	}
}

// The manual page lists the members of each object, and no others.
func TestJSONMembers(t *testing.T) {
	page, err := os.ReadFile("../../man/cr_info.1")
	if err != nil {
		t.Fatal(err)
	}
	listed := map[string][]string{}
	section := ""
	for line := range strings.Lines(string(page)) {
		line = strings.TrimSpace(line)
		if title, ok := strings.CutPrefix(line, ".Ss JSON"); ok {
			section = strings.TrimPrefix(title, ": ")
		}
		if m := regexp.MustCompile(`^\.It Cm (.*)$`).FindStringSubmatch(line); m != nil {
			listed[section] = append(listed[section], strings.Split(m[1], " , ")...)
		}
	}
	for section, object := range map[string]any{
		"": jsonContext{}, "first_process": jsonFirst{}, "processes": jsonProcess{}, "threads": jsonThread{}, "memory": jsonMemory{},
		"damage": jsonDamage{}, "files": jsonFile{}, "removed_files": jsonRemoved{}, "saved_files": jsonSaved{}, "size": jsonSize{},
	} {
		var members []string
		for f := range reflect.TypeOf(object).Fields() {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			members = append(members, name)
		}
		slices.Sort(members)
		slices.Sort(listed[section])
		if !slices.Equal(members, listed[section]) {
			t.Errorf("members of %q: %q, in the manual page %q", section, members, listed[section])
		}
	}
}

func TestTableAligned(t *testing.T) {
	table := newTable("ONE>", "TWO", "THREE")
	table.add("1", "äöü", "x")
	table.add("12345", "a", "long one")
	var b strings.Builder
	table.write(&b, "Heading")
	want := "\nHeading:\n    ONE  TWO  THREE\n      1  äöü  x\n  12345  a    long one\n"
	if b.String() != want {
		t.Errorf("%q, want %q", b.String(), want)
	}
	b.Reset()
	newTable("ONE").write(&b, "Heading")
	if b.Len() > 0 {
		t.Errorf("of an empty one: %q", b.String())
	}
}

// A long list of threads is cut.
func TestThreads(t *testing.T) {
	r := filled("x", 1)
	p := &r.criu.Processes[0]
	for i := range 500 {
		p.Threads = append(p.Threads, inspect.Thread{TID: int32(i), Name: "worker"})
	}
	if text := r.text(false, false); !strings.Contains(text, " and 482 more\n") {
		t.Error(text)
	}
}

func TestReasons(t *testing.T) {
	for _, test := range []struct {
		err  error
		want string
	}{
		{notContext("not a context"), "not a context"},
		{syscall.ENOENT, "No such file or directory"},
		{&ckpt.Error{Op: "read", Errno: syscall.EIO, Detail: []string{"read context: input/output error"}}, "Input/output error"},
		{&ctxfile.Error{Op: "read", Errno: syscall.EINVAL, Reason: "truncated"}, "truncated"},
		{&ctxfile.Error{Op: "read", Errno: syscall.EINVAL, Object: "core-1.img", Reason: "odd"}, "core-1.img: odd"},
		{&ctxfile.Error{Op: "read", Errno: syscall.EIO}, "Input/output error"},
		{&ckpt.Error{Op: "read", Errno: syscall.EINVAL, Detail: []string{"directory: empty"}}, "empty"},
		{fmt.Errorf("wrapped: %w", syscall.EACCES), "Permission denied"},
		{errors.New("other\n"), `other\n`},
	} {
		if got := reason(test.err); got != test.want {
			t.Errorf("%v: %q, want %q", test.err, got, test.want)
		}
	}
	for err, want := range map[error]int{&usageError{"x"}: 255, &cli.OutputError{Err: syscall.EPIPE}: 1, syscall.EIO: 1} {
		if got := status(err); got != want {
			t.Errorf("%v: status %d, want %d", err, got, want)
		}
	}
}
