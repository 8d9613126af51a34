package getopttest

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"

	"blcr-cli/internal/cli/getopt"
)

var table = getopt.Table{
	{ID: 1, Short: 'v', Long: []string{"verbose"}},
	{ID: 2, Long: []string{"version"}},
	{ID: 3, Short: 'f', Long: []string{"file"}, Arg: getopt.RequiredArgument},
	{ID: 4, Long: []string{"backup"}, Arg: getopt.OptionalArgument},
}

// The comparison must find a difference if there is one.
func TestCompareFindsDifferences(t *testing.T) {
	if differences := compare(t, table, table, 1000, 1); len(differences) != 0 {
		t.Errorf("the same table: %q", differences)
	}
	for name, change := range map[string]func(getopt.Table){
		"option":         func(t getopt.Table) { t[1].ID = 5 },
		"argument":       func(t getopt.Table) { t[3].Arg = getopt.NoArgument },
		"short name":     func(t getopt.Table) { t[2].Short = 'F' },
		"long name":      func(t getopt.Table) { t[1].Long = []string{"versions"} },
		"not ambiguous":  func(t getopt.Table) { t[1].ID = 1 },
		"one name fewer": func(t getopt.Table) { t[1].Long = nil; t[1].Short = 'x' },
	} {
		changed := slices.Clone(table)
		change(changed)
		differences := compare(t, table, changed, 1000, 1)
		if len(differences) == 0 {
			t.Errorf("%s: no difference found", name)
			continue
		}
		for _, want := range []string{"seed 1, line ", "  glibc ", "  getopt "} {
			if !strings.Contains(differences[0], want) {
				t.Errorf("%s: no %q in %s", name, want, differences[0])
			}
		}
	}
}

func TestLinesAreRepeatable(t *testing.T) {
	collect := func(seed int64) string {
		var s strings.Builder
		for l := range newGenerator(table, seed).lines(20000) {
			fmt.Fprintln(&s, l.number, l.flags, l)
			if len(l.args) > 255 || slices.ContainsFunc(l.args, func(arg string) bool { return strings.Contains(arg, "\x00") }) {
				t.Fatalf("cannot be passed on: %v", l)
			}
		}
		return s.String()
	}
	first := collect(1)
	if collect(1) != first {
		t.Error("one seed, two results")
	}
	if collect(2) == first {
		t.Error("two seeds, one result")
	}
}

func TestLines(t *testing.T) {
	t.Setenv("GETOPT_LINES", "77")
	if n := Lines(t); n != 77 {
		t.Errorf("%d", n)
	}
	for _, s := range []string{"", "0", "-1", "1e6"} {
		t.Setenv("GETOPT_LINES", s)
		if got := outcome(t, func(t testing.TB) { Lines(t) }); !strings.HasPrefix(got, "failed: ") {
			t.Errorf("GETOPT_LINES=%q: %s", s, got)
		}
	}
}

func TestWithoutCompiler(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	for ci, want := range map[string]string{"true": "failed: ", "": "skipped: "} {
		t.Setenv("CI", ci)
		got := outcome(t, func(t testing.TB) { AgainstGlibc(t, table, 1, 1) })
		if !strings.HasPrefix(got, want) || !strings.Contains(got, "not in PATH: cc") {
			t.Errorf("CI=%q: %s", ci, got)
		}
	}
}

func TestBadTable(t *testing.T) {
	bad := getopt.Table{{ID: 1, Short: '?'}}
	if got := outcome(t, func(t testing.TB) { AgainstGlibc(t, bad, 1, 1) }); !strings.HasPrefix(got, "failed: ") {
		t.Error(got)
	}
}

// outcome runs f as a separate test, which may end early.
func outcome(t *testing.T, f func(testing.TB)) string {
	inner := &recorder{TB: t, outcome: "passed"}
	done := make(chan struct{})
	go func() {
		defer close(done)
		f(inner)
	}()
	<-done
	return inner.outcome
}

type recorder struct {
	testing.TB
	outcome string
}

func (r *recorder) Helper() {}

func (r *recorder) Fatal(args ...any) { r.end("failed: " + fmt.Sprint(args...)) }

func (r *recorder) Fatalf(format string, args ...any) {
	r.end("failed: " + fmt.Sprintf(format, args...))
}

func (r *recorder) Skipf(format string, args ...any) {
	r.end("skipped: " + fmt.Sprintf(format, args...))
}

func (r *recorder) end(outcome string) {
	r.outcome = outcome
	runtime.Goexit()
}
