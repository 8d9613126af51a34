package criu

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/ckpt/criu/attributes"
	"blcr-cli/internal/ckpt/criu/binary"
	"blcr-cli/internal/ckpt/criu/images"
	"blcr-cli/internal/ckpt/criu/savedfiles"
	"blcr-cli/internal/ckpt/criu/tempdir"
	"blcr-cli/internal/proc"
)

// plan is what a restore does otherwise than the images say: criu brings
// everything back as it was, BLCR fits the job in where cr_restart stands.
type plan struct {
	// images are served instead of those of the same name in the context.
	images map[string][]byte
	hidden []string // images that criu is not to find

	// options are criu's, and inherited the descriptors that they number from 3
	// on; owned ones are closed with the plan.
	options   []string
	inherited []int
	owned     []int
	keysInUse []string

	// ended tells which connections are those of the job; nil if it has none. Bound has the addresses of its
	// other TCP sockets. See forgetConnections.
	ended func(local, peer netip.AddrPort) bool
	bound []images.InetAddr

	connectionEnds []connectionEnd // see completeConnections
	ptysTaken      []uint32        // numbers of pseudo terminals that criu could not have

	copies     *savedfiles.Copies
	gone       tempdir.Dir     // see renameGone
	heads      map[string]head // of images that are not served as they are
	attributes attributes.Saved
	policies   bool // of NUMA are set again

	terminal   terminal
	keptGroups map[int32]bool // see jobControl

	// ahead is by how much the job's clocks are ahead of the machine's, if the time
	// namespace for them is not made by criu; else 0.
	ahead images.Clocks

	tasks     []images.Task
	stopped   map[int32]bool // those that were stopped when they were saved
	sid, pgid int32          // cr_restart's, as SessionOptions has them

	descriptors images.Tables // see tables

	moved map[uint32]uint32 // see readMoved: File.ID to 0, 1 or 2
}

// newPlan reads what it needs from the context.
func newPlan(source source, r *ckpt.RestartRequest) (*plan, error) {
	p := &plan{images: make(map[string][]byte), copies: &savedfiles.Copies{}, gone: tempdir.None}
	relocations := r.Relocations
	for _, step := range []func() error{
		func() error { return p.sessions(source, r) },
		func() error { return p.states(source) },
		func() error { return p.threads(source, r) },
		func() error { return p.readAttributes(source) },
		func() error { return p.clocks(source, r) },
		func() (err error) {
			p.copies, relocations, err = savedfiles.Extract(source, relocations)
			return err
		},
		func() error { return p.relocate(source, relocations) },
		func() error { return p.fileOwners(source, r) },
		p.socketOwners,
		func() error { return p.fitMemory(source) },
		func() error { return p.advise(source) },
		func() error { return p.expireTimers(source) },
		func() error { return p.external(source, r) },
		func() error { return p.connections(source) },
	} {
		if err := step(); err != nil {
			p.close()
			return nil, err
		}
	}
	return p, nil
}

// served returns an image as criu will have it, as far as that is known yet; nil if there
// is none.
func (p *plan) served(source source, name string) ([]byte, error) {
	if img := p.images[name]; img != nil || !source.Has(name) {
		return img, nil
	}
	return source.Bytes(name)
}

// sessions puts the processes into cr_restart's session and process group, or
// leaves them in theirs.
func (p *plan) sessions(source source, r *ckpt.RestartRequest) error {
	pstree, err := source.Bytes(images.PstreeName)
	if err != nil {
		return err
	}
	o := images.SessionOptions{RestoreSID: r.RestoreSid, RestorePGID: r.RestorePgid}
	if source.Has(images.TTYInfoName) {
		ttys, err := images.Read(source, images.TTYInfoName, images.TTYs)
		if err != nil {
			return err
		}
		if p.keptGroups, err = jobControl(source, pstree, ttys); err != nil {
			return err
		}
		// A program on a terminal of the job's own, as under script(1), needs it to be
		// interrupted, and to learn that it is closed. BLCR restores no such terminals.
		o.KeepPGIDs, o.KeepSIDs = p.keptGroups, images.TerminalSessions(ttys)
	}
	if p.tasks, err = images.Tasks(pstree); err != nil {
		return err
	}
	if r.RestorePid && !p.container() {
		sid, err := unix.Getsid(0)
		if err != nil {
			return ckpt.SystemError("getsid", "", err)
		}
		o.SID, o.PGID = int32(sid), int32(unix.Getpgrp())
	}
	p.sid, p.pgid = o.SID, o.PGID
	// cr_restart's session has no id where its leader is outside of the pid
	// namespace, as it is of the new one that --no-restore-pid makes. A job in
	// such a session cannot be saved again. So it gets a session of its own,
	// unless that would take its terminal away.
	o.NewSession = o.SID == 0 && !(source.Has(images.TTYInfoName) && hasTerminal())
	p.images[images.PstreeName], p.tasks, err = images.SetSessions(pstree, o)
	if inUse, ok := errors.AsType[*images.InUseError](err); ok {
		return busyError(int(inUse.ID))
	}
	if err == images.ErrSessions {
		return &ckpt.Error{Op: "restart", Object: "session", Errno: unix.EOPNOTSUPP, Detail: []string{
			"a process was started by one that has made a session (setsid(2)) afterwards, or the leader of its session has ended: criu cannot give it its session",
			"restart the job without --restore-sid"}}
	}
	return err
}

