// Package engines is the list of engines, in one place for all commands: in their
// order, with what each can do. What an engine is, and how one is chosen, belongs
// to package ckpt, which knows none of them.
package engines

import (
	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/ckpt/criu"
	"blcr-cli/internal/ckpt/criu/pstree"
	"blcr-cli/internal/ckpt/kernel"
)

// All are the engines, the preferred one first.
var All = []ckpt.Candidate{kernel.Candidate, criu.Candidate}

// AwaitDetached returns when no engine holds a thread of this process any more. It
// is for a process that may have been restored a moment ago and ends now.
func AwaitDetached() { pstree.AwaitDetached() }
