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

// Task is a process of pstree.img. An id that was outside the pid namespace of
// the dump is 0.
type Task struct {
	PID     int32
	PPID    int32 // 0: the root, whose parent was not saved
	PGID    int32
	SID     int32
	Threads []int32 // thread ids, the leader's (PID) first
}

// Tasks reads pstree.img. The first task is the root, and parents come before
// their children.
func Tasks(pstree []byte) ([]Task, error) {
	var tasks []Task
	known := make(map[int32]bool)
	err := kindPstree.each(pstree, func(m message) error {
		t, err := parseTask(m)
		if err != nil {
			return err
		}
		switch {
		case known[t.PID]:
			return malformed("process %d is there twice", t.PID)
		case (t.PPID == 0) != (len(tasks) == 0):
			return malformed("process %d has parent %d: not one root, and it first", t.PID, t.PPID)
		case t.PPID != 0 && !known[t.PPID]:
			return malformed("process %d comes before its parent %d", t.PID, t.PPID)
		}
		known[t.PID] = true
		tasks = append(tasks, t)
		return nil
	})
	if err != nil {
		return nil, err
	}
	if len(tasks) == 0 {
		return nil, fmt.Errorf("pstree: %w", malformed("no processes"))
	}
	return tasks, nil
}

// parseTask reads an entry of pstree.img.
func parseTask(m message) (Task, error) {
	if err := m.require(pstreePID, pstreePPID, pstreePGID, pstreeSID); err != nil {
		return Task{}, err
	}
	threads, err := m.numbers(pstreeThreads)
	if err != nil {
		return Task{}, err
	}
	if len(threads) > 0 {
		// The leader's, which criu leaves to chance for one that has ended.
		threads[0] = m.u64(pstreePID)
	}
	ids := append([]uint64{m.u64(pstreePID), m.u64(pstreePPID), m.u64(pstreePGID), m.u64(pstreeSID)}, threads...)
	for i, id := range ids {
		if id > 1<<30 || id == 0 && (i == 0 || i > 3) {
			return Task{}, malformed("%d is no process id", id)
		}
	}
	t := Task{PID: int32(ids[0]), PPID: int32(ids[1]), PGID: int32(ids[2]), SID: int32(ids[3])}
	for _, id := range threads {
		t.Threads = append(t.Threads, int32(id))
	}
	return t, nil
}

// Adoption says what becomes of the saved sessions and process groups.
//
// SID and PGID are cr_restart's own as criu sees them, which has to be in the
// same session and group: 0 and 0 where criu runs in a new pid namespace.
type Adoption struct {
	SID      int32
	PGID     int32
	KeepSID  bool // --restore-sid
	KeepPGID bool // --restore-pgid

	// Lead makes the root the leader of a session and a group of its own,
	// which takes the place of SID and PGID.
	Lead bool
}

// Adopted is what AdoptTasks could do.
type Adopted struct {
	// Tasks as they will be.
	Tasks []Task

	// MissingGroups and MissingSessions are ids that are kept although their
	// leader is not in the tree. criu lets a helper process with that pid make
	// the group or session and end; if the pid is in use the restore fails with
	// "File exists". A missing session can only be made if it is that of
	// children of the root; others are refused ("Can't find a session leader").
	MissingGroups   []int32
	MissingSessions []int32
}

// ErrInUse is AdoptTasks' answer if a task's number is that of cr_restart's own
// session or group, so that it cannot be free.
var ErrInUse = errors.New("process id in use")

// AdoptTasks changes pstree.img so that the tasks come up in cr_restart's
// session and group, or in their own, as a says. It writes the numbers that
// criu really has: then criu has nothing to migrate and needs no --shell-job,
// which would override a kept group of the root.
//
// Without KeepSID every task joins the session, as with BLCR; a session leader
// becomes an ordinary member (see ReleaseTTYs for its terminal). With it, tasks
// of the root's session join nevertheless if its leader is not among them:
// nobody could make that session.
//
// Without KeepPGID every task of that session joins the group. Tasks in a
// session of their own always keep their groups, since no group spans sessions.
func AdoptTasks(pstree []byte, a Adoption) ([]byte, Adopted, error) {
	tasks, err := Tasks(pstree)
	if err != nil {
		return nil, Adopted{}, err
	}
	leads := make(map[int32]bool) // sessions whose leader is in the tree
	for _, t := range tasks {
		leads[t.SID] = leads[t.SID] || t.SID == t.PID
	}
	root := tasks[0]
	if a.Lead {
		a.SID, a.PGID = root.PID, root.PID
	}
	for i, t := range tasks {
		join := !a.KeepSID || t.SID == 0 || t.SID == root.SID && !leads[t.SID]
		if join {
			tasks[i].SID = a.SID
		}
		if join && !a.KeepPGID || t.PGID == 0 {
			tasks[i].PGID = a.PGID
		}
	}
	done := Adopted{Tasks: tasks}
	if err := a.check(&done); err != nil {
		return nil, Adopted{}, fmt.Errorf("pstree: %w", err)
	}
	i := -1
	out, _, err := kindPstree.rewrite(pstree, func(m message) (message, verdict, error) {
		i++
		t := tasks[i]
		if m.u64(pstreePGID) == uint64(t.PGID) && m.u64(pstreeSID) == uint64(t.SID) {
			return m, keep, nil
		}
		m = m.put(numberField(pstreePGID, uint64(t.PGID)))
		return m.put(numberField(pstreeSID, uint64(t.SID))), replace, nil
	})
	return out, done, err
}

// check looks for numbers that are taken, and for leaders that are not there.
func (a Adoption) check(done *Adopted) error {
	if a.Lead {
		// The one number is the root's, as it has to be.
		a.SID, a.PGID = 0, 0
	}
	taken := make(map[int32]bool)
	pids := make(map[int32]bool)
	for _, t := range done.Tasks {
		pids[t.PID] = true
		taken[t.PID] = true
		for _, id := range t.Threads {
			taken[id] = true
		}
	}
	for _, t := range done.Tasks {
		for _, id := range []int32{t.SID, t.PGID} {
			// A living session or group pins its number; and criu aborts where
			// such a number is that of a thread.
			if taken[id] && (id == a.SID || id == a.PGID || !pids[id]) {
				return fmt.Errorf("%w: %d", ErrInUse, id)
			}
		}
		if t.SID != a.SID && !pids[t.SID] && !slices.Contains(done.MissingSessions, t.SID) {
			done.MissingSessions = append(done.MissingSessions, t.SID)
		}
		if t.PGID != a.PGID && !pids[t.PGID] && !slices.Contains(done.MissingGroups, t.PGID) {
			done.MissingGroups = append(done.MissingGroups, t.PGID)
		}
	}
	return nil
}
