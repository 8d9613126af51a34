package ckpt

import (
	"errors"
	"fmt"
	"slices"
	"syscall"
	"testing"
)

// fake is an engine that only has a name.
type fake struct {
	Engine
	name string
}

// opens returns a candidate that can be opened, fails one that cannot. The machine has
// those that do not fail with ENOSYS.
func opens(name string) Candidate {
	return Candidate{Name: name, Open: func() (Engine, error) { return fake{name: name}, nil }}
}

func fails(name string, err error) Candidate {
	return Candidate{Name: name, Open: func() (Engine, error) { return nil, err },
		Present: func() bool { return !errors.Is(err, syscall.ENOSYS) }}
}

func missing(detail ...string) *Error {
	return &Error{Op: "open", Object: "/proc/checkpoint/ctrl", Errno: syscall.ENOSYS, Detail: detail}
}

func TestChoice(t *testing.T) {
	version := &Error{Op: "ioctl CR_OP_VERSION", Errno: EVersion}
	foreign := errors.New("not one of ours")
	for _, c := range []struct {
		what       string
		forced     string // CR_ENGINE
		candidates []Candidate
		context    string // the engine that recognizes the context
		expected   string
		chosen     string
		errno      syscall.Errno // of an error, 0 for foreign
		detail     []string
	}{
		{
			what:       "the preferred one",
			candidates: []Candidate{opens("kernel"), fails("criu", foreign)},
			expected:   "kernel", chosen: "kernel",
		},
		{
			what:       "the next where the module is missing",
			candidates: []Candidate{fails("kernel", missing()), opens("criu")},
			expected:   "criu", chosen: "criu",
		},
		{
			what:       "none where all are missing, with what each says",
			candidates: []Candidate{fails("kernel", missing("a", "b")), fails("criu", missing("c"))},
			errno:      syscall.ENOSYS,
			detail:     []string{"a", "b", "c"},
		},
		{
			what:       "no other for one that is there and does not work",
			candidates: []Candidate{fails("kernel", version), opens("criu")},
			expected:   "kernel",
			errno:      EVersion,
		},
		{
			what:       "no other for an error of another kind",
			candidates: []Candidate{fails("kernel", foreign), opens("criu")},
			expected:   "kernel",
		},
		{
			what:       "forced",
			forced:     "criu",
			candidates: []Candidate{opens("kernel"), opens("criu")},
			expected:   "criu", chosen: "criu",
		},
		{
			what:       "forced and missing, though another is there",
			forced:     "kernel",
			candidates: []Candidate{fails("kernel", missing("a")), opens("criu")},
			expected:   "kernel",
			errno:      syscall.ENOSYS,
			detail:     []string{"a"},
		},
		{
			what:       "forced and failing",
			forced:     "kernel",
			candidates: []Candidate{fails("kernel", version), opens("criu")},
			expected:   "kernel",
			errno:      EVersion,
		},
		{
			what:       "unknown",
			forced:     "Kernel",
			candidates: []Candidate{opens("kernel"), opens("criu")},
			expected:   "Kernel",
			errno:      syscall.ENOSYS,
			detail:     []string{"CR_ENGINE names 'Kernel', which is no engine of this program"},
		},
		{
			what:  "nothing to choose from",
			errno: syscall.ENOSYS,
		},
		{
			what:       "the one that wrote the context",
			candidates: []Candidate{opens("kernel"), opens("criu")},
			context:    "criu",
			expected:   "criu", chosen: "criu",
		},
		{
			what:       "the one that wrote the context, and is missing",
			candidates: []Candidate{fails("kernel", missing("a")), opens("criu")},
			context:    "kernel",
			expected:   "kernel",
			errno:      syscall.ENOSYS,
			detail:     []string{"the context needs kernel", "a"},
		},
		{
			what:       "the one that wrote the context, and does not work",
			candidates: []Candidate{fails("kernel", version), opens("criu")},
			context:    "kernel",
			expected:   "kernel",
			errno:      EVersion,
			detail:     []string{"the context needs kernel"},
		},
		{
			what:       "forced, though another one wrote the context",
			forced:     "kernel",
			candidates: []Candidate{opens("kernel"), opens("criu")},
			context:    "criu",
			expected:   "kernel", chosen: "kernel",
		},
	} {
		t.Run(c.what, func(t *testing.T) {
			for i := range c.candidates {
				name := c.candidates[i].Name
				c.candidates[i].Recognizes = func(int) bool { return name == c.context }
				c.candidates[i].Missing = "the context needs " + name
			}
			choice := NewChoice(c.forced, c.candidates)
			choice.Require(0)
			if got := choice.Expected().Name; got != c.expected {
				t.Errorf("%s is expected, want %s", got, c.expected)
			}
			engine, err := choice.Open()
			if c.chosen != "" {
				if f, ok := engine.(fake); err != nil || !ok || f.name != c.chosen || choice.Expected().Name != c.chosen {
					t.Errorf("%v, %s, %v; want %s", engine, choice.Expected().Name, err, c.chosen)
				}
				return
			}
			if engine != nil || err == nil {
				t.Fatalf("%v, %v; want an error", engine, err)
			}
			if c.errno == 0 {
				if err != foreign {
					t.Errorf("error %v, want %v", err, foreign)
				}
				return
			}
			e, ok := err.(*Error)
			if !ok {
				t.Fatalf("error %T, want *Error", err)
			}
			if e.Errno != c.errno || !slices.Equal(e.Detail, c.detail) {
				t.Errorf("errno %d, details %q; want %d, %q", int(e.Errno), e.Detail, int(c.errno), c.detail)
			}
		})
	}
}

