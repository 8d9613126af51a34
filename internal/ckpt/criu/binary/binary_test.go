package binary

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/hints"
	"blcr-cli/internal/proc"
	"blcr-cli/test/harness"
)

// What the body of a fake criu does when asked to check.
const (
	works = `echo "Warn  (criu/x.c:1): noise" >&2; echo Looks good.`
	fails = `echo "Error (criu/x.c:1): first"; echo "Error (criu/x.c:2): no such thing" >&2
		echo "Error (criu/x.c:3): rlimit: Can't setup RLIMIT_NOFILE for self"; echo bye; exit 1`
	hangs = `sleep 1000 & sleep 1000`
)

// fake makes a criu at path. It writes a line to path.runs each time it is run.
func fake(t testing.TB, path, check string) {
	t.Helper()
	fakeVersion(t, path, check, "4.2.1")
}

func fakeVersion(t testing.TB, path, check, version string) {
	t.Helper()
	script := fmt.Sprintf("#!/bin/sh\necho \"$1\" >>'%s.runs'\ncase $1 in\n"+
		"check)\n%s\n;;\n--version) echo Version: %s; echo GitID: v;;\nesac\n", path, check, version)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	os.Remove(path)
	if err := harness.WriteProgram(path, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
}

// checkRuns compares what the fake at path was run for since the last time.
func checkRuns(t *testing.T, path string, want ...string) {
	t.Helper()
	data, err := os.ReadFile(path + ".runs")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	os.Remove(path + ".runs")
	if got := strings.Fields(string(data)); strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("%s was run for %q, want %q", path, got, want)
	}
}

func checkFound(t *testing.T, s *search, path string) {
	t.Helper()
	b, err := s.find()
	if err != nil {
		t.Fatalf("%v: %q", err, err.(*ckpt.Error).Detail)
	}
	if want := (Binary{Path: path, Version: "4.2.1"}); *b != want {
		t.Errorf("found %+v, want %+v", *b, want)
	}
}

func checkNone(t *testing.T, s *search, detail ...string) {
	t.Helper()
	b, err := s.find()
	want := &ckpt.Error{Op: "find", Object: "criu", Errno: syscall.ENOSYS, Detail: detail}
	if b != nil || !reflect.DeepEqual(err, error(want)) {
		t.Errorf("got %+v, %#v\nwant %#v", b, err, want)
	}
}

// answersIn returns a place for answers, which is not there yet.
func answersIn(t testing.TB) *answerFile { return &answerFile{filepath.Join(t.TempDir(), "answers")} }

// setLimit sets limit for the test.
func setLimit(t *testing.T, d time.Duration) {
	old := limit
	limit = d
	t.Cleanup(func() { limit = old })
}

// TestLoaderMissing: what a criu needs that is not there is said, of a script as of an
// ELF file.
func TestLoaderMissing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "criu")
	elf := make([]byte, 256)
	copy(elf, "\x7fELF\x02\x01\x01")
	elf[16], elf[18] = 2, 62 // ET_EXEC, EM_X86_64
	elf[32], elf[54], elf[56] = 64, 56, 1
	copy(elf[64:], []byte{3, 0, 0, 0, 4, 0, 0, 0, 128})
	elf[64+32] = byte(copy(elf[128:], "/none/ld.so\x00"))
	for content, want := range map[string]string{
		string(elf):                   "its dynamic loader /none/ld.so is missing",
		"#!/none/sh -e\nexit 0\n":     "its interpreter /none/sh is missing",
		"#!/bin/sh\n":                 "",
		"#!\n":                        "",
		string(elf[:100]):             "",
		string(elf[:130]):             "",
		"":                            "",
		"\x7fELF\x02\x01 and no more": "",
	} {
		if err := os.WriteFile(path, []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
		if got := loaderMissing(path); got != want {
			t.Errorf("%.20q: %q, want %q", content, got, want)
		}
	}
}

