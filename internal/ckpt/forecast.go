package ckpt

// Forecast is what an engine expects of a checkpoint, from a look that touches nothing.
type Forecast struct {
	// Failures are the reasons for which the checkpoint would fail, each an *Error,
	// that which would be reported first. None: the processes would be saved, as far
	// as can be seen.
	Failures []error

	// PIDs are the processes that would be saved.
	PIDs []int

	// Memory is how much they have in memory that is in no file, in bytes: about the
	// size of the context. 0 if it is not known.
	Memory int64

	// Notes are further lines for the user, about what would be saved and could be
	// other than expected after a restart.
	Notes []string
}
