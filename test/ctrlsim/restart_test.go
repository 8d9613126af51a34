//go:build linux && amd64

package ctrlsim

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// restartBy runs a restart by the C client or, without threads, by a Go program.
func restartBy(t *testing.T, c bool, scenario, context string, args ...string) *Command {
	t.Helper()
	if len(args) == 0 {
		args = []string{"0"}
	}
	cmd := goProgram("rstrt", append([]string{context}, args...)...)
	if c {
		cmd = &Command{Path: client(t), Args: append([]string{"restart", context}, args...)}
	}
	cmd.Scenario = MustScenario(scenario)
	return cmd
}

// lastLine is what the program says about its child.
func lastLine(r try) string {
	lines := strings.Split(strings.TrimSpace(r.out), "\n")
	return lines[len(lines)-1]
}

func TestRestart(t *testing.T) {
	ctx := context(t)
	r := good(t, restartBy(t, false, "job exit 7", ctx))
	wantTranscript(t, r, `
open {flags=O_WRONLY|O_CLOEXEC} = 0
VERSION 0xa = 0
RSTRT_REQ {fd=`+fdOf(r, "RSTRT_REQ")+` signal=0 relocate=0 flags=0x3} = 0
RSTRT_PROCS = 1 {threads=1 clone_flags=0x410f00}
RSTRT_CHILD
RSTRT_PROCS = 0
RSTRT_LOG = 0
RSTRT_REAP = PID`)
	if r.out != "exit 7\n" {
		t.Errorf("got %q", r.out)
	}
}

// fdOf is the descriptor in a line of the transcript: it depends on how many
// the Go runtime has.
func fdOf(r try, prefix string) string {
	for _, line := range r.Transcript {
		if rest, ok := strings.CutPrefix(line, prefix+" {fd="); ok {
			fd, _, _ := strings.Cut(rest, " ")
			return fd
		}
	}
	return "?"
}

func TestJobs(t *testing.T) {
	ctx := context(t)
	for _, test := range []struct{ job, signal, want string }{
		{"exit 0", "0", "exit 0"},
		{"exit 255", "0", "exit 255"},
		{"signal TERM", "0", "signal 15"},
		{"signal 9", "0", "signal 9"},
		{"signal SIGSEGV", "0", "signal 11"},
		{"signal 64", "0", "signal 64"},
		{"sh exit 3", "0", "exit 3"},
		{"sh kill -USR1 $$", "0", "signal 10"},
		{"sleep", "15", "signal 15"},
		{"sleep", "9", "signal 9"},
		{"sleep", "-6", "signal 6"},
		{"exit 4", "19", "exit 4"}, // stopped, and continued by the client
		{"sh exit 5", "19", "exit 5"},
		{"sh exit 6", "18", "exit 6"},
	} {
		for _, threads := range []string{"1", "2", "4", "8"} {
			name := fmt.Sprintf("%s, signal %s, %s threads", test.job, test.signal, threads)
			r := good(t, restartBy(t, true, "procs "+threads+"\njob "+test.job, ctx, test.signal, "block", "handler"))
			if got := lastLine(r); got != test.want {
				t.Errorf("%s: got %q, want %q", name, got, test.want)
			}
			if stopped := strings.Contains(r.out, "stopped 19\n"); stopped != (test.signal == "19") {
				t.Errorf("%s: stopped %v", name, stopped)
			}
			if n := strings.Count(r.TranscriptText(), "RSTRT_CHILD\n"); strconv.Itoa(n) != threads {
				t.Errorf("%s: %d times RSTRT_CHILD", name, n)
			}
		}
		r := good(t, restartBy(t, false, "job "+test.job, ctx, test.signal))
		if got := lastLine(r); got != test.want {
			t.Errorf("%s, signal %s, Go: got %q, want %q", test.job, test.signal, got, test.want)
		}
	}
}