func TestOrder(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, name := range []string{"tree/.criu/criu", "tree/lib/blcr-cli/criu/criu", "a/criu", "b/criu"} {
		fake(t, at(name), works)
	}
	s := &search{
		private: privateNames(at("tree/bin/cr_checkpoint")),
		dirs:    []string{"relative", ".", "", at("none"), at("a"), at("b")},
		answers: answersIn(t),
	}
	for _, name := range []string{"tree/.criu/criu", "tree/lib/blcr-cli/criu/criu", "a/criu", "b/criu"} {
		checkFound(t, s, at(name))
		checkFound(t, s, at(name))
		checkRuns(t, at(name), "check", "--version")
		fake(t, at(name), fails) // on to the next one
	}
	const why = ": check failed: Error (criu/x.c:2): no such thing"
	detail := []string{at("tree/.criu/criu") + why, at("tree/lib/blcr-cli/criu/criu") + why, at("a/criu") + why, at("b/criu") + why}
	for range 2 {
		checkNone(t, s, detail...)
	}
	checkRuns(t, at("a/criu"), "check", "check", "check") // once while b was good, and each time that none was

	// CR_CRIU is the only one.
	fake(t, at("b/criu"), works)
	fake(t, at("b/other"), works)
	s.named = at("a/criu")
	checkNone(t, s, "CR_CRIU="+at("a/criu")+why)
	s.named = at("b/other")
	checkFound(t, s, at("b/other"))
	s.named = "other"
	checkFound(t, s, at("b/other"))
	s.named = "nonesuch"
	checkNone(t, s, "CR_CRIU=nonesuch: not in PATH", unset)
	s.named = at("nonesuch")
	checkNone(t, s, "CR_CRIU="+at("nonesuch")+": No such file or directory", unset)
	s.named = dir
	checkNone(t, s, "CR_CRIU="+dir+": not an executable file", unset)
	t.Chdir(at("b"))
	s.named = "./other"
	checkFound(t, s, at("b/other"))
	checkRuns(t, at("b/other"), "check", "--version")
}

// TestNewest: of those that work the newest is taken, wherever it is.
func TestNewest(t *testing.T) {
	dir := t.TempDir()
	s := &search{answers: answersIn(t)}
	for i, version := range []string{"4.1.1", "", "4.10", "4.9.3", "4.10"} {
		d := filepath.Join(dir, strconv.Itoa(i))
		fakeVersion(t, filepath.Join(d, "criu"), works, version)
		s.dirs = append(s.dirs, d)
	}
	for range 2 {
		b, err := s.find()
		if want := (Binary{Path: filepath.Join(dir, "2/criu"), Version: "4.10"}); err != nil || *b != want {
			t.Errorf("found %+v, %v, want %+v", b, err, want)
		}
	}
}

func TestNone(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "criu"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	checkNone(t, &search{dirs: []string{dir, filepath.Join(dir, "none"), filepath.Join(dir, "criu")}},
		"no criu was found",
		hints.GetCriu(),
		"if there is one in another place, set CR_CRIU to its path")

	t.Setenv("CR_CRIU", filepath.Join(dir, "none"))
	if _, err := Find(); !errors.Is(err, syscall.ENOSYS) {
		t.Errorf("Find: %v", err)
	}
}

