package selfckpt

// The tests' view of what only the assembly reads.

// Stack is the guard's. A handler that runs on it is the guard's.
func Stack() []byte { return stack[:] }

// Set makes the guard's handler find a state of things.
func Set(p Policy, held bool, pid int) {
	policy, job = p, uint32(pid)
	if held {
		Hold()
	} else {
		busy = 0
	}
}

// SetLimit sets how long a request is held under CheckpointPolicy.
func SetLimit(sec, nsec int64) { limit = [2]int64{sec, nsec} }

// Answer is what threads other than the guard answer.
func Answer() uint32 { return answer }

// Answers.
const (
	LeaveOut = leaveOut
	SaveBare = saveBare
	AsIs     = saveAsIs
)
