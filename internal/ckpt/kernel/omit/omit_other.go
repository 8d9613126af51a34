//go:build !amd64

// Package omit answers BLCR's checkpoint signal. On this architecture it does
// not: the handler is written in assembly, for amd64 only. The kernel engine
// refuses to work here for the same reason.
package omit

// Errno is ENOSYS: there is no handler.
var Errno uintptr = 38

// Save does nothing.
func Save() {}
