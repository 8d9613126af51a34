//go:build !amd64

// Package selfckpt answers BLCR's checkpoint signal. On this architecture it does
// not: the handler is written in assembly, for amd64 only. The kernel engine
// refuses to work here for the same reason.
package selfckpt

// Errno is ENOSYS: there is no handler.
var Errno uintptr = 38

var state uint32 = NotStarted

// Save does nothing.
func Save() {}

// SaveAsIs does nothing.
func SaveAsIs() {}

// Omit does nothing.
func Omit() {}

// StartCallbackThread fails with ENOSYS.
func StartCallbackThread(int32, Policy) (errno uintptr) { return Errno }

// State is NotStarted.
func State() *uint32 { return &state }

// Hold does nothing.
func Hold() {}

// Adopt does nothing.
func Adopt(int) {}

// Release does nothing.
func Release() {}
