package images

// LockKind is the kind of a file lock (flag of file_lock_entry; criu/include/file-lock.h).
type LockKind uint32

// The kinds.
const (
	LockPOSIX LockKind = 1 // F_SETLK of fcntl(2), of a process
	LockFlock LockKind = 2 // flock(2)
	LockOFD   LockKind = 4 // F_OFD_SETLK of fcntl(2), of an open file
	LockLease LockKind = 8 // F_SETLEASE of fcntl(2)
)

// Fields of file_lock_entry.
const (
	lockFlag  = 1
	lockType  = 2
	lockPID   = 3
	lockFD    = 4
	lockStart = 5
	lockLen   = 6
)

// Lock is an entry of filelocks.img (file_lock_entry in file-lock.proto): a lock that a
// process had on one of its open files.
type Lock struct {
	Kind  LockKind
	Write bool // it excludes all others, and not only those
	PID   int32
	FD    uint32

	// Of LockPOSIX and LockOFD, in bytes. Length is 0 for all up to the end.
	Start, Length int64
}

// Locks reads filelocks.img.
func Locks(filelocks []byte) ([]Lock, error) {
	return all(kindFileLocks, filelocks, func(m message) (Lock, error) {
		const write = 1 // F_WRLCK
		return Lock{
			Kind: LockKind(m.u32(lockFlag)), Write: m.u32(lockType) == write,
			PID: int32(m.u32(lockPID)), FD: m.u32(lockFD), Start: int64(m.u64(lockStart)), Length: int64(m.u64(lockLen)),
		}, m.require(lockFlag, lockType, lockPID, lockFD, lockStart, lockLen)
	})
}