// One file under two names is tried once.
func TestSameFile(t *testing.T) {
	dir := t.TempDir()
	sbin := filepath.Join(dir, "sbin")
	fake(t, filepath.Join(sbin, "criu"), fails)
	if err := os.Symlink("sbin", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	s := &search{dirs: []string{filepath.Join(dir, "link"), sbin}}
	checkNone(t, s, filepath.Join(dir, "link/criu")+": check failed: Error (criu/x.c:2): no such thing")
	checkRuns(t, filepath.Join(sbin, "criu"), "check")
}

// What says nothing about the criu is not remembered.
func TestNoAnswer(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "criu")
	s := &search{dirs: []string{dir}, answers: answersIn(t)}
	for body, why := range map[string]string{
		hangs:        "check: no answer after 2s",
		"kill -9 $$": "signal: killed",
	} {
		fake(t, path, body)
		if body == hangs {
			setLimit(t, 2*time.Second) // enough to begin, on a busy machine
		} else {
			setLimit(t, harness.Patience)
		}
		start := time.Now()
		checkNone(t, s, path+": "+why)
		checkNone(t, s, path+": "+why)
		checkRuns(t, path, "check", "check")
		if took := time.Since(start); took > harness.Patience {
			t.Errorf("%q took %v", body, took)
		}
	}
	os.Remove(path)
	if err := harness.WriteProgram(path, []byte("#!/none/such\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	checkNone(t, s, path+": No such file or directory: its interpreter /none/such is missing")
	s.named = path
	checkNone(t, s, "CR_CRIU="+path+": No such file or directory: its interpreter /none/such is missing", unset)
}

// TestExhausted: a criu that lacks what a limit does not allow is not at fault.
func TestExhausted(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "criu")
	s := &search{dirs: []string{dir}, answers: answersIn(t)}
	for text, want := range map[string]syscall.Errno{
		"Can't open: Too many open files": unix.EMFILE, "Can't map: Cannot allocate memory": unix.ENOMEM, "Can't do: Resource temporarily unavailable": unix.ENOSYS,
	} {
		fake(t, path, `echo "Error (criu/x.c:1): `+text+`"; exit 1`)
		_, err := s.find()
		if got := ckpt.ErrnoOf(err); got != want {
			t.Errorf("%s: %v", text, got)
		}
		detail := strings.Join(err.(*ckpt.Error).Detail, "\n")
		if !strings.HasPrefix(detail, path+": check failed: ") || want == unix.EMFILE && !strings.Contains(detail, "(ulimit -n)") {
			t.Errorf("%s: %q", text, detail)
		}
	}
	// An answer that says nothing about the criu is not remembered.
	fake(t, path, works)
	checkFound(t, s, path)
}

// A child that holds the pipe does not hold us up, and ends with the criu that has left
// it, also one that is stopped when criu is killed.
func TestLeftBehind(t *testing.T) {
	const leaves = "sleep 1000 &\nkill -STOP $!\necho $! >>LEFT\n"
	for _, body := range []string{leaves + works, leaves + "kill -9 $$"} {
		dir := t.TempDir()
		path := filepath.Join(dir, "criu")
		fake(t, path, strings.ReplaceAll(body, "LEFT", dir+"/left"))
		start := time.Now()
		_, err := (&search{dirs: []string{dir}}).find()
		if good := !strings.Contains(body, "-9"); (err == nil) != good {
			t.Errorf("%q: %v", body, err)
		}
		if took := time.Since(start); took > harness.Patience {
			t.Errorf("took %v", took)
		}
		left, _ := os.ReadFile(dir + "/left")
		if len(left) == 0 {
			t.Errorf("%q: nothing was left", body)
		}
		for pid := range strings.FieldsSeq(string(left)) {
			n, _ := strconv.Atoi(pid)
			for !proc.Ended(n) && time.Since(start) < harness.Patience {
				time.Sleep(time.Millisecond)
			}
			if !proc.Ended(n) {
				t.Errorf("%q: process %d is left", body, n)
				_ = unix.Kill(n, unix.SIGKILL)
			}
		}
	}
}

func TestTelling(t *testing.T) {
	for out, want := range map[string]string{
		"":                "it does not say why",
		"\n \n":           "it does not say why",
		"one\ntwo\n\n":    "two",
		"Error (x): a\nb": "Error (x): a",
		"Error (a.c:1): Unable to connect a socket: Network is unreachable\nError (b.c:2): Could not initialize kernel features detection.": "Error (a.c:1): Unable to connect a socket: Network is unreachable",
		"a\n\x1b[31mb\x07":    `\x1b[31mb\a`,
		"Error RLIMIT_NOFILE": "Error RLIMIT_NOFILE",
		"CRIU needs to have the CAP_X capability: \nsetcap x": "CRIU needs to have the CAP_X capability",
		strings.Repeat("é", 301):                              strings.Repeat("é", 300) + "...",
	} {
		if got := telling(out); got != want {
			t.Errorf("telling(%q) = %q, want %q", out, got, want)
		}
	}
	for out, want := range map[string]string{
		"Version: 4.1.1\nGitID: v4\n": "4.1.1",
		"noise\nVersion:\t3.0 \r\n":   "3.0",
		"4.1.1\n":                     "",
	} {
		if got := version(out); got != want {
			t.Errorf("version(%q) = %q, want %q", out, got, want)
		}
	}
	var out tail
	for i := range 1 << 20 {
		fmt.Fprintf(&out, "%d\n", i)
	}
	if got := telling(out.String()); got != "1048575" || cap(out) > 4*tailSize {
		t.Errorf("kept %q in %d bytes", got, cap(out))
	}
}

// Whatever changes about the file, it is asked again.
func TestIdentity(t *testing.T) {
	dir := t.TempDir()
	path, inner := filepath.Join(dir, "criu"), filepath.Join(dir, "usr/sbin/criu")
	s := &search{dirs: []string{dir}, answers: answersIn(t)}
	fake(t, path, works)
	for name, change := range map[string]func(){
		"nothing else": func() {},
		"new inode":    func() { fake(t, path, works) },
		"mode":         func() { os.Chmod(path, 0o700) },
		"time":         func() { os.Chtimes(path, time.Time{}, time.Unix(1e9, 0)) },
		"real one":     func() { fake(t, inner, works) },
		"its mode":     func() { os.Chmod(inner, 0o500) },
	} {
		if strings.HasPrefix(name, "its") {
			fake(t, inner, works)
		}
		checkFound(t, s, path)
		os.Remove(path + ".runs")
		time.Sleep(10 * time.Millisecond) // the clock of file times is coarse
		change()
		checkFound(t, s, path)
		t.Run(name, func(t *testing.T) {
			if name == "nothing else" {
				checkRuns(t, path)
			} else {
				checkRuns(t, path, "check", "--version")
			}
		})
	}
}

func TestPlaces(t *testing.T) {
	for _, tt := range []struct {
		euid      int
		dir, want string
	}{
		{0, "/run/user/0", "/run/blcr-cli"},
		{0, "", "/run/blcr-cli"},
		{1, "/run/user/1", "/run/user/1/blcr-cli"},
		{1, "", "/dev/shm/blcr-cli-1"},
		{1, "run", "/dev/shm/blcr-cli-1"},
	} {
		if got := answerDir(tt.euid, tt.dir); got != tt.want {
			t.Errorf("answerDir(%d, %q) = %q, want %q", tt.euid, tt.dir, got, tt.want)
		}
	}
}

// TestConcurrent: of many that look for a criu at the same time one asks it.
func TestConcurrent(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "criu")
	fake(t, path, works)
	s := &search{dirs: []string{dir}, answers: answersIn(t)}
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			for range 3 {
				if b, err := s.find(); err != nil || *b != (Binary{Path: path, Version: "4.2.1"}) {
					t.Errorf("found %v, %v", b, err)
				}
			}
		})
	}
	all.Wait()
	checkFound(t, s, path)
	checkRuns(t, path, "check", "--version") // one of them has asked
	entries, err := os.ReadDir(s.answers.dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("left %v, %v", entries, err)
	}
}