// container reports whether the job is a whole pid namespace, whose first process is the
// root. Then criu makes a new one, whatever pids were asked for: in there they are the old
// ones, and outside of it new ones.
func (p *plan) container() bool { return isContainer(p.tasks) }

func isContainer(tasks []images.Task) bool { return tasks[0].PID == 1 }

// clearance is how many numbers criu, what it runs, and threads of this process use at most.
const clearance = 300

// gap returns the first number from last on after which they can have theirs: the job has
// none of the next ones.
func gap(tasks []images.Task, last int) int {
	var used []int
	for _, task := range tasks {
		for _, id := range append(task.Numbers(), task.PGID, task.SID) {
			used = append(used, int(id))
		}
	}
	slices.Sort(used)
	for _, id := range used {
		if id > last && id <= last+clearance {
			last = id
		}
	}
	return last
}

// inContainer reports whether a process is the first one of a pid namespace.
func inContainer(pid int) bool {
	inner, err := proc.InnerPids(pid)
	return err == nil && len(inner) > 1 && inner[len(inner)-1] == 1
}

// states notes which processes were stopped. Criu stops them by the signal that had stopped
// them. In an orphaned process group the kernel ignores those of a terminal, so there it is
// SIGSTOP.
func (p *plan) states(source source) error {
	p.stopped = make(map[int32]bool)
	attended := p.attended()
	for _, task := range p.tasks {
		name := images.Name("core", task.PID)
		core, err := images.Read(source, name, images.ReadCore)
		if err != nil {
			return err
		}
		p.stopped[task.PID] = core.State == images.StateStopped
		if p.stopped[task.PID] && !attended[task.PGID] {
			if p.images[name], err = images.Read(source, name, images.StopBySIGSTOP); err != nil {
				return err
			}
		}
	}
	return nil
}

// stoppedPIDs returns the processes that were stopped, not nil.
func (p *plan) stoppedPIDs() []int {
	pids := []int{}
	for pid, stopped := range p.stopped {
		if stopped {
			pids = append(pids, int(pid))
		}
	}
	return pids
}

// attended returns the process groups of the job that are not orphaned: a member has a parent
// that can continue it, in the same session and in another group.
func (p *plan) attended() map[int32]bool {
	groups := map[int32]bool{p.pgid: attended()}
	parents := make(map[int32]images.Task)
	for _, task := range p.tasks {
		parent, ok := parents[task.PPID]
		if !ok { // the root
			parent = images.Task{SID: p.sid, PGID: p.pgid}
		}
		if parent.SID == task.SID && parent.PGID != task.PGID {
			groups[task.PGID] = true
		}
		parents[task.PID] = task
	}
	return groups
}

// attended reports whether the process group of cr_restart is not orphaned, as far as its
// ancestors tell.
func attended() bool {
	own, err := proc.Read(os.Getpid())
	for p := own; err == nil && p.Sid == own.Sid; p, err = proc.Read(p.PPid) {
		if p.Pgid != own.Pgid {
			return true
		}
	}
	return false
}

// relocate changes the names of files.
func (p *plan) relocate(source source, relocations []ckpt.Relocation) error {
	files, err := namedFiles(source)
	if err != nil {
		return err
	}
	files, err = images.Relocate(files, func(name string) string { return ckpt.Relocate(name, relocations) })
	if err != nil {
		return err
	}
	// As with BLCR a file may have grown, or be another; but not one that is
	// executed or mapped.
	mapped, err := p.mapped(source)
	if err != nil {
		return err
	}
	if files, err = images.DropValidation(files, func(f images.File) bool { return !mapped[f.ID] }); err == nil {
		p.images[images.FilesName], err = p.renameGone(source, files)
	}
	return err
}

