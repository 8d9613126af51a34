package ckpt

// Forecast is what an engine expects of a checkpoint or a restart, from a look that
// touches nothing.
type Forecast struct {
	// Failures are the reasons for which the request would fail, each an *Error, first
	// that which would be reported first. None: it would succeed, as far as can be seen.
	Failures []error

	// PIDs are the processes that would be saved or restored.
	PIDs []int

	// Memory is how much they have in memory that is in no file, in bytes: about the
	// size of the context. 0 if it is not known.
	Memory int64

	// Notes are further lines for the user, about what could be other than expected
	// after a restart.
	Notes []string
}
