//go:build !amd64

// Package selfckpt answers BLCR's checkpoint signal. On this architecture it does
// not: the handler is written in assembly, for amd64 only. The kernel engine
// refuses to work here for the same reason.
package selfckpt

// Errno is ENOSYS: there is no handler.
var Errno uintptr = 38

var state uint32 = None

// Save does nothing.
func Save() {}

// SaveAsIs does nothing.
func SaveAsIs() {}

// Omit does nothing.
func Omit() {}

// Guard fails with ENOSYS.
func Guard(int32, Policy) (errno uintptr) { return Errno }

// State is None.
func State() *uint32 { return &state }

// Hold does nothing.
func Hold() {}

// Adopt does nothing.
func Adopt(int) {}

// Release does nothing.
func Release() {}
