// Package omit keeps this process out of other people's checkpoints, and from
// hanging them: it answers signal 64, by which BLCR's module asks a process to
// save itself, with "go on without me".
//
// The Go runtime installs a handler of its own for that signal and drops it,
// and the module would wait for the answer for ever. So importing this package
// installs one in assembly, which needs neither a goroutine nor a Go stack.
// The package imports nothing and its path sorts before the standard
// library's, which makes it the first that the runtime initialises.
//
// Nothing else in the program may touch signal 64: not os/signal, not
// sigaction.
//
// Mirrors: libcr's cri_omit_sig_handler; "Being checkpointed oneself" in BLCR's
// kernel interface.
package omit

// install sets the disposition of signal 64. It returns an errno, 0 for none.
func install() uintptr

// Errno is why the handler could not be installed, 0 when it is in place.
var Errno = install()
