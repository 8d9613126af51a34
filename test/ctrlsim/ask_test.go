//go:build linux && amd64

package ctrlsim

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// What those who are asked see of the module: section 6 of the notes on its
// interface, from cr_chkpt_req.c, cr_dump_self.c and cr_async.c.

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
		// Who has no handler counts as saved here. The descriptor that it was
		// given is closed again.
		{"once 0 omit save none", `
omit: omitted -2358
save: saved 0
omit: reap 0, 7 descriptors`},
		// The signal is for all that are saved.
		{"once 15 omit save omit none", `
omit: omitted -2358
omit: omitted -2358
save: saved 0
omit: reap 0, 7 descriptors
omit: child 1: signal 15
omit: child 3: signal 15`},
		// The requester is saved itself. The module unblocks the signal. Each
		// thread has to answer.
		{"once 0 save blocked threads", `
save: saved 0
blocked: saved 0
threads: saved 0
threads: saved 0
threads: saved 0
threads: saved 0
save: reap 0, 7 descriptors`},
		// ESRCH: nobody was checkpointed.
		{"once 0 omit omit", `
omit: omitted -2358
omit: omitted -2358
omit: reap -3, 7 descriptors`},
		{"once 0 omit half", `
omit: omitted -2358
half: -2358
half: -2358
omit: reap -3, 7 descriptors`},
		{"once 10 omit info", `
omit: omitted -2358
info: info 0
info: requester ours target ours scope 3 signal 10 /context
info: phase 1 -11
info: saved 0
omit: reap 0, 7 descriptors
omit: child 1: signal 10`},
		{"process 0 fwd save", `
fwd: to nobody -3
fwd: forwarded 0
fwd: again 0
fwd: omitted -2358
save: saved 0
fwd: reap 0, 7 descriptors`},
		// Nobody is in two requests at a time.
		{"twice 0 omit slow", `
omit: outside -3 -3
omit: omitted -2358
omit: second -16
slow: saved 0
omit: first 0`},
	} {
		t.Run(test.words, func(t *testing.T) {
			t.Parallel()
			r := asked(t, "ask yes", test.words)
			r.out = strings.ReplaceAll(r.out, "info: outside -9 -9\n", "") // if the signal lets it
			wantLines(t, r, test.want)
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
G: again -17
G: guard
G: main
G: RESULT
G: RESULT
omit: reap 0, 7 descriptors`, "G:", "guard-"+how+":")
			r.out = strings.ReplaceAll(r.out, "guard-"+how+": woken 0\n", "") // if it is not too late
			wantLines(t, r, strings.ReplaceAll(want, "RESULT", result))
			if strings.Index(r.out, ": guard\n") > strings.Index(r.out, ": main\n") {
				t.Errorf("phase 2 came first:\n%s", r.out)
			}
		})
	}
}

// Who is saved goes on after a restart without those children that were not.
func TestRestarted(t *testing.T) {
	r := asked(t, "restarted yes", "restarted 15 omit parent")
	wantLines(t, r, `
omit: omitted -2358
parent: saved 1
parent: no child, ECHILD
omit: reap 0, 7 descriptors
omit: child 1: exit 0`)
	if text := r.TranscriptText(); !strings.Contains(text, "\nHAND_CHKPT 0x4000 = 1 (asked)\n") || !strings.Contains(text, "\nCHKPT_REAP = 0\n") {
		t.Error(text)
	}
}
