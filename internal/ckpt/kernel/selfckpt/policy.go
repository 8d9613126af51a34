package selfckpt

// Policy is what a guard answers.
type Policy uint32

// The policies. A request of somebody else's waits in any case while it is held.
const (
	// CheckpointPolicy is cr_checkpoint's: what this process has asked for is
	// saved without it, and at once, since it waits for that; from anything
	// else it is saved with. It is not held longer than Limit says.
	CheckpointPolicy Policy = iota

	// The others are cr_restart's. A request is passed on to the job
	// (CR_OP_CHKPT_FWD) and this process left out of it: if it is the one that
	// was named, or an orphan; in any case; in no case. While there is no job
	// it is saved.
	OmitMaybe
	OmitAlways
	OmitNever
)

// What has become of the guard, see State.
const (
	None = iota
	Starting
	Guarding // the module knows it
	Gone     // the module does not want it
)
