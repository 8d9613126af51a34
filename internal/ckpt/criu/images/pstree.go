package images

import (
	"errors"
	"fmt"
	"slices"
)

// Fields of pstree_entry.
const (
	pstreePID     = 1
	pstreePPID    = 2
	pstreePGID    = 3
	pstreeSID     = 4
	pstreeThreads = 5
)

// Task is a process of pstree.img (pstree_entry in pstree.proto). All ids are
// those of the pid namespace that the processes were saved from.
type Task struct {
	PID     int32
	PPID    int32   // 0 of the root, whose parent was not saved
	PGID    int32   // 0 if the leader was outside of the pid namespace
	SID     int32   // the same
	Threads []int32 // thread ids; the leader's, which is PID, first
}

// Numbers returns those of the process and its threads, each once.
func (t Task) Numbers() []int32 { return slices.Compact(append([]int32{t.PID}, t.Threads...)) }

// Tasks reads pstree.img. The first task is the root, and parents come before
// their children; an image in another order is malformed, as it is to criu.
func Tasks(pstree []byte) ([]Task, error) {
	known := make(map[int32]bool)
	tasks, err := all(kindPstree, pstree, func(m message) (Task, error) {
		t, err := parseTask(m)
		switch root := len(known) == 0; {
		case err != nil:
		case known[t.PID]:
			err = malformed("process %d is there twice", t.PID)
		case (t.PPID == 0) != root:
			err = malformed("process %d has parent %d: not one root, and it first", t.PID, t.PPID)
		case !root && !known[t.PPID]:
			err = malformed("process %d comes before its parent %d", t.PID, t.PPID)
		}
		known[t.PID] = true
		return t, err
	})
	if err == nil && len(tasks) == 0 {
		err = fmt.Errorf("pstree: %w", malformed("no processes"))
	}
	return tasks, err
}

// parseTask reads a pstree_entry.
func parseTask(m message) (Task, error) {
	if err := m.require(pstreePID, pstreePPID, pstreePGID, pstreeSID); err != nil {
		return Task{}, err
	}
	threads, err := m.repeated(pstreeThreads)
	if err != nil {
		return Task{}, err
	}
	if len(threads) > 0 {
		// criu does not set the leader's id for a process that has ended.
		threads[0] = m.u64(pstreePID)
	}
	ids := append([]uint64{m.u64(pstreePID), m.u64(pstreePPID), m.u64(pstreePGID), m.u64(pstreeSID)}, threads...)
	for i, id := range ids {
		mayBeZero := i >= 1 && i <= 3 // all but PID and the threads
		if id > 1<<30 || id == 0 && !mayBeZero {
			return Task{}, malformed("%d is no process id", id)
		}
	}
	t := Task{PID: int32(ids[0]), PPID: int32(ids[1]), PGID: int32(ids[2]), SID: int32(ids[3])}
	for _, id := range threads {
		t.Threads = append(t.Threads, int32(id))
	}
	return t, nil
}

// SessionOptions says in which session and process groups the tasks are restored.
type SessionOptions struct {
	// SID and PGID are cr_restart's own session and group as criu sees them,
	// which has to be in the same: 0 and 0 where criu runs in a new pid
	// namespace.
	SID, PGID int32

	RestoreSID  bool // --restore-sid
	RestorePGID bool // --restore-pgid

	// KeepSIDs are sessions that are restored without RestoreSID, too, with those of all
	// descendants of their leaders, if the leaders were saved and criu can restore that.
	KeepSIDs map[int32]bool

	// KeepPGIDs are process groups that are restored without RestorePGID, too.
	KeepPGIDs map[int32]bool

	// NewSession makes the root the leader of a session and a group of its own,
	// which take the place of SID and PGID.
	NewSession bool
}

// InUseError is the error of SetSessions for a task or thread whose id cannot be
// free, because it is that of cr_restart's own session or group.
type InUseError struct{ ID int32 }

func (e *InUseError) Error() string { return fmt.Sprintf("process id %d is in use", e.ID) }

// ErrSessions is the error of SetSessions for sessions of their own that criu cannot restore.
var ErrSessions = errors.New("criu cannot restore the sessions")