// TestChoiceOpensOnce: no engine is opened without need, since it may hold descriptors.
func TestChoiceOpensOnce(t *testing.T) {
	for forced, want := range map[string][]string{"": {"a", "b"}, "c": {"c"}, "d": nil} {
		var opened []string
		counted := func(c Candidate) Candidate {
			open := c.Open
			c.Open = func() (Engine, error) {
				opened = append(opened, c.Name)
				return open()
			}
			return c
		}
		choice := NewChoice(forced, []Candidate{counted(fails("a", missing())), counted(opens("b")), counted(opens("c"))})
		choice.Expected()
		if opened != nil {
			t.Errorf("CR_ENGINE=%s: Expected has opened %q", forced, opened)
		}
		_, _ = choice.Open()
		if !slices.Equal(opened, want) {
			t.Errorf("CR_ENGINE=%s opened %q, want %q", forced, opened, want)
		}
	}
}

// TestChoiceIncludes: only the expected engine is asked, which may look at other
// processes for that.
func TestChoiceIncludes(t *testing.T) {
	for _, c := range []struct {
		included, present bool
		want              bool
		asked             bool
	}{
		{false, false, false, true},
		{false, true, false, false},
		{true, false, true, true},
		{true, true, false, false}, // the module leaves its requester out
	} {
		asked := false
		choice := NewChoice("", []Candidate{
			{Name: "kernel", Present: func() bool { return c.present }},
			{Name: "criu", Includes: func(*CheckpointRequest) bool { asked = true; return c.included }},
		})
		if got := choice.Includes(&CheckpointRequest{}); got != c.want || asked != c.asked {
			t.Errorf("%+v: %v, asked %v", c, got, asked)
		}
	}
}

// TestAt: only the step of an error is replaced, and the original is not changed.
func TestAt(t *testing.T) {
	e := &Error{Op: "poll", Errno: syscall.EBADF, Detail: []string{"a"}}
	at := At(StepWait, fmt.Errorf("more: %w", e))
	if StepOf(at) != StepWait || StepOf(e) != StepOutcome || ErrnoOf(at) != syscall.EBADF || at.(*Error).Detail[0] != "a" {
		t.Errorf("%#v of %#v", at, e)
	}
	if at := At(StepIssue, syscall.EINTR); StepOf(at) != StepIssue || ErrnoOf(at) != syscall.EINTR {
		t.Errorf("%#v", at)
	}
	if At(StepIssue, nil) != nil {
		t.Error("an error out of none")
	}
}

// TestRunsOn: the effect of signals on processes.
func TestRunsOn(t *testing.T) {
	for signal, want := range map[syscall.Signal][2]bool{ // runs on, ends
		0: {true, false}, syscall.SIGCONT: {true, false}, syscall.SIGCHLD: {true, false},
		syscall.SIGSTOP: {false, false}, syscall.SIGTSTP: {false, false},
		syscall.SIGTERM: {false, true}, syscall.SIGKILL: {false, true}, syscall.SIGUSR1: {false, true}, 40: {false, true},
	} {
		if got := [2]bool{RunsOn(int32(signal)), Ends(int32(signal))}; got != want {
			t.Errorf("signal %d: %v, want %v", int(signal), got, want)
		}
	}
}

func TestError(t *testing.T) {
	for _, c := range []struct {
		err  *Error
		want string
	}{
		{&Error{Op: "fork", Errno: syscall.EAGAIN}, "fork: Resource temporarily unavailable"},
		{&Error{Op: "open", Object: "/proc/checkpoint/ctrl", Errno: syscall.ENOENT}, "open /proc/checkpoint/ctrl: No such file or directory"},
		{&Error{Op: "ioctl", Errno: EBadArch}, "ioctl: Context file does not match the kernel architecture"},
	} {
		if got := c.err.Error(); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
		if wrapped := fmt.Errorf("more: %w", c.err); !errors.Is(wrapped, c.err.Errno) {
			t.Errorf("%v is not %v", wrapped, c.err.Errno)
		}
	}
}

// TestScopes: the values of enum cr_scope.
func TestScopes(t *testing.T) {
	if got := []Scope{ScopeProcess, ScopeGroup, ScopeSession, ScopeTree}; !slices.Equal(got, []Scope{0, 1, 2, 3}) {
		t.Errorf("scopes %v", got)
	}
	if MaxRelocations != 16 {
		t.Errorf("MaxRelocations = %d", MaxRelocations)
	}
}
