// Package engines is the list of engines for all commands, in the order of preference,
// with the capabilities of each. The Engine interface and the choice of an engine
// belong to package ckpt, which knows none of them.
package engines

import (
	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/ckpt/criu"
	"blcr-cli/internal/ckpt/criu/pstree"
	"blcr-cli/internal/ckpt/kernel"
)

// All are the engines, the preferred one first.
var All = []ckpt.Candidate{kernel.Candidate, criu.Candidate}

// AwaitDetached returns when no engine holds a thread of this process any more. A
// process that may be a restored copy calls it before it ends.
func AwaitDetached() { pstree.AwaitDetached() }
