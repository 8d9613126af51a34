package ckpt

import (
	"errors"
	"fmt"
	"slices"
	"syscall"
	"testing"
)

// fake is an engine that does nothing but have a name.
type fake struct {
	Engine
	name string
}

// opens is a candidate that opens, fails one that fails.
func opens(name string) Candidate {
	return Candidate{name, func() (Engine, error) { return fake{name: name}, nil }}
}

func fails(name string, err error) Candidate {
	return Candidate{name, func() (Engine, error) { return nil, err }}
}

func missing(detail ...string) *Error {
	return &Error{Op: "open", Object: "/proc/checkpoint/ctrl", Errno: syscall.ENOSYS, Detail: detail}
}

func TestChoose(t *testing.T) {
	version := &Error{Op: "ioctl CR_OP_VERSION", Errno: EVersion}
	foreign := errors.New("not one of ours")
	for _, c := range []struct {
		what       string
		name       string // CR_ENGINE
		candidates []Candidate
		chosen     string
		errno      syscall.Errno // of an error, 0 for foreign
		detail     []string
	}{
		{
			what:       "the preferred one",
			candidates: []Candidate{opens("kernel"), fails("criu", foreign)},
			chosen:     "kernel",
		},
		{
			what:       "the next where the module is missing",
			candidates: []Candidate{fails("kernel", missing()), opens("criu")},
			chosen:     "criu",
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
			errno:      EVersion,
		},
		{
			what:       "no other for an error that nobody knows",
			candidates: []Candidate{fails("kernel", foreign), opens("criu")},
		},
		{
			what:       "forced",
			name:       "criu",
			candidates: []Candidate{opens("kernel"), opens("criu")},
			chosen:     "criu",
		},
		{
			what:       "forced and missing, though another is there",
			name:       "kernel",
			candidates: []Candidate{fails("kernel", missing("a")), opens("criu")},
			errno:      syscall.ENOSYS,
			detail:     []string{"a"},
		},
		{
			what:       "forced and failing",
			name:       "kernel",
			candidates: []Candidate{fails("kernel", version), opens("criu")},
			errno:      EVersion,
		},
		{
			what:       "unknown",
			name:       "Kernel",
			candidates: []Candidate{opens("kernel"), opens("criu")},
			errno:      syscall.ENOSYS,
			detail:     []string{"CR_ENGINE names 'Kernel', which is no engine of this program"},
		},
		{
			what:  "nothing to choose from",
			errno: syscall.ENOSYS,
		},
	} {
		t.Run(c.what, func(t *testing.T) {
			engine, name, err := Choose(c.name, c.candidates)
			if c.chosen != "" {
				if f, ok := engine.(fake); err != nil || !ok || f.name != c.chosen || name != c.chosen {
					t.Errorf("%v, %s, %v; want %s", engine, name, err, c.chosen)
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

// TestChooseOpensOnce pins that no engine is opened for nothing: it may hold
// descriptors.
func TestChooseOpensOnce(t *testing.T) {
	var opened []string
	counted := func(c Candidate) Candidate {
		return Candidate{c.Name, func() (Engine, error) {
			opened = append(opened, c.Name)
			return c.Open()
		}}
	}
	candidates := []Candidate{counted(fails("a", missing())), counted(opens("b")), counted(opens("c"))}
	for name, want := range map[string][]string{"": {"a", "b"}, "c": {"c"}, "d": nil} {
		opened = nil
		Choose(name, candidates)
		if !slices.Equal(opened, want) {
			t.Errorf("CR_ENGINE=%s opened %q, want %q", name, opened, want)
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

// TestScopes pins the values of enum cr_scope.
func TestScopes(t *testing.T) {
	if got := []Scope{ScopeProcess, ScopeGroup, ScopeSession, ScopeTree}; !slices.Equal(got, []Scope{0, 1, 2, 3}) {
		t.Errorf("scopes %v", got)
	}
	if MaxRelocations != 16 {
		t.Errorf("MaxRelocations = %d", MaxRelocations)
	}
}