// TestBreakpoints: what a criu is told that does not find out by itself whether this
// machine has hardware breakpoints. The answer is this machine's, remembered, and such a
// criu is not run for it.
func TestBreakpoints(t *testing.T) {
	for _, version := range []string{"4.1.1", "3.19", "", "4.2", "4.10"} {
		s := &search{dirs: []string{t.TempDir()}, answers: answersIn(t)}
		path := filepath.Join(s.dirs[0], "criu")
		fakeVersion(t, path, works, version)
		want := false
		if newer("4.2", version) {
			want = !breakpointsWork("/bin/true")
		}
		for range 2 {
			b, err := s.find()
			if err != nil {
				t.Fatal(err)
			}
			if b.NoBreakpoints != want || b.Version != version || slices.Contains(b.Environment(), "CRIU_FAULT=130") != want {
				t.Errorf("%q: %+v with %q, want no breakpoints: %v", version, *b, b.Environment(), want)
			}
		}
		checkRuns(t, path, "check", "--version")
	}
	if runtime.GOARCH == "amd64" && breakpointsWork(filepath.Join(t.TempDir(), "none")) {
		t.Error("where that cannot be tried")
	}
	id := identity{"/criu", "key"}
	for _, a := range []answer{{usable: true, version: "4.1"}, {usable: true, version: "4.1", noBreakpoints: true}, {why: "not"}} {
		if got, ok := decode(id, encode(id, a)); !ok || got != a {
			t.Errorf("got %+v, %v, want %+v", got, ok, a)
		}
	}
}

