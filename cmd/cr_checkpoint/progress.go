package main

import (
	"fmt"
	"sync"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/cli"
	"blcr-cli/internal/proc"
)

// progress shows the progress of the request on the terminal.
func (w *work) progress(engine ckpt.Engine) *cli.ProgressLine {
	// No engine knows the size of the context in advance. It is estimated only when the
	// line appears, after a second.
	memory := sync.OnceValue(func() int64 { return memoryOf(&w.request) })
	return w.con.Progress(fmt.Sprintf("saving %d", w.request.ID), func() (done, all int64) {
		done, all = engine.Progress()
		if all == 0 {
			all = memory()
		}
		return done, all
	})
}

// memoryOf returns about how many bytes of memory the processes in the scope have.
// Shared memory is counted several times.
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