// A process that is stopped by the request's signal has the job's name already.
func TestJobSignal(t *testing.T) {
	c := restartBy(t, false, "job sh exit 9", context(t), "20")
	// SIGTSTP stops nothing in an orphaned process group, which the test's own is
	// under cron, setsid or CI.
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	r := good(t, c)
	if want := "stopped 20 sh\nexit 9\n"; r.out != want {
		t.Errorf("got %q, want %q", r.out, want)
	}
}

// The job has its own name, the program's environment, an empty mask and no
// more descriptors than the module leaves it: those of the control file and of
// the context are closed even if they are not close-on-exec.
func TestJobSees(t *testing.T) {
	const script = `sh cat /proc/$$/comm; tr '\0' ' ' </proc/$$/cmdline; grep -E 'SigBlk|SigIgn|Threads' /proc/$$/status; ` +
		`for i in 0 1 2 3 4 5 6 7 8; do test ! -e /proc/$$/fd/$i || echo $i; done; echo $X`
	f, err := os.Open(context(t))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	for _, byC := range []bool{true, false} {
		f.Seek(0, 0)
		c := restartBy(t, byC, "job "+script, "fd:3")
		if byC {
			c.Args = []string{"restart", "/proc/self/fd/3", "0"}
		}
		env := c.Env
		if env == nil {
			env = os.Environ()
		}
		c.Env = append(slices.Clone(env), "X=y z")
		c.ExtraFiles = []*os.File{f, null}
		r := good(t, c)
		_, out, _ := strings.Cut(r.out, "running")
		if !byC {
			out = "\n" + r.out
		}
		_, out, _ = strings.Cut(out, "\n")
		want := "sh\nsh -c " + strings.TrimPrefix(script, "sh ") +
			" Threads:\t1\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n0\n1\n2\n4\ny z\n"
		if byC { // it opens the context anew; the inherited one is another file
			want = strings.Replace(want, "2\n4\n", "2\n3\n4\n", 1)
		}
		if got := strings.TrimSuffix(out, "exit 0\n"); got != want {
			t.Errorf("C %v: got:\n%s\nwant:\n%s", byC, got, want)
		}
	}
}

func TestProcesses(t *testing.T) {
	ctx := context(t)
	r := good(t, restartBy(t, true, "procs 1 4 2\njob exit 1\njob exit 2\njob exit 3\nclone-flags 0x10f00", ctx, "0"))
	if lastLine(r) != "exit 1" {
		t.Errorf("got %q", r.out)
	}
	want := `RSTRT_PROCS = 1 {threads=1 clone_flags=0x10f00}
RSTRT_CHILD
RSTRT_PROCS = 1 {threads=4 clone_flags=0x10f00}
RSTRT_CHILD
RSTRT_CHILD
RSTRT_CHILD
RSTRT_CHILD
RSTRT_PROCS = 1 {threads=2 clone_flags=0x10f00}
RSTRT_CHILD
RSTRT_CHILD
RSTRT_PROCS = 0
`
	if !strings.Contains(r.TranscriptText(), want) {
		t.Errorf("transcript:\n%s", r.TranscriptText())
	}
}

