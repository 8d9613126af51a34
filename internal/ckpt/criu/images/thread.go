package images

// CgroupName is the image of the control groups that tasks were in, where these
// were not all those of criu itself.
const CgroupName = "cgroup.img"

// ThreadOptions says what of a thread is not restored.
type ThreadOptions struct {
	// NoCgroups is for a restore without CgroupName: the thread stays in the
	// control groups of criu.
	NoCgroups bool

	// Dropped are capabilities, as bits, that no process of the restore has in
	// its bounding set. criu would drop those that the thread did not have
	// either, which takes CAP_SETPCAP even for a capability that is dropped
	// already.
	Dropped uint64

	// Missing are capabilities, as bits, that the restore does not have itself and cannot
	// give to the thread.
	Missing uint64

	// Own, if it is not nil, is for a restore without CAP_SETPCAP: the thread keeps what
	// of the bounding set and the securebits of the restore it has, and inherits no
	// capability that the restore does not.
	Own *OwnCredentials

	// Groups, if it is not nil, are the supplementary groups that the thread gets
	// instead of its own. An ordinary user cannot have others than those that it
	// has already.
	Groups []uint32

	// Limits are the highest limits that a process gets, by the numbers of getrlimit(2).
	Limits []uint64
}

// OwnCredentials are those of the process that restores.
type OwnCredentials struct {
	Inheritable uint64 // capabilities, as bits
	Securebits  uint32 // as of capabilities(7)
}

// Fields of core_entry, task_core_entry, thread_core_entry and creds_entry.
const (
	coreTask   = 3
	coreThread = 5

	taskCgroups = 9
	taskStop    = 21

	threadNice    = 3
	threadPolicy  = 4
	threadCreds   = 10
	threadCgroups = 16

	credsInheritable = 9
	credsPermitted   = 10
	credsEffective   = 11
	credsBounding    = 12
	credsSecurebits  = 13
	credsGroups      = 14
	credsNoNewPrivs  = 18
	credsAmbient     = 19
)

// SetThread changes core-TID.img.
func SetThread(core []byte, o ThreadOptions) ([]byte, error) {
	return kindCore.rewrite(core, func(_ int, m message) (message, error) {
		m, err := m.change(coreThread, func(thread message) (message, error) {
			if o.NoCgroups {
				thread = thread.without(threadCgroups, threadCgroups)
			}
			return thread.change(threadCreds, func(creds message) (message, error) {
				for _, set := range []uint32{credsInheritable, credsPermitted, credsEffective, credsAmbient} {
					var err error
					if creds, err = creds.capabilities(set, 0, ^o.Missing); err != nil {
						return nil, err
					}
				}
				if o.Groups != nil {
					creds = creds.without(credsGroups, credsGroups)
					for _, gid := range o.Groups {
						creds = append(creds, intField(credsGroups, uint64(gid)))
					}
				}
				if o.Own == nil {
					return creds.capabilities(credsBounding, o.Dropped, ^uint64(0))
				}
				creds = creds.put(intField(credsSecurebits, uint64(o.Own.Securebits)))
				creds, err := creds.capabilities(credsInheritable, 0, o.Own.Inheritable)
				if err != nil {
					return nil, err
				}
				return creds.capabilities(credsBounding, ^uint64(0), ^uint64(0))
			})
		})
		if err != nil {
			return nil, err
		}
		return m.change(coreTask, func(task message) (message, error) {
			if o.NoCgroups {
				// Older versions of criu have them here.
				task = task.without(taskCgroups, taskCgroups)
			}
			return task.lower(o.Limits)
		})
	})
}

// StopBySIGSTOP changes core-TID.img so that criu stops the process by SIGSTOP, whatever had
// stopped it.
func StopBySIGSTOP(core []byte) ([]byte, error) {
	return kindCore.rewrite(core, func(_ int, m message) (message, error) {
		return m.change(coreTask, func(task message) (message, error) { return task.without(taskStop, taskStop), nil })
	})
}

// Rights are what of a thread only root may set, as a rule.
type Rights struct {
	Groups                           []uint64 // supplementary
	Inheritable, Permitted, Bounding uint64   // capabilities, as bits
	Securebits                       uint32
	NoNewPrivs                       bool // it has set this by prctl(2)
	Nice                             int32
	Policy                           uint32 // of sched_setscheduler(2)
}

// ReadRights reads them from core-TID.img. Of what had ended there are none.
func ReadRights(core []byte) (r Rights, err error) {
	m, err := kindCore.only(core)
	if err != nil {
		return r, err
	}
	thread, err := m.sub(coreThread)
	if err != nil {
		return r, err
	}
	creds, err := thread.sub(threadCreds)
	if err != nil {
		return r, err
	}
	nice := thread.u32(threadNice)
	r.Nice, r.Policy = int32(nice>>1)^-int32(nice&1), thread.u32(threadPolicy)
	r.Securebits, r.NoNewPrivs = creds.u32(credsSecurebits), creds.u32(credsNoNewPrivs) != 0
	if r.Groups, err = creds.repeated(credsGroups); err != nil {
		return r, err
	}
	for set, bits := range map[uint32]*uint64{credsInheritable: &r.Inheritable, credsPermitted: &r.Permitted, credsBounding: &r.Bounding} {
		words, err := creds.repeated(set)
		if err != nil {
			return r, err
		}
		for i, w := range words[:min(len(words), 2)] {
			*bits |= w << (32 * i)
		}
	}
	return r, nil
}

// capabilities adds some to a set of a creds_entry, and leaves no others than those of
// most in it.
func (m message) capabilities(set uint32, more, most uint64) (message, error) {
	words, err := m.repeated(set)
	if err != nil || more == 0 && most == ^uint64(0) || len(words) == 0 {
		return m, err
	}
	m = m.without(set, set)
	for i, w := range words {
		if i < 2 {
			w = (w | uint64(uint32(more>>(32*i)))) & uint64(uint32(most>>(32*i)))
		}
		m = append(m, intField(set, w))
	}
	return m, nil
}

// change replaces a message in the message by what f makes of it. Where there is
// none, nothing is changed.
func (m message) change(num uint32, f func(message) (message, error)) (message, error) {
	sub, err := m.sub(num)
	if err != nil || sub == nil {
		return m, err
	}
	if sub, err = f(sub); err != nil {
		return nil, err
	}
	return m.put(bytesField(num, sub.append(nil))), nil
}
