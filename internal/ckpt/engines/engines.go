// Package engines has the lists of engines for the commands, in the order of preference,
// with the capabilities of each. The Engine interface and the choice of an engine
// belong to package ckpt, which knows none of them.
package engines

import (
	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/ckpt/criu"
	"blcr-cli/internal/ckpt/criu/pstree"
	"blcr-cli/internal/ckpt/kernel"
)

// ToSave returns the engines for a command that saves, the preferred one first.
func ToSave() []ckpt.Candidate { return []ckpt.Candidate{kernel.Candidate, criu.Saver()} }

// ToRestore returns the same for a command that restores.
func ToRestore() []ckpt.Candidate { return []ckpt.Candidate{kernel.Candidate, criu.Restorer()} }

// ToForecast returns the same for a command that does neither.
func ToForecast() []ckpt.Candidate { return []ckpt.Candidate{kernel.Candidate, criu.Forecaster()} }

// AwaitDetached returns when no engine holds a thread of this process any more. A
// process that may be a restored copy calls it before it ends.
func AwaitDetached() { pstree.AwaitDetached() }
