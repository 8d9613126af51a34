// Package selfckpt is what this process answers when BLCR's module asks it, by
// signal 64, to take part in a checkpoint: "save me too", or "go on without me".
//
// The Go runtime installs a handler of its own for that signal and drops it,
// and the module would wait for the answer for ever. So importing this package
// installs one in assembly, which needs neither a goroutine nor a Go stack.
// The package imports nothing and its path sorts before the standard
// library's, which makes it the first that the runtime initialises.
//
// That handler has one answer for all. Who has to look at the request first, or
// to let it wait, starts a guard: a thread that the Go runtime does not know,
// written in assembly as well. The module asks it before the others and asks
// those only when it has answered, so that it can wait for the end of something
// without stopping the thread that is in it.
//
// Nothing else in the program may touch signal 64: not os/signal, not
// sigaction.
//
// Mirrors: libcr's cri_omit_sig_handler and thread_main, the functions my_cb of
// cr_checkpoint and cr_restart; "Being checkpointed oneself" in BLCR's kernel
// interface.
package selfckpt

// What a thread that is not the guard answers.
const (
	leaveOut = iota // go on without me
	saveBare        // save me, with the dispositions of a plain program
	saveAsIs        // save me
)

//lint:file-ignore U1000 reply_amd64.s reads what nobody reads here

// These are for the assembly, and some of them for nobody else.
var (
	answer uint32 // of threads other than the guard
	policy Policy // the guard's
	fd     int32  // its descriptor
	state  uint32 // what has become of it; a futex
	busy   uint32 // 1: requests are held; a futex
	job    uint32 // cr_restart's, 0 for none
)

// limit is a struct timespec, how long the guard holds a request under
// CheckpointPolicy: two cr_checkpoints each of which is in the scope of the
// other's request would wait for each other for ever.
var limit = [2]int64{30, 0}

// stack is the guard's. The frame of a signal holds all vector registers, 11 KiB
// where there is AMX.
var stack [32 << 10]byte

// Save changes the answer to "save me too", for the rest of the process's life.
// It is for a process that can be saved: one that waits and holds no descriptor
// but those that it inherited. When it is, every signal that had a handler gets
// its default action back, but for 64.
func Save() { answer = saveBare }

// SaveAsIs is Save for a process that needs its handlers afterwards. Omit undoes
// it.
func SaveAsIs() { answer = saveAsIs }

// Omit changes the answer back to "go on without me".
func Omit() { answer = leaveOut }

// Guard starts the guard. The descriptor is one of the control file, on which the
// version has been agreed upon, that nobody else uses or closes. It returns an
// errno if there can be no thread; what becomes of it otherwise, State tells. To
// be called once.
func Guard(descriptor int32, p Policy) (errno uintptr) {
	fd, policy = descriptor, p
	state = Starting
	if errno = start(); errno != 0 {
		state = Gone
	}
	return errno
}

// State is where the guard's state is, a futex that is woken when it is no longer
// Starting.
func State() *uint32 { return &state }

// Hold holds requests from now on: the guard leaves them without an answer. What
// has got past it already, or does not have to pass it, as in a child of ours, is
// answered with "go on without me".
func Hold() {
	busy = 1
	answer = leaveOut
}

// Adopt says which process the job is, to be called before Release.
func Adopt(pid int) { job = uint32(pid) }

// Release has the guard answer what was held, and from now on at once.
func Release() {
	if state == Guarding {
		// Where the guard has said "without me" this means the same.
		answer = saveAsIs
	}
	busy = 0
	wake(&busy)
}

// install sets the disposition of signal 64. It returns an errno, 0 for none.
func install() uintptr

// start makes the guard's thread. It returns an errno, 0 for none.
func start() uintptr

// wake wakes all who wait for a futex.
//
//go:noescape
func wake(futex *uint32)

// Errno is why the handler could not be installed, 0 when it is in place.
var Errno = install()