// fileOwners changes which process or group gets the signals of a file (F_SETOWN), after
// relocate. A group is that which the processes of the job are in now. What is not of the
// job and has ended gets none, as the kernel has it.
func (p *plan) fileOwners(source source, r *ckpt.RestartRequest) error {
	saved, err := images.Read(source, images.PstreeName, images.Tasks)
	if err != nil {
		return err
	}
	outside := r.RestorePid && !p.container()
	p.images[images.FilesName], err = images.MapOwners(p.images[images.FilesName], func(kind images.OwnerKind, id int32) int32 {
		for i, task := range saved {
			switch {
			case kind == images.OwnerGroup && task.PGID == id:
				return p.tasks[i].PGID
			case kind != images.OwnerGroup && (task.PID == id || slices.Contains(task.Threads, id)):
				return id
			}
		}
		pid := int(id)
		if kind == images.OwnerGroup {
			pid = -pid
		}
		if !outside || unix.Kill(pid, 0) == unix.ESRCH {
			return 0
		}
		return id
	})
	return err
}

// socketOwners has a user's restart not give UNIX sockets whose names were removed to anybody.
func (p *plan) socketOwners() (err error) {
	if binary.Unprivileged() {
		p.images[images.FilesName], err = images.DropLostOwners(p.images[images.FilesName])
	}
	return err
}

// namedFiles returns files.img with the names of files on mounts of another namespace.
func namedFiles(source source) ([]byte, error) {
	files, err := source.Bytes(images.FilesName)
	if err != nil || !source.Has(images.ElsewhereName) {
		return files, err
	}
	names, err := images.Read(source, images.ElsewhereName, func(b []byte) (map[string]string, error) {
		return images.ParseElsewhere(b), nil
	})
	if err != nil {
		return nil, err
	}
	return images.NameExternal(files, names)
}

// mapped returns the files that processes have in memory, by images.File.ID.
func (p *plan) mapped(source source) (map[uint32]bool, error) {
	mapped := make(map[uint32]bool)
	for _, task := range p.tasks {
		name := images.Name("mm", task.PID)
		if !source.Has(name) { // it has ended
			continue
		}
		memory, err := images.Read(source, name, images.TaskMemory)
		if err != nil {
			return nil, err
		}
		for _, id := range append(memory.Mapped, memory.Exe) {
			mapped[id] = true
		}
	}
	return mapped, nil
}

// patience is how long processes that have ended may take to be gone.
const patience = 3 * time.Second

// pidsFree tells whether the processes can have their numbers. One that has
// ended has its number until its parent has taken notice; since a restart often
// follows the end of the original at once, that is waited for. So is the end of a
// cr_checkpoint that had its own tree saved and ended: it outlives the root for the
// moment in which its worker, which was not saved, finishes.
func (p *plan) pidsFree(ctx context.Context) error {
	deadline := time.Now().Add(patience)
	for _, task := range p.tasks {
		for _, id := range task.Numbers() {
			for taken(int(id)) {
				if err := interrupted(ctx, "restart"); err != nil {
					return err
				}
				if !leaving(int(id)) || time.Now().After(deadline) {
					return busyError(int(id))
				}
				time.Sleep(5 * time.Millisecond)
			}
		}
	}
	return nil
}

// busyThread returns the number of a thread that is in use; if none is, one that may just
// have been. From Linux 6.16 on that of a thread that has ended cannot be had for a moment
// in which nothing shows it any more, not even its process.
func (p *plan) busyThread() (id int) {
	for _, task := range p.tasks {
		for _, tid := range task.Threads {
			if id = int(tid); tid != task.PID && taken(id) {
				return id
			}
		}
	}
	return id
}

// leaving tells whether a process or thread has ended or is sure to end soon.
func leaving(id int) bool {
	p, err := proc.Read(id)
	return err != nil || p.Dead() || p.Comm == "cr_checkpoint"
}

// taken tells whether a number is in use, by a process, a thread, or what has
// ended and not been waited for. Of groups and sessions without leader criu
// itself will tell.
func taken(id int) bool {
	_, err := proc.Leader(id)
	return err == nil || unix.Kill(id, 0) != unix.ESRCH
}

// close gives back what was opened for the restore.
func (p *plan) close() {
	for _, fd := range p.owned {
		unix.Close(fd)
	}
	p.owned = nil
	p.copies.Remove()
	p.gone.Remove()
}
