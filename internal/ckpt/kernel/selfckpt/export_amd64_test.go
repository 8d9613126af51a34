package selfckpt

// For the tests: what only the assembly reads.

// Stack is the callback thread's. The handler takes a thread with this stack for
// the callback thread.
func Stack() []byte { return stack[:] }

// Set sets the state that the callback thread's handler finds.
func Set(p Policy, hold bool, pid int) {
	policy, job = p, uint32(pid)
	if hold {
		Hold()
	} else {
		held = 0
	}
}

// SetLimit sets how long a request is held under CheckpointPolicy.
func SetLimit(sec, nsec int64) { limit = [2]int64{sec, nsec} }

// Answer is the answer of phase 2.
func Answer() uint32 { return answer }

// ChildStackSize is the size of the stack whose end is ChildStack.
const ChildStackSize = uint64(len(childStack))

// Answers.
const (
	SaveDefaults  = saveDefaults
	SaveUnchanged = saveAsIs
)
