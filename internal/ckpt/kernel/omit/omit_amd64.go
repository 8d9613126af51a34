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

// save is read by the handler, and by nobody here.
//
//lint:ignore U1000 see omit_amd64.s
var save uint32

// Save changes the answer to "save me too", for the rest of the process's life.
// It is for a process that can be saved: one that waits and holds no descriptor
// but those that it inherited. When it is, every signal that had a handler gets
// its default action back, but for 64.
func Save() { save = 1 }

// install sets the disposition of signal 64. It returns an errno, 0 for none.
func install() uintptr

// Errno is why the handler could not be installed, 0 when it is in place.
var Errno = install()
