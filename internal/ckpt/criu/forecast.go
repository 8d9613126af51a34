package criu

import (
	"context"
	"fmt"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/ckpt/criu/explain"
	"blcr-cli/internal/ckpt/criu/landlock"
	"blcr-cli/internal/ckpt/criu/pstree"
	"blcr-cli/internal/hints"
	"blcr-cli/internal/proc"
)

// forecastSave is Forecast: what Capture refuses before it starts criu, and what criu itself
// would, as far as that can be seen.
func (e *engine) forecastSave(ctx context.Context, r *ckpt.CheckpointRequest) *ckpt.Forecast {
	f := &ckpt.Forecast{}
	if r.FD >= 0 {
		if err := unwritable(r); err != nil {
			f.Failures = append(f.Failures, err)
		}
	}
	if err := threadsLacking(); err != nil {
		f.Failures = append(f.Failures, err)
	}
	tree, errs := pstree.ResolveAll(ctx, r)
	f.Failures = append(f.Failures, errs...)
	if tree == nil {
		return f
	}
	defer tree.Close()
	f.PIDs, f.Memory = tree.PIDs, tree.Memory()
	f.Failures = append(f.Failures, explain.Foresee(tree.PIDs, e.criu.Path)...)
	if !landlock.Kernel() {
		return f
	}
	for _, pid := range tree.PIDs {
		// Landlock demands that of processes without privileges. It has few other uses
		// without a filter of system calls.
		if noNewPrivileges, filtered := proc.Confined(pid); noNewPrivileges && !filtered {
			f.Notes = append(f.Notes, fmt.Sprintf("%s has set no_new_privs: if it has confined itself by Landlock, which only the checkpoint itself may find out, it is refused then, or is not confined after a restart", hints.Process(pid)))
		}
	}
	return f
}
