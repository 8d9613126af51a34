package script_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"blcr-cli/test/ctrlsim"
	"blcr-cli/test/harness"
)

// This file has somebody else make a checkpoint at every point of a run of the
// commands, who are in its scope. What must hold then:
//
//   - the command does what it was to do, as if nothing had been;
//   - everybody answers, and as BLCR's own tools do.

// askedRun is a command that is asked.
type askedRun struct {
	*ctrlsim.Result
	output   string
	dir      string
	pid      int
	stranger string // what became of the other's request
}

// asked runs a command under a module that asks. Its directory has a context
// "ctx", and a fifo "go" that is written to when the other's request, if there is
// to be one, is over.
func asked(t *testing.T, scenario string, args ...string) *askedRun {
	t.Helper()
	return askedUntil(t, scenario, func(c *ctrlsim.Command) {
		if strings.Contains(scenario, "\nstranger ") {
			// It fails where the program ends first, by which the request is over.
			_ = c.WaitTranscript("STRANGER", hang)
		}
	}, args...)
}

// askedUntil is the same for a command whose fifo is written to when until returns.
func askedUntil(t *testing.T, scenario string, until func(*ctrlsim.Command), args ...string) *askedRun {
	t.Helper()
	a := &askedRun{dir: t.TempDir()}
	if err := os.WriteFile(a.dir+"/ctx", []byte("context"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(a.dir+"/go", 0o600); err != nil {
		t.Fatal(err)
	}
	fifo, err := unix.Open(a.dir+"/go", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fifo)
	path := "/bin/sh"
	if strings.HasPrefix(args[0], "cr_") {
		path = filepath.Join(bin, args[0])
	}
	var out strings.Builder
	c := &ctrlsim.Command{
		Path: path, Argv0: args[0], Args: args[1:], Dir: a.dir,
		Env:      []string{"PATH=" + bin + ":/bin:/usr/bin", "CR_ENGINE=kernel", "CR_FTB=off"},
		Scenario: ctrlsim.MustScenario("ask yes\n" + scenario), Stdout: &out, Stderr: &out, Linger: linger,
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	a.pid = c.Pid()
	hung := time.AfterFunc(hang, func() {
		t.Errorf("%q hangs", args)
		c.Signal(syscall.SIGKILL)
	})
	defer hung.Stop()
	until(c)
	if _, err := unix.Write(fifo, []byte("go\n")); err != nil {
		t.Fatal(err)
	}
	if a.Result, err = c.Wait(); err != nil {
		t.Error(err)
	}
	if a.Result == nil {
		t.FailNow()
	}
	a.output = out.String()
	for _, line := range a.Transcript {
		if s, ok := strings.CutPrefix(line, "STRANGER "); ok {
			a.stranger += s
		}
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%q with\n%s\nexit %d, signal %d, output %q\n%s", args, scenario, a.ExitCode, int(a.Signal), a.output, a.TranscriptText())
		}
	})
	busy := a.ExitCode == 16 && a.output == "Checkpoint failed: Device or resource busy\n"
	if len(a.Problems) > 0 || len(a.Leftover) > 0 || a.output != "" && !busy {
		t.Errorf("problems %q, %d left behind, output %q", a.Problems, len(a.Leftover), a.output)
	}
	return a
}

// operation is where a line with that beginning is in the transcript, or -1.
func (a *askedRun) operation(prefix string) int {
	for i, line := range a.Transcript {
		if strings.HasPrefix(line, prefix) {
			return i
		}
	}
	return -1
}

// counts returns how many processes the other's request has saved and left out;
// none for one that has found nobody.
func (a *askedRun) counts() (saved, omitted int) {
	m := regexp.MustCompile(` saved=(\d+) omitted=(\d+)$`).FindStringSubmatch(a.stranger)
	if m == nil {
		return 0, 0
	}
	saved, _ = strconv.Atoi(m[1])
	omitted, _ = strconv.Atoi(m[2])
	return saved, omitted
}

// waitingJob is a job that runs until the other's request is over.
const waitingJob = "\nrstrt-read no\njob sh read go <go; exit 7"

// How far a command is when it answers.
const (
	early = iota // it leaves itself out
	idle         // it has asked for nothing yet: it is saved
	held         // its own request has to be over
)

// moment is an operation before or after which the other comes, and how far the
// command is before it.
type moment struct {
	op    string
	phase int
}

var restartPoints = []moment{
	{"open@1", idle}, {"version@1", idle},
	{"open@2", idle}, {"version@2", idle}, {"hand-phase1@1", idle},
	{"rstrt-req@1", held}, {"rstrt-procs@1", held}, {"rstrt-child@1", held}, {"rstrt-procs@2", held},
	{"rstrt-log@1", held}, {"rstrt-reap@1", held},
}

// TestAskedRestart asks cr_restart, at every point and with every option.
func TestAskedRestart(t *testing.T) {
	t.Parallel()
	for _, option := range []string{"--omit-maybe", "--omit-always", "--omit-never"} {
		for _, scope := range []string{"tree", "process", "group"} {
			for _, point := range restartPoints {
				for i, when := range []string{"before", "after"} {
					if spared("asked", i+len(scope)+len(point.op)) {
						continue
					}
					if option != "--omit-maybe" && scope != "process" && point.op != "rstrt-procs@1" {
						continue // it makes no difference
					}
					t.Run(fmt.Sprint(option, "/", scope, "/", when, "-", point.op), func(t *testing.T) {
						t.Parallel()
						a := asked(t, fmt.Sprintf("\nstranger %s %s scope %s%s", when, point.op, scope, waitingJob), "cr_restart", option, "ctx")
						if a.ExitCode != 7 {
							t.Errorf("exit %d", a.ExitCode)
						}
						if scope != "process" && a.stranger != "" && strings.HasSuffix(a.stranger, "= -EBUSY") {
							return // one of those who are being restored is in scope
						}
						// What follows an operation may happen at the same time as
						// the request.
						if phase := a.judgeRestart(t, option, scope); phase < point.phase || phase > point.phase && when == "before" {
							t.Errorf("%s: the answer is one of phase %d, want %d", a.stranger, phase, point.phase)
						}
					})
				}
			}
		}
	}
}

// judgeRestart holds the answers of a cr_restart against those of BLCR's, and says
// when it has given them.
func (a *askedRun) judgeRestart(t *testing.T, option, scope string) (phase int) {
	t.Helper()
	saved, omitted := a.counts()
	forward, reap := a.operation("CHKPT_FWD"), a.operation("RSTRT_REAP")
	if forward < 0 {
		switch {
		case saved == 0 && strings.HasSuffix(a.stranger, "= -ESRCH"):
			return early
		case saved == 1 && omitted == 0:
			return idle
		}
		t.Errorf("%s: want it saved or left out", a.stranger)
		return held
	}
	if reap < 0 || forward < reap {
		t.Errorf("the request is passed on in line %d, the restart is over in line %d", forward, reap)
	}
	if want := fmt.Sprintf("CHKPT_FWD {target=%d scope=3} = 0", a.pid); a.Transcript[forward] != want {
		t.Errorf("%s, want %s", a.Transcript[forward], want)
	}
	// A process that is about to be restored leaves itself out, too.
	ours := 1
	if option == "--omit-always" || option == "--omit-maybe" && scope != "group" {
		ours = 0
	}
	if saved != 1+ours || omitted != 1-ours && omitted != 2-ours {
		t.Errorf("%s: want %d saved, the job and it: %d", a.stranger, 1+ours, ours)
	}
	return held
}

var checkpointPoints = []moment{
	{"open@1", early}, {"version@1", early},
	{"open@2", early}, {"version@2", early}, {"hand-phase1@1", early},
	{"chkpt-req@1", held}, {"chkpt-log@1", held}, {"chkpt-reap@1", held},
}

// checkpointScript has cr_checkpoint save a process of another group, which waits
// in its turn, and gives it OWN besides.
const checkpointScript = `
setsid sh -c ': >up; exec sleep 100' &
until test -e up; do sleep 0.01; done
cr_checkpoint -f new OWN
status=$?
kill $!
wait $! 2>/dev/null
exit $status
`

// TestAskedCheckpoint asks the group of cr_checkpoint at every point, while it
// saves somebody else, and while it saves that group itself.
func TestAskedCheckpoint(t *testing.T) {
	t.Parallel()
	for _, own := range []string{"-p $!", "$$", "-g 0"} {
		for _, point := range checkpointPoints {
			for i, when := range []string{"before", "after"} {
				if spared("asked", i+len(own)+len(point.op)) {
					continue
				}
				t.Run(fmt.Sprint(own, "/", when, "-", point.op), func(t *testing.T) {
					t.Parallel()
					a := asked(t, fmt.Sprintf("\nstranger %s %s scope group\nchkpt-delay 30ms", when, point.op), "sh", "-c", strings.ReplaceAll(checkpointScript, "OWN", own))
					if own != "-p $!" && a.ExitCode == 16 && a.stranger != "" && !strings.HasSuffix(a.stranger, "= -EBUSY") {
						return // the other was first, and nobody is asked twice at a time
					}
					a.judgeCheckpoint(t)
					reap, stranger := a.operation("CHKPT_REAP = 0"), a.operation("STRANGER")
					answer := a.operation("HAND_ABORT 0x4 = -CR_EOMITTED (cr_checkpoint)")
					saved, omitted := a.counts()
					switch {
					case strings.HasSuffix(a.stranger, "= -EBUSY"):
						if own == "-p $!" {
							t.Errorf("%s: nobody is asked twice", a.stranger)
						}
					case own == "-p $!" && point.phase == held && when == "before":
						if answer >= 0 || stranger < reap {
							t.Errorf("line %d leaves somebody out, the other's request is over in line %d, ours in line %d", answer, stranger, reap)
						}
						if saved < 1 {
							t.Errorf("%s: want some saved", a.stranger)
						}
					case own == "-p $!" && point.phase == early && when == "before":
						// The shell and who waits, but not who works, whose temporary file
						// is renamed soon.
						if saved != 2 || omitted != 1 {
							t.Errorf("%s: want two saved and one left out", a.stranger)
						}
					}
					if own != "-p $!" && (answer < 0 || answer > reap) {
						t.Errorf("line %d leaves the worker out of its request, which is over in line %d", answer, reap)
					}
				})
			}
		}
	}
}

// judgeCheckpoint makes sure that the checkpoint has been made.
func (a *askedRun) judgeCheckpoint(t *testing.T) {
	t.Helper()
	if a.ExitCode != 0 || a.operation("CHKPT_REAP = 0") < 0 {
		t.Errorf("exit %d", a.ExitCode)
	}
	if context, err := os.ReadFile(a.dir + "/new"); err != nil || len(context) == 0 {
		t.Errorf("the context has %d bytes, %v", len(context), err)
	}
	if hidden, _ := filepath.Glob(a.dir + "/.*"); len(hidden) > 0 {
		t.Errorf("left behind: %q", hidden)
	}
}

// TestAskedSignal has the signal of --term come after the other's checkpoint:
// cr_restart dies as its job does, whether it was saved or not.
func TestAskedSignal(t *testing.T) {
	t.Parallel()
	for _, option := range []string{"--omit-maybe", "--omit-always", "--omit-never"} {
		for _, scope := range []string{"tree", "process", "group"} {
			t.Run(option+"/"+scope, func(t *testing.T) {
				t.Parallel()
				a := asked(t, "\nstranger before rstrt-log@1 signal TERM scope "+scope+"\nrstrt-read no\njob sleep", "cr_restart", option, "ctx")
				if a.Signal != syscall.SIGTERM {
					t.Errorf("exit %d, signal %d, want SIGTERM", a.ExitCode, int(a.Signal))
				}
				a.judgeRestart(t, option, scope)
			})
		}
	}
}

// TestAskedRestarted has everybody go on as if restored from the other's context:
// cr_restart waits for its job on.
func TestAskedRestarted(t *testing.T) {
	t.Parallel()
	for _, option := range []string{"--omit-maybe", "--omit-never"} {
		for _, point := range []string{"open@2", "rstrt-req@1", "rstrt-log@1", "rstrt-reap@1"} {
			t.Run(option+"/"+point, func(t *testing.T) {
				t.Parallel()
				a := asked(t, "restarted yes\nstranger before "+point+" scope group"+waitingJob, "cr_restart", option, "ctx")
				if a.ExitCode != 7 {
					t.Errorf("exit %d", a.ExitCode)
				}
				a.judgeRestart(t, option, "group")
			})
		}
	}
	// The worker is not in the context of its own request; who waits for it and
	// was saved in its stead ends well.
	t.Run("cr_checkpoint", func(t *testing.T) {
		t.Parallel()
		a := asked(t, "restarted yes", "sh", "-c", strings.ReplaceAll(checkpointScript, "OWN", "$$"))
		a.judgeCheckpoint(t)
	})
}

// TestAskedTwice asks a cr_restart that waits for its job again and again.
func TestAskedTwice(t *testing.T) {
	t.Parallel()
	for _, option := range []string{"--omit-maybe", "--omit-never"} {
		t.Run(option, func(t *testing.T) {
			t.Parallel()
			// Most of them find it in another's request. The job ends when two have been
			// passed on.
			scenario := "\nstranger before rstrt-reap@1 scope process\nstranger after chkpt-fwd@1 scope process"
			for at := 100 * time.Millisecond; at < hang; at += 100 * time.Millisecond {
				scenario += fmt.Sprintf("\nstranger at %v scope process", at)
			}
			a := askedUntil(t, scenario+waitingJob, func(c *ctrlsim.Command) {
				harness.Poll(t, "a second request that is passed on", func() bool {
					return strings.Count(strings.Join(c.Transcript(), "\n"), "CHKPT_FWD") >= 2
				})
			}, "cr_restart", option, "ctx")
			if a.ExitCode != 7 {
				t.Errorf("exit %d", a.ExitCode)
			}
		})
	}
}

// TestAskedFIFO asks a cr_restart that waits for the other end of its context, a FIFO.
// It is saved, as there is nothing half done.
func TestAskedFIFO(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := unix.Mkfifo(dir+"/fifo", 0o600); err != nil {
		t.Fatal(err)
	}
	var asked atomic.Bool
	c := &ctrlsim.Command{
		Path: filepath.Join(bin, "cr_restart"), Argv0: "cr_restart", Args: []string{"fifo"}, Dir: dir, Linger: linger,
		Env:      []string{"PATH=" + bin + ":/bin:/usr/bin", "CR_FTB=off"},
		Scenario: ctrlsim.MustScenario("ask yes"),
		OnCall: func(call ctrlsim.SystemCall) {
			if call.Number != unix.SYS_OPENAT || asked.Load() {
				return
			}
			path := make([]byte, len("fifo\x00"))
			local := unix.Iovec{Base: &path[0]}
			local.SetLen(len(path))
			n, _ := unix.ProcessVMReadv(call.Pid, []unix.Iovec{local},
				[]unix.RemoteIovec{{Base: uintptr(call.Args[1]), Len: len(path)}}, 0)
			if n == len(path) && string(path) == "fifo\x00" && !asked.Swap(true) {
				call.Stranger(ctrlsim.Stranger{Scope: "tree"})
			}
		},
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	if err := c.WaitTranscript("STRANGER", hang); err != nil {
		t.Error(err)
	}
	// Its close is the end of the context.
	fd, err := unix.Open(dir+"/fifo", unix.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(fd)
	r, err := c.Wait()
	if err != nil {
		t.Fatal(err)
	}
	if want := " = 0 saved=1 omitted=0"; !strings.Contains(r.TranscriptText(), want) || r.ExitCode != 5 {
		t.Errorf("exit %d, want 5 and %q\n%s", r.ExitCode, want, r.TranscriptText())
	}
}
