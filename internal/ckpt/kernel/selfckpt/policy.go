package selfckpt

// Policy says how the callback thread answers a request.
type Policy uint32

// The policies. Under each of them a request by another process waits while
// requests are held (Hold).
const (
	// CheckpointPolicy is cr_checkpoint's. This process is omitted from the
	// request that it has issued itself, at once, since it waits for that
	// request. In any other request it is saved. A request is held no longer
	// than limit.
	CheckpointPolicy Policy = iota

	// The others are cr_restart's. A request is forwarded to the job
	// (CR_OP_CHKPT_FWD). This process is then omitted from it: if it is the
	// target of the request or an orphan; always; never. While there is no job
	// this process is saved.
	OmitMaybe
	OmitAlways
	OmitNever
)

// The states of the callback thread, see State.
const (
	NotStarted = iota
	Starting
	Registered // with the module, by CR_OP_HAND_PHASE1
	Ended      // the module has refused or dismissed it
)
