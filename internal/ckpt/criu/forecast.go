package criu

import (
	"context"
	"fmt"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/ckpt/criu/explain"
	"blcr-cli/internal/ckpt/criu/pstree"
	"blcr-cli/internal/hints"
	"blcr-cli/internal/proc"
)

// Forecast implements ckpt.Engine: what Capture refuses before it starts criu, and what
// criu itself would, as far as that can be seen.
func (e *engine) Forecast(ctx context.Context, r *ckpt.CheckpointRequest) *ckpt.Forecast {
	f := &ckpt.Forecast{}
	if r.FD >= 0 {
		if err := unwritable(r); err != nil {
			f.Failures = append(f.Failures, err)
		}
	}
	tree, errs := pstree.ResolveAll(ctx, r)
	f.Failures = append(f.Failures, errs...)
	if tree == nil {
		return f
	}
	defer tree.Close()
	f.PIDs, f.Memory = tree.PIDs, tree.Memory()
	f.Failures = append(f.Failures, explain.Foresee(tree.PIDs)...)
	if !landlock() {
		return f
	}
	for _, pid := range tree.PIDs {
		// Landlock demands that of processes without privileges. It has few other uses
		// without a filter of system calls.
		if noNewPrivileges, filtered := proc.Confined(pid); noNewPrivileges && !filtered {
			f.Notes = append(f.Notes, fmt.Sprintf("%s has set no_new_privs: if it has confined itself by Landlock, which cannot be seen, it is not confined after a restart", hints.Process(pid)))
		}
	}
	return f
}

// landlock reports whether this kernel has Landlock.
func landlock() bool {
	const version = 1 // LANDLOCK_CREATE_RULESET_VERSION
	_, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, version)
	return errno == 0
}
