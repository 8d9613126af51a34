//go:build linux && amd64

package ctrlsim

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// asked runs testdata/asked.c. The words are its arguments without the context,
// "once 0 omit save".
func asked(t *testing.T, scenario, words string) try {
	t.Helper()
	f := strings.Fields(words)
	args := append([]string{f[0], filepath.Join(t.TempDir(), "context")}, f[1:]...)
	return good(t, &Command{Path: build(t, "asked"), Argv0: "asked", Args: args, Scenario: MustScenario(scenario)})
}

// wantLines compares what several processes have said, in any order.
func wantLines(t *testing.T, r try, want string) {
	t.Helper()
	sorted := func(s string) string {
		l := strings.Split(strings.TrimSpace(s), "\n")
		slices.Sort(l)
		return strings.Join(l, "\n")
	}
	if sorted(r.out) != sorted(want) {
		t.Errorf("got:\n%s\nwant:\n%s\ntranscript:\n%s", r.out, strings.TrimSpace(want), r.TranscriptText())
	}
}

func TestAsked(t *testing.T) {
	for _, test := range []struct{ words, want string }{
		{"once 0 omit save none", `
omit: omitted -2358
save: saved 0
omit: reap 0, 5 descriptors`},
		// The signal is for all that are saved, those that cannot be asked included.
		{"once 15 omit save omit none", `
omit: omitted -2358
omit: omitted -2358
save: saved 0
omit: reap 0, 5 descriptors
omit: child 1: signal 15
omit: child 3: signal 15`},
		{"once -12 omit save", `
omit: omitted -2358
save: saved 0
omit: reap 0, 5 descriptors
omit: child 1: signal 12`},
		// The requester is saved itself. The module unblocks the signal.
		{"once 0 save blocked threads", `
save: saved 0
blocked: saved 0
threads: saved 0
threads: saved 0
threads: saved 0
threads: saved 0
save: reap 0, 5 descriptors`},
		{"once 0 omit omit", `
omit: omitted -2358
omit: omitted -2358
omit: reap -3, 5 descriptors`},
		{"once 0 omit half", `
omit: omitted -2358
half: -2358
half: -2358
omit: reap -3, 5 descriptors`},
		{"once 0 omit callbacks", `
omit: omitted -2358
callbacks: saved 0
callbacks: done 0
omit: reap 0, 5 descriptors`},
		{"once 15 omit temp save", `
omit: omitted -2358
temp: aborted -2354
save: saved -2354
omit: reap -2354, 5 descriptors`},
		{"once 15 omit temp-busy", `
omit: omitted -2358
temp-busy: aborted -16
omit: reap -16, 5 descriptors`},
		{"once 0 omit perm save", `
omit: omitted -2358
omit: reap -2355, 5 descriptors`},
		{"once 0 omit exit", `
omit: omitted -2358
omit: reap -3, 5 descriptors
omit: child 1: exit 3`},
		{"once 0 omit exit save", `
omit: omitted -2358
save: saved 0
omit: reap 0, 5 descriptors
omit: child 1: exit 3`},
		{"once 0 omit exec", `
omit: omitted -2358
omit: reap -3, 5 descriptors`},
		// The descriptor that it was given is closed again.
		{"once 10 omit info", `
omit: omitted -2358
info: info 0
info: requester ours target ours scope 3 signal 10 /context
info: phase 1 -11
info: saved 0
info: outside -9 -9
omit: reap 0, 5 descriptors
omit: child 1: signal 10`},
		{"process 0 fwd save", `
fwd: to nobody -3
fwd: forwarded 0
fwd: again 0
fwd: omitted -2358
save: saved 0
fwd: reap 0, 5 descriptors`},
		{"kill 0 omit save never", `
omit: omitted -2358
save: saved -4
omit: killed`},
		{"twice 0 omit slow", `
omit: outside -3 -3
omit: omitted -2358
omit: second -16
slow: saved 0
omit: first 0`},
	} {
		t.Run(test.words, func(t *testing.T) {
			t.Parallel()
			wantLines(t, asked(t, "ask yes", test.words), test.want)
		})
	}
}

// A thread of phase 1 is asked before the others, while it waits for that with
// all signals blocked, on the descriptor that it has registered.
func TestAskedInPhases(t *testing.T) {
	for how, result := range map[string]string{"save": "saved 0", "omit": "omitted -2358"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			r := asked(t, "ask yes", "once 0 omit guard-"+how+" save")
			want := strings.ReplaceAll(`
omit: omitted -2358
save: saved 0
G: suspended -22
G: registered 0
G: again -17, for the other -22
G: guard
G: main
G: RESULT
G: RESULT
G: woken 0
omit: reap 0, 5 descriptors`, "G:", "guard-"+how+":")
			wantLines(t, r, strings.ReplaceAll(want, "RESULT", result))
			if strings.Index(r.out, ": guard\n") > strings.Index(r.out, ": main\n") {
				t.Errorf("phase 2 came first:\n%s", r.out)
			}
		})
	}
}

// Those who cannot be asked make the request fail, but may be late.
func TestUnready(t *testing.T) {
	r := asked(t, "ask yes\nunready error", "once 0 omit none")
	wantLines(t, r, "omit: reap -2356, 5 descriptors")
	r = asked(t, "ask yes\nunready error", "once 0 omit save")
	wantLines(t, r, "omit: omitted -2358\nsave: saved 0\nomit: reap 0, 5 descriptors")
}