// Nothing that others made is believed, followed or waited for.
func TestPlanted(t *testing.T) {
	root := unix.Geteuid() == 0
	const nobody = 65534
	dir := t.TempDir()
	path := filepath.Join(dir, "criu")
	fake(t, path, works)
	id, err := identify(path)
	if err != nil {
		t.Fatal(err)
	}
	lie := []byte(encode(id, answer{usable: true, version: "6.6.6"}))
	for _, tt := range []struct {
		name  string
		plant func(t *testing.T, dir, file string)
		kept  bool // an answer afterwards
	}{
		{"link to a file", func(t *testing.T, dir, file string) {
			must(t, os.WriteFile(dir+"/lie", lie, 0o600))
			must(t, os.Symlink("lie", file))
		}, true},
		{"link to a directory", func(t *testing.T, dir, file string) {
			must(t, os.WriteFile(file, lie, 0o600))
			must(t, os.Rename(dir, dir+".real"))
			must(t, os.Symlink(dir+".real", dir))
		}, false},
		{"foreign file", func(t *testing.T, dir, file string) {
			must(t, os.WriteFile(file, lie, 0o600))
			chown(t, file, nobody)
		}, true},
		{"foreign directory", func(t *testing.T, dir, file string) {
			must(t, os.WriteFile(file, lie, 0o600))
			chown(t, dir, nobody)
		}, false},
		{"writable file", func(t *testing.T, dir, file string) {
			must(t, os.WriteFile(file, lie, 0o600))
			must(t, os.Chmod(file, 0o620))
		}, true},
		{"writable directory", func(t *testing.T, dir, file string) {
			must(t, os.WriteFile(file, lie, 0o600))
			must(t, os.Chmod(dir, 0o777))
		}, false},
		{"FIFO", func(t *testing.T, dir, file string) { must(t, unix.Mkfifo(file, 0o600)) }, true},
		{"directory", func(t *testing.T, dir, file string) { must(t, os.Mkdir(file, 0o700)) }, false},
		{"empty", func(t *testing.T, dir, file string) { must(t, os.WriteFile(file, nil, 0o600)) }, true},
		{"cut off", func(t *testing.T, dir, file string) { must(t, os.WriteFile(file, lie[:len(lie)-1], 0o600)) }, true},
		{"garbage", func(t *testing.T, dir, file string) { must(t, os.WriteFile(file, []byte("\n\n\n\n"), 0o600)) }, true},
		{"other identity", func(t *testing.T, dir, file string) {
			other := identity{id.path, id.key + "0"}
			must(t, os.WriteFile(file, []byte(encode(other, answer{usable: true, version: "6.6.6"})), 0o600))
		}, true},
		{"unwritable", func(t *testing.T, dir, file string) {
			if root {
				t.Skip("root may write anywhere")
			}
			must(t, os.Chmod(dir, 0o500))
		}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			answers := answersIn(t)
			must(t, os.Mkdir(answers.dir, 0o700))
			tt.plant(t, answers.dir, filepath.Join(answers.dir, fileName(id)))
			s := &search{dirs: []string{dir}, answers: answers}
			os.Remove(path + ".runs")
			checkFound(t, s, path)
			checkRuns(t, path, "check", "--version")
			checkFound(t, s, path)
			if tt.kept {
				checkRuns(t, path)
			} else {
				checkRuns(t, path, "check", "--version")
			}
		})
	}
	for _, answers := range []*answerFile{nil, {"/dev/null/x"}, {"/proc/x"}} {
		checkFound(t, &search{dirs: []string{dir}, answers: answers}, path)
	}
}

// A bad answer is not believed for ever, nor one from the future, and none is if there is
// no other criu: what was wrong may just have been put right.
func TestBadAge(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	path, good, wrong := filepath.Join(dir, "criu"), filepath.Join(other, "criu"), filepath.Join(dir, "wrong")
	must(t, os.WriteFile(wrong, nil, 0o600))
	fake(t, path, "if [ -e "+wrong+" ]; then "+fails+"; fi")
	fake(t, good, works)
	s := &search{dirs: []string{dir, other}, answers: answersIn(t)}
	checkFound(t, s, good)
	checkRuns(t, path, "check")
	id, err := identify(path)
	must(t, err)
	for age, runs := range map[time.Duration][]string{
		badFor / 2:   nil,
		badFor:       {"check"},
		-time.Minute: {"check"},
	} {
		at := time.Now().Add(-age)
		must(t, os.Chtimes(filepath.Join(s.answers.dir, fileName(id)), at, at))
		checkFound(t, s, good)
		checkRuns(t, path, runs...)
	}
	s.dirs = s.dirs[:1]
	checkNone(t, s, path+": check failed: Error (criu/x.c:2): no such thing")
	must(t, os.Remove(wrong))
	checkFound(t, s, path)
}

