package kernel

import (
	"context"
	"fmt"
	"os"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/ckpt/kernel/abi"
	"blcr-cli/internal/hints"
	"blcr-cli/internal/proc"
)

// Forecast implements ckpt.Engine by what /proc shows: whether there are processes in
// the scope, whether the caller may save them, and whether they have a handler for the
// module's signal. All else only the module knows.
func (e *Engine) Forecast(_ context.Context, r *ckpt.CheckpointRequest) *ckpt.Forecast {
	f := &ckpt.Forecast{Notes: []string{"BLCR's module alone knows what else it cannot save"}}
	table, err := proc.All()
	if err != nil {
		f.Failures = []error{ckpt.SystemError("read", "/proc", err)}
		return f
	}
	f.PIDs = inScope(table, r)
	if len(f.PIDs) == 0 {
		f.Failures = []error{&ckpt.Error{Op: "checkpoint", Object: "processes", Errno: syscall.ESRCH}}
		return f
	}
	for _, pid := range f.PIDs {
		f.Memory += proc.Memory(pid)
		switch {
		case table[pid].Kernel || unix.Kill(pid, 0) == unix.EPERM:
			f.Failures = append(f.Failures, refusal(syscall.EPERM, "%s may not be saved by %s", hints.Process(pid), hints.User(os.Geteuid())))
		case !proc.Catches(pid, abi.Sig):
			f.Failures = append(f.Failures, refusal(ckpt.ENoSupport, "%s has no handler for BLCR's signal %d: start it by cr_run", hints.Process(pid), abi.Sig))
		}
	}
	return f
}

func refusal(errno syscall.Errno, format string, args ...any) error {
	return &ckpt.Error{Op: "checkpoint", Object: "processes", Errno: errno, Detail: []string{fmt.Sprintf(format, args...)}}
}

// inScope returns the processes that a request means, without this one, which
// leaves itself out.
func inScope(table proc.Table, r *ckpt.CheckpointRequest) []int {
	id := int(r.ID)
	own := table[os.Getpid()]
	var pids []int
	switch r.Scope {
	case ckpt.ScopeProcess, ckpt.ScopeTree:
		pid, err := proc.Leader(id)
		if err != nil {
			return nil
		}
		if pids = table.Tree(pid); r.Scope == ckpt.ScopeProcess {
			pids = pids[:min(len(pids), 1)]
		}
	default:
		number := func(p *proc.Process) int { return p.Pgid }
		if r.Scope == ckpt.ScopeSession {
			number = func(p *proc.Process) int { return p.Sid }
		}
		if id == 0 && own != nil {
			id = number(own)
		}
		for pid, p := range table {
			if number(p) == id {
				pids = append(pids, pid)
			}
		}
		slices.Sort(pids)
	}
	return slices.DeleteFunc(pids, func(pid int) bool { return table[pid].Dead() || pid == os.Getpid() })
}
