//go:build linux && amd64

package ctrlsim

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// What a restart sees of the module: section 5 of the notes on its interface.

// restart is a restart of single-threaded processes, which the program waits for.
func restarting(scenario, context string, args ...string) *Command {
	cmd := goProgram("rstrt", append([]string{context}, args...)...)
	cmd.Scenario = MustScenario(scenario)
	return cmd
}

func TestRestart(t *testing.T) {
	r := good(t, restarting("job exit 7", context(t)))
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

// A process that is stopped by the request's signal has the job's name already.
func TestJobSignal(t *testing.T) {
	c := restarting("job sh exit 9", context(t), "20")
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
	c := restarting("job "+script, "fd:3")
	c.Env = append(c.Env, "X=y z")
	c.ExtraFiles = []*os.File{f, null}
	r := good(t, c)
	want := "sh\nsh -c " + strings.TrimPrefix(script, "sh ") +
		" Threads:\t1\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n0\n1\n2\n4\ny z\nexit 0\n"
	if r.out != want {
		t.Errorf("got:\n%s\nwant:\n%s", r.out, want)
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
		r := run(t, restarting("", test.source))
		if r.out != test.want || r.ExitCode != 1 || len(r.Problems) > 0 {
			t.Errorf("%s: exit %d, got %q, want %q\n%s%q", test.source, r.ExitCode, r.out, test.want, r.TranscriptText(), r.Problems)
		}
	}
	r := good(t, restarting("rstrt-read no", filepath.Join(dir, "junk")))
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
	c := restarting("", "fd:3")
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
	c = restarting("", "fd:3")
	c.ExtraFiles = []*os.File{r}
	good(t, c)
	b := make([]byte, 10)
	if n, _ := r.Read(b); string(b[:n]) != "after" {
		t.Errorf("left in the pipe: %q", b[:n])
	}
	w.Close()
}

// A child whose thread-local storage is below 4 GiB has a selector in %fs, which the
// module does not take away: the restored process would have it.
func TestSelector(t *testing.T) {
	r := run(t, goProgram("rstrtfs", context(t), "0"))
	if r.ExitCode != 1 || r.out != "reap: input/output error\n" || !strings.Contains(strings.Join(r.Problems, "\n"), "in %fs") {
		t.Errorf("exit %d, %q, problems %q", r.ExitCode, r.out, r.Problems)
	}
}

// A blocked RSTRT_PROCS is interrupted by a signal, as on the module.
func TestProcsInterrupted(t *testing.T) {
	r := good(t, goProgram("eintr", context(t)))
	if want := "1 <nil>\n-1 interrupted system call\n-1 interrupted system call\n"; r.out != want {
		t.Errorf("got %q, want %q", r.out, want)
	}
}
