package criu

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/ckpt/criu/cpu"
	"blcr-cli/internal/ckpt/criu/images"
)

// TestDemands: a processor that lacks something, pids that there are not, and programs
// that are not there are all found before anything is made.
func TestDemands(t *testing.T) {
	here := cpu.Here()
	c := example(t)
	request := &ckpt.RestartRequest{RestorePid: true}
	r := &restart{request: request, source: c, plan: makePlan(t, c, request)}
	errs := func() (all []string) {
		f := &foresight{Forecast: &ckpt.Forecast{}, source: c, plan: r.plan, request: request}
		for _, step := range []func() error{f.processor, f.numbers} {
			if err := step(); err != nil {
				t.Fatal(err)
			}
		}
		for _, err := range f.Failures {
			if ckpt.ErrnoOf(err) != syscall.EOPNOTSUPP {
				t.Errorf("%v", err)
			}
			all = append(all, ckpt.DetailOf(err)...)
		}
		return all
	}
	if got := errs(); got != nil { // of an earlier version
		t.Errorf("%q", got)
	}
	c[images.ProcessorName] = here.Text()
	if got := errs(); got != nil {
		t.Errorf("%q", got)
	}
	if len(here.Names) > 0 {
		more := cpu.Features{Names: slices.Concat(here.Names, []string{"later", "much_later"}), Registers: here.Registers}
		c[images.ProcessorName] = more.Text()
		if got := errs(); len(got) != 2 || !strings.HasSuffix(got[0], ": later, much_later") || !strings.Contains(got[1], "--cpu-any") {
			t.Errorf("%q", got)
		}
		request.AnyCPU = true
		if got := errs(); got != nil {
			t.Errorf("%q", got)
		}
		request.AnyCPU = false
		c[images.ProcessorName] = cpu.Features{Names: []string{here.Names[0]}, Registers: 1}.Text()
		if got := errs(); here.Registers > 0 && (len(got) != 2 || !strings.Contains(got[0], "room for 1")) {
			t.Errorf("%q", got)
		}
	}
	delete(c, images.ProcessorName)
	r.plan.tasks[0].Threads = append(r.plan.tasks[0].Threads, 1<<30)
	if got := errs(); len(got) != 2 || !strings.Contains(got[0], "1073741824") || !strings.Contains(got[1], "kernel.pid_max=1073741825") {
		t.Errorf("%q", got)
	}
	// All together; the program of the example is of another machine.
	err := r.demands()
	text := strings.Join(ckpt.DetailOf(err), "\n")
	for _, part := range []string{"1073741824", "cr_restart --relocate"} {
		if !strings.Contains(text, part) {
			t.Errorf("%v: %q has no %q", err, text, part)
		}
	}
}

// TestLimits: a limit in force that cannot be restored is an obstacle, named, and a hard
// limit alone is a note.
func TestLimits(t *testing.T) {
	c := example(t)
	request := &ckpt.RestartRequest{RestorePid: true}
	p := makePlan(t, c, request)
	saved, err := images.Limits(c[images.Name("core", p.tasks[0].PID)])
	if err != nil || len(saved) != len(limitNames) {
		t.Fatalf("%+v, %v", saved, err)
	}
	stack := saved[unix.RLIMIT_STACK]
	for _, test := range []struct {
		highest  uint64 // of the stack
		any      bool
		failures []string
		notes    int
	}{
		{stack.Hard, false, nil, 0},
		{1 << 40, false, nil, 1},
		{stack.Soft, false, nil, 1},
		{stack.Soft - 1, false, []string{fmt.Sprintf("stack was %d and can be %d", stack.Soft, stack.Soft-1), "--limits-any"}, 0},
		{stack.Soft - 1, true, nil, 0},
	} {
		highest := slices.Repeat([]uint64{noLimit}, len(limitNames))
		highest[unix.RLIMIT_STACK] = test.highest
		request.AnyLimits = test.any
		f := &foresight{Forecast: &ckpt.Forecast{}, source: c, plan: p, request: request}
		if err := f.limitsAbove(highest); err != nil {
			t.Fatal(err)
		}
		var details string
		for _, err := range f.Failures {
			if ckpt.ErrnoOf(err) != syscall.EPERM {
				t.Errorf("%v", err)
			}
			details += strings.Join(ckpt.DetailOf(err), "\n")
		}
		if (details == "") != (test.failures == nil) || len(f.Notes) != test.notes {
			t.Errorf("%+v: %q, notes %q", test, details, f.Notes)
		}
		for _, part := range test.failures {
			if !strings.Contains(details, part) {
				t.Errorf("%+v: %q", test, details)
			}
		}
		lowered, err := images.SetThread(c[images.Name("core", p.tasks[0].PID)], images.ThreadOptions{Limits: highest})
		if err != nil {
			t.Fatal(err)
		}
		want := slices.Clone(saved)
		want[unix.RLIMIT_STACK] = images.Limit{Soft: min(stack.Soft, test.highest), Hard: min(stack.Hard, test.highest)}
		if got, err := images.Limits(lowered); err != nil || !slices.Equal(got, want) {
			t.Errorf("%+v: %+v, %v", test, got, err)
		}
	}
}