// Who is saved goes on without those children that are not.
func TestRestarted(t *testing.T) {
	r := asked(t, "restarted yes", "restarted 15 omit parent")
	wantLines(t, r, `
omit: omitted -2358
parent: saved 1
parent: no child, ECHILD
omit: reap 0, 5 descriptors`)
	// No signal, and the requester does not wait for the children's end.
	if text := r.TranscriptText(); !strings.Contains(text, "\nHAND_CHKPT 0x4000 = 1 (asked)\n") || !strings.Contains(text, "\nCHKPT_REAP = 0\n") {
		t.Error(text)
	}
}

// A shell that cannot be asked is held, and loses its child, too.
func TestRestartedShell(t *testing.T) {
	dir := t.TempDir()
	script := fmt.Sprintf("%s wait %s/c 0 omit; echo over", build(t, "asked"), dir)
	r := good(t, &Command{Path: "sh", Args: []string{"-c", script},
		Scenario: MustScenario("restarted yes\nstranger after version takes 300ms")})
	wantLines(t, r, "omit: omitted -2358\nover")
	wantTranscript(t, r, `
open {flags=O_WRONLY|O_CLOEXEC} = 0
VERSION 0xa = 0
HAND_ABORT 0x4 = -CR_EOMITTED (asked)
STRANGER {scope=3 target=PID} = 0 saved=1 omitted=1`)
}

func TestStranger(t *testing.T) {
	for _, test := range []struct{ scenario, words, line string }{
		{"stranger before open", "wait 0 omit save", "= 0 saved=1 omitted=1"},
		{"stranger after open", "wait 0 omit none", "= 0 saved=1 omitted=1"},
		{"stranger before version", "wait 0 save save", "= 0 saved=2 omitted=0"},
		{"stranger after version@1", "wait 0 omit omit", "= -ESRCH"},
		{"stranger at 200ms", "wait 0 omit save", "= 0 saved=1 omitted=1"},
		{"stranger before chkpt-req takes 30s", "once 0 omit save", ""}, // not over at the end
		{"stranger after chkpt-req\nchkpt-delay 300ms", "once 0 omit slow", "= -EBUSY"},
		{"stranger at 200ms scope process", "wait 0 save save", "= 0 saved=1 omitted=0"},
		{"stranger at 200ms\nunready error", "wait 0 omit none", "= -CR_ENOSUPPORT"},
		{"stranger before hand-abort\nask yes", "once 0 omit slow", "= -EBUSY"},
		{"stranger at 200ms", "wait 0 omit temp", "= -CR_ETEMPFAIL"},
	} {
		t.Run(test.scenario+","+test.words, func(t *testing.T) {
			t.Parallel()
			r := asked(t, test.scenario, test.words)
			var lines []string
			for _, l := range r.Transcript {
				if s, ok := strings.CutPrefix(l, "STRANGER "); ok {
					lines = append(lines, s)
				}
			}
			scope := "3"
			if strings.Contains(test.scenario, "scope process") {
				scope = "0"
			}
			if want := strings.TrimSpace("{scope=" + scope + " target=PID} " + test.line); len(lines) != 1 || lines[0] != want {
				t.Errorf("got %q, want %s\n%s%s", lines, want, r.out, r.TranscriptText())
			}
		})
	}
}

// In the group of the program are the processes of the test, too: only those of
// the program are in a stranger's scope.
func TestStrangersGroup(t *testing.T) {
	r := asked(t, "stranger at 200ms scope group", "wait 0 omit save")
	if !slices.ContainsFunc(r.Transcript, func(l string) bool {
		return strings.HasPrefix(l, "STRANGER {scope=1 target=") && strings.HasSuffix(l, " = 0 saved=1 omitted=1")
	}) {
		t.Error(r.TranscriptText())
	}
}

// A request whose answers do not come does not keep a Command from its end, and
// it is said what was waited for.
func TestNoAnswer(t *testing.T) {
	c := &Command{Path: build(t, "asked"), Args: []string{"once", filepath.Join(t.TempDir(), "c"), "0", "omit", "never"},
		Scenario: MustScenario("ask yes"), Timeout: 1e9}
	r := run(t, c)
	if r.err == nil || !slices.ContainsFunc(r.Problems, func(p string) bool { return strings.Contains(p, "has not answered") }) {
		t.Errorf("err %v problems %q", r.err, r.Problems)
	}
}

// Stopped processes are asked, and stopped again.
func TestAskedWhileStopped(t *testing.T) {
	r := asked(t, "ask yes", "stopped 0 omit save")
	wantLines(t, r, `
omit: omitted -2358
save: saved 0
omit: reap 0, 5 descriptors
omit: child 1 is T`)
}

func TestStrangerKeys(t *testing.T) {
	for text, good := range map[string]bool{
		"before open": true, "after rstrt-reap@2": true, "at 10ms": true, "at 0s signal TERM": true,
		"before version signal -15 takes 1s scope session": true,
		"": false, "before": false, "before nothing": false, "before open@0": false, "at noon": false,
		"at 1s signal": false, "at 1s scope all": false, "at 1s colour red": false, "sometimes 1s": false,
	} {
		if _, err := ParseScenario(strings.NewReader("stranger " + text)); (err == nil) != good {
			t.Errorf("%q: %v", text, err)
		}
	}
}
