// Package engines is the engines that there are, in one place for all commands:
// their names and their order. What an engine is, and how one is chosen, belongs
// to package ckpt, which knows none of them.
package engines

import (
	"os"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/ckpt/criu"
	"blcr-cli/internal/ckpt/kernel"
)

// The names by which CR_ENGINE asks for one.
const (
	Kernel = "kernel"
	Criu   = "criu"
)

// All are the engines, the preferred one first.
var All = []ckpt.Candidate{
	{Name: Kernel, Open: kernel.Open},
	{Name: Criu, Open: criu.Open},
}

// Expected is the name of the engine that is going to be used, without a look at
// whether it works; what CR_ENGINE says even where that is no engine.
func Expected() string {
	if forced := os.Getenv("CR_ENGINE"); forced != "" {
		return forced
	}
	if kernel.Present() {
		return Kernel
	}
	return Criu
}

// Compresses tells whether that engine can compress contexts. BLCR's module
// writes them itself.
func Compresses() bool { return Expected() == Criu }

// TakeDirs tells whether that engine writes and reads directories, which BLCR's
// module cannot.
func TakeDirs() bool { return Expected() == Criu }
