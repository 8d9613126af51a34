package main

import (
	"fmt"
	"sync"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/cli"
	"blcr-cli/internal/proc"
)

// progress shows how far the engine has come with the request.
func (w *work) progress(engine ckpt.Engine) *cli.ProgressLine {
	// What there will be no engine knows before. It is looked for when somebody
	// has waited for a second.
	memory := sync.OnceValue(func() int64 { return memoryOf(&w.request) })
	return w.con.Progress(fmt.Sprintf("saving %d", w.request.ID), func() (done, all int64) {
		done, all = engine.Progress()
		if all == 0 {
			all = memory()
		}
		return done, all
	})
}

// memoryOf is how many bytes the processes that are to be saved have in memory,
// about: more than one may have the same.
func memoryOf(r *ckpt.CheckpointRequest) int64 {
	id := int(r.ID)
	if r.Scope == ckpt.ScopeProcess {
		return proc.Memory(id)
	}
	table, err := proc.All()
	if err != nil {
		return 0
	}
	var pids []int
	if r.Scope == ckpt.ScopeTree {
		pids = table.Tree(id)
	}
	for pid, p := range table {
		if r.Scope == ckpt.ScopeGroup && p.Pgid == id || r.Scope == ckpt.ScopeSession && p.Sid == id {
			pids = append(pids, pid)
		}
	}
	sum := int64(0)
	for _, pid := range pids {
		sum += proc.Memory(pid)
	}
	return sum
}