func TestRestartScripted(t *testing.T) {
	ctx := context(t)
	for _, test := range []struct {
		scenario string
		code     int
		want     string // in the output
		line     string // in the transcript
	}{
		{"rstrt-req EPERM", 1, "request: operation not permitted\n", ""},
		{"rstrt-req CR_EBADARCH", 1, "request: errno 2359\n", ""},
		{"rstrt-procs EIO", 1, "procs: input/output error\n", "RSTRT_PROCS = -EIO"},
		{"procs 1 1\nrstrt-procs@2 ENOMEM", 1, "procs: cannot allocate memory\n", "RSTRT_PROCS = -ENOMEM"},
		{"rstrt-child ENOENT\nrstrt-log mmap failed: x", 1, "mmap failed: x\nreap: no such file or directory\n", "RSTRT_CHILD = -ENOENT"},
		{"procs 1 1\nrstrt-child@2 EACCES", 1, "reap: permission denied\n", "RSTRT_CHILD = -EACCES"},
		{"rstrt-reap EBUSY\nrstrt-log found pid 4185 in use", 1, "found pid 4185 in use\nreap: device or resource busy\n", "RSTRT_REAP = -EBUSY"},
		{"rstrt-reap 0", 0, "no child\n", "RSTRT_REAP = 0"},
		{"procs none", 0, "no child\n", "RSTRT_PROCS = 0"},
		{"rstrt-delay 50ms\njob exit 2", 0, "exit 2\n", ""},
		{"procs-block 50ms\njob exit 2", 0, "exit 2\n", ""},
		{"rstrt-child 0\nrstrt-reap EIO\njob sh echo ran", 1, "ran\n", ""},
	} {
		r := run(t, restartBy(t, false, test.scenario, ctx))
		if r.ExitCode != test.code || !strings.Contains(r.out, test.want) || len(r.Problems) > 0 || len(r.Leftover) > 0 {
			t.Errorf("%s: exit %d, got %q, want %q\n%q %v", test.scenario, r.ExitCode, r.out, test.want, r.Problems, r.Leftover)
		}
		if test.line != "" && !slices.Contains(r.Transcript, test.line) {
			t.Errorf("%s: no %q in\n%s", test.scenario, test.line, r.TranscriptText())
		}
		if strings.Contains(test.scenario, "50ms") && r.Elapsed < 50*time.Millisecond {
			t.Errorf("%s: took %v", test.scenario, r.Elapsed)
		}
	}
}