// SetSessions changes pstree.img so that the tasks are restored in cr_restart's
// session and group, or in their own, and returns the image and its tasks. It
// writes the ids that criu really has: then criu has nothing to migrate and needs
// no --shell-job, which would override a group of the root that is kept.
//
// Without RestoreSID every task joins the session, as with BLCR, but for those in
// KeepSIDs; a session leader becomes an ordinary member (see DropControllingTTYs for its
// terminal). With it, tasks of the root's session join nevertheless if its leader was not
// saved: then no process could make that session.
//
// Without RestorePGID every task of that session joins the group, but for those
// in KeepPGIDs. Tasks in a session of their own always keep their groups, since no
// group spans sessions.
//
// The error is an *InUseError, ErrSessions, or wraps ErrMalformed.
func SetSessions(pstree []byte, o SessionOptions) ([]byte, []Task, error) {
	tasks, err := Tasks(pstree)
	if err != nil {
		return nil, nil, err
	}
	if o.NewSession {
		o.SID, o.PGID = tasks[0].PID, tasks[0].PID
	}
	saved := slices.Clone(tasks)
	o.assign(tasks)
	if !restorable(tasks) {
		if o.RestoreSID {
			return nil, nil, ErrSessions
		}
		o.KeepSIDs = nil
		copy(tasks, saved)
		o.assign(tasks)
	}
	if err := o.check(tasks); err != nil {
		return nil, nil, err
	}
	out, err := kindPstree.rewrite(pstree, func(i int, m message) (message, error) {
		m = m.put(intField(pstreePGID, uint64(tasks[i].PGID)))
		return m.put(intField(pstreeSID, uint64(tasks[i].SID))), nil
	})
	return out, tasks, err
}

// assign gives the tasks their sessions and groups.
func (o SessionOptions) assign(tasks []Task) {
	leads := sessionLeaders(tasks)
	root := tasks[0].SID
	below := make(map[int32]bool) // tasks in kept sessions, and their descendants
	for i, t := range tasks {
		keep := leads[t.SID] && (o.KeepSIDs[t.SID] || below[t.PPID])
		below[t.PID] = keep || below[t.PPID]
		join := !o.RestoreSID && !keep || t.SID == 0 || t.SID == root && !leads[t.SID]
		if join {
			tasks[i].SID = o.SID
		}
		if join && !o.RestorePGID && !o.KeepPGIDs[t.PGID] || t.PGID == 0 {
			tasks[i].PGID = o.PGID
		}
	}
}

// restorable reports whether criu can give the tasks their sessions (prepare_pstree_ids). A
// task is in its own, in its parent's, or in that of an ancestor, if those in between were
// born there. Children of the root may be in any, by help of a process that ends.
func restorable(tasks []Task) bool {
	known, born := make(map[int32]Task), make(map[int32]int32)
	for _, t := range tasks {
		known[t.PID] = t
		parent := known[t.PPID]
		if t.PPID == 0 || t.PPID == tasks[0].PID || t.SID == t.PID || t.SID == parent.SID {
			continue
		}
		for parent.PID != t.SID {
			if sid := born[parent.PID]; sid != 0 && sid != t.SID || parent.PPID == 0 {
				return false
			}
			born[parent.PID] = t.SID
			parent = known[parent.PPID]
		}
		if parent.SID != t.SID {
			return false
		}
	}
	return true
}

// sessionLeaders returns the sessions whose leader is among tasks.
func sessionLeaders(tasks []Task) map[int32]bool {
	leads := make(map[int32]bool)
	for _, t := range tasks {
		if t.SID == t.PID {
			leads[t.SID] = true
		}
	}
	return leads
}

// check looks for ids that cannot be free.
func (o SessionOptions) check(tasks []Task) error {
	if o.NewSession {
		// That the session's id is the root's is intended.
		o.SID, o.PGID = 0, 0
	}
	pids := make(map[int32]bool)
	taken := make(map[int32]bool)
	for _, t := range tasks {
		pids[t.PID], taken[t.PID] = true, true
		for _, id := range t.Threads {
			taken[id] = true
		}
	}
	for _, t := range tasks {
		for _, id := range []int32{t.SID, t.PGID} {
			// A living session or group pins its id; and criu aborts where such
			// an id is that of a thread.
			if taken[id] && (id == o.SID || id == o.PGID || !pids[id]) {
				return &InUseError{id}
			}
		}
	}
	return nil
}