// The real one, if there is one.
func TestReal(t *testing.T) {
	name := os.Getenv("CR_CRIU")
	if name == "" {
		var err error
		name, err = filepath.Abs("../../../../.criu/criu")
		must(t, err)
		if _, err := os.Stat(name); err != nil {
			t.Skip("neither CR_CRIU nor make criu's: ", err)
		}
	}
	if unix.Geteuid() != 0 {
		t.Skip("criu check needs root")
	}
	s := newSearch()
	s.named, s.answers = name, answersIn(t)
	first, err := s.find()
	if err != nil {
		t.Fatalf("%v: %q", err, err.(*ckpt.Error).Detail)
	}
	if first.Version == "" {
		t.Error("no version")
	}
	if again, err := s.find(); err != nil || *again != *first {
		t.Errorf("first %v, then %v, %v", first, again, err)
	}
}

func BenchmarkFindWarm(b *testing.B) {
	dir := b.TempDir()
	fake(b, filepath.Join(dir, "criu"), works)
	answers := answersIn(b)
	for b.Loop() {
		s := newSearch()
		s.named, s.dirs, s.answers = "", []string{dir}, answers
		if _, err := s.find(); err != nil {
			b.Fatal(err)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func chown(t *testing.T, path string, uid int) {
	t.Helper()
	if unix.Geteuid() != 0 {
		t.Skip("only root can make a file of another user")
	}
	must(t, os.Chown(path, uid, uid))
}

// TestEnvironment: what criu is asked by is the same wherever HOME and other variables
// lead to.
func TestEnvironment(t *testing.T) {
	path := filepath.Join(t.TempDir(), "criu")
	fake(t, path, `echo "$@" "$HOME$CRIU_CONFIG_FILE$LD_LIBRARY_PATH" "$PATH" >"$0.asked"`)
	for _, name := range []string{"HOME", "CRIU_CONFIG_FILE", "LD_LIBRARY_PATH", "PATH"} {
		t.Setenv(name, "/somebody/else")
	}
	checkFound(t, &search{named: path}, path)
	asked, err := os.ReadFile(path + ".asked")
	want := "check " + NoConfig + " -D /"
	if unix.Geteuid() != 0 {
		want += " --unprivileged"
	}
	want += "  /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n"
	if string(asked) != want || err != nil {
		t.Errorf("asked %q, %v; want %q", asked, err, want)
	}
}

// A criu for the members of a group is named as such to others, and only then.
func TestMembersOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "criu")
	fake(t, path, works)
	for _, c := range []struct {
		mode os.FileMode
		err  error
		want string
	}{
		{0o750, unix.EACCES, "only members of the group "},
		{0o710, &os.PathError{Err: unix.EACCES}, "only members of the group "},
		{0o750, unix.EPERM, ""},
		{0o755, unix.EACCES, ""},
		{0o700, unix.EACCES, ""},
	} {
		must(t, os.Chmod(path, c.mode))
		if got := membersOnly(path, c.err); !strings.HasPrefix(got, c.want) || c.want == "" && got != "" {
			t.Errorf("%o, %v: %q, want %q", c.mode, c.err, got, c.want)
		}
	}
	if got := membersOnly(path+".none", unix.EACCES); got != "" {
		t.Errorf("no file: %q", got)
	}
}

// TestOnlyLastPid: a check that fails only because /proc/sys is read-only says nothing
// against a criu that chooses pids by clone3(2).
func TestOnlyLastPid(t *testing.T) {
	const (
		lastPid = "Error (criu/cr-check.c:160): sys/kernel/ns_last_pid sysctl is inaccessible: Read-only file system\n"
		verdict = "Warn  (criu/cr-check.c:1674): Does not look good.\n"
		tun     = "Error (criu/tun.c:85): tun: Unable to create tun: No such file or directory\n"
	)
	for out, want := range map[string]bool{
		lastPid + verdict:       clone3SetsPids(),
		tun + lastPid + verdict: clone3SetsPids(),
		tun + verdict:           false,
		verdict:                 false,
		"":                      false,
		lastPid + "Error (criu/cr-check.c:533): /proc/sys/kernel/sem_next_id is inaccessible: Permission denied\n": false,
		"Error (criu/cr-check.c:160): sys/kernel/ns_last_pid sysctl is inaccessible: Permission denied\n":          false,
	} {
		if got := onlyLastPid(out); got != want {
			t.Errorf("%q: %v", out, got)
		}
	}
}