// See rst_empty, rst_junk, rst_junk300, rst_dir and rst_trunc of
// blcr-observed.txt.
func TestRestartFailures(t *testing.T) {
	dir := t.TempDir()
	file := func(name string, b []byte) string {
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	whole, err := os.ReadFile(context(t))
	if err != nil {
		t.Fatal(err)
	}
	patched := func(at int, b byte) []byte { p := bytes.Clone(whole); p[at] = b; return p }
	for _, test := range []struct {
		source string
		want   string
	}{
		{file("empty", nil), "vfs_read returned 0\nfailed to read file header\nreap: input/output error\n"},
		{file("junk", []byte("junk")), "vfs_read returned 0\nfailed to read file header\nreap: input/output error\n"},
		{file("junk300", make([]byte, 300)), "file header has invalid signature\nreap: invalid argument\n"},
		{file("version", patched(8, 7)), "file header has incorrect/unsupported version\nreap: invalid argument\n"},
		{file("arch", patched(16, 1)), "file header has incorrect architecture (1, but expecting 5)\nreap: errno 2359\n"},
		{file("trunc", whole[:2000]), "vfs_read returned 0\nthaw_threads returned error, aborting. -5\nreap: input/output error\n"},
		{dir, "source descriptor must not be a directory\nreap: is a directory\n"},
		{"fd:77", "invalid file descriptor 77 received\nfailed to initialize source file descriptor\nreap: invalid argument\n"},
		{"fd:1", "failed to initialize source file descriptor\nreap: bad file descriptor\n"}, // write-only
	} {
		r := run(t, restartBy(t, false, "", test.source))
		if r.out != test.want || r.ExitCode != 1 || len(r.Problems) > 0 {
			t.Errorf("%s: exit %d, got %q, want %q\n%s%q", test.source, r.ExitCode, r.out, test.want, r.TranscriptText(), r.Problems)
		}
	}
	r := good(t, restartBy(t, false, "rstrt-read no", filepath.Join(dir, "junk")))
	if r.out != "exit 0\n" {
		t.Errorf("rstrt-read no: %q", r.out)
	}
}

// The context is read from the descriptor's offset, and not beyond its end; a
// pipe may still be filled.
func TestSource(t *testing.T) {
	whole, err := os.ReadFile(context(t))
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	f.WriteString("before")
	f.Write(whole)
	f.WriteString("after")
	f.Seek(6, 0)
	c := restartBy(t, false, "", "fd:3")
	c.ExtraFiles = []*os.File{f}
	good(t, c)
	if at, err := f.Seek(0, 1); err != nil || at != int64(6+len(whole)) {
		t.Errorf("offset %d, want %d", at, 6+len(whole))
	}

	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	go func() {
		for part := range slices.Chunk(whole, 1000) {
			time.Sleep(5 * time.Millisecond)
			w.Write(part)
		}
		w.WriteString("after")
	}()
	c = restartBy(t, false, "", "fd:3")
	c.ExtraFiles = []*os.File{r}
	good(t, c)
	b := make([]byte, 10)
	if n, _ := r.Read(b); string(b[:n]) != "after" {
		t.Errorf("left in the pipe: %q", b[:n])
	}
	w.Close()
}

// Mistakes that a program could make.
func TestRestartMistakes(t *testing.T) {
	ctx := context(t)
	for _, test := range []struct {
		scenario string
		args     []string
		want     string // in the problems
	}{
		{"procs 2", []string{"extra", "1"}, "restarted process 1 has 3 threads instead of 2"},
		{"", []string{"vm"}, "fork, not vfork"},
		{"procs 3", []string{"extra", "-1"}, "restarted process 1 has 2 of 3 threads in RSTRT_CHILD"},
	} {
		c := restartBy(t, true, test.scenario, ctx, append([]string{"0"}, test.args...)...)
		c.Timeout = 500 * time.Millisecond
		r := run(t, c)
		if !strings.Contains(strings.Join(r.Problems, "\n"), test.want) {
			t.Errorf("%v: problems %q, want %q\n%s%s", test.args, r.Problems, test.want, r.out, r.TranscriptText())
		}
	}
	if r := run(t, goProgram("rstrtfs", ctx, "0")); r.ExitCode != 1 || r.out != "reap: input/output error\n" || !strings.Contains(strings.Join(r.Problems, "\n"), "in %fs") {
		t.Errorf("%%fs below 4 GiB: exit %d, %q, problems %q", r.ExitCode, r.out, r.Problems)
	}
	// A child that ends before it has asked for its image: RSTRT_PROCS hangs on
	// the real module until a signal comes, here until the deadline.
	c := restartBy(t, true, "", ctx, "0", "early")
	c.Timeout = 300 * time.Millisecond
	if r := run(t, c); !errors.Is(r.err, ErrTimeout) {
		t.Errorf("child that ends early: %v, %q", r.err, r.out)
	}
}

// A job that its parent leaves alone is killed at the end.
func TestJobLeftover(t *testing.T) {
	c := restartBy(t, true, "job sleep", context(t), "0", "nowait")
	r := run(t, c)
	if r.ExitCode != 0 || len(r.Leftover) != 1 || !strings.Contains(r.out, fmt.Sprintf("running %d\n", r.Leftover[0])) {
		t.Errorf("exit %d, leftover %v, %q", r.ExitCode, r.Leftover, r.out)
	}
}

// The job runs when the request is complete, under its own name.
func TestJobName(t *testing.T) {
	for _, threads := range []string{"1", "6"} {
		var out bytes.Buffer
		c := restartBy(t, true, "job sleep\nprocs "+threads, context(t))
		c.Stdout = &out
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		if err := c.WaitTranscript("RSTRT_REAP", 5*time.Second); err != nil {
			t.Fatal(err)
		}
		var job stat
		for _, st := range allProcesses() {
			if st.ppid == c.Pid() {
				job = st
			}
		}
		cmdline, _ := os.ReadFile(procFile(job.pid, "cmdline"))
		if job.comm != "sleep" || !bytes.HasPrefix(cmdline, []byte("sleep\x00")) {
			t.Errorf("job is %q, %q", job.comm, cmdline)
		}
		unix.Kill(job.pid, unix.SIGHUP)
		r, err := c.Wait()
		if err != nil || r.ExitCode != 0 || !strings.HasSuffix(out.String(), "signal 1\n") {
			t.Errorf("%v, %q", err, out.String())
		}
	}
}

// A blocked RSTRT_PROCS is interrupted by a signal, as on the module.
func TestProcsInterrupted(t *testing.T) {
	r := good(t, goProgram("eintr", context(t)))
	if want := "1 <nil>\n-1 interrupted system call\n-1 interrupted system call\n"; r.out != want {
		t.Errorf("got %q, want %q", r.out, want)
	}
}
