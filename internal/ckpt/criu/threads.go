package criu

import (
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/ckpt/criu/attributes"
	"blcr-cli/internal/ckpt/criu/images"
	"blcr-cli/internal/proc"
)

// As with BLCR a job is restored in the control groups of its cr_restart, and in
// their namespace, and with no capability that is not in the bounding set of
// cr_restart. Without CAP_SETPCAP, as for an ordinary user, the job has exactly the
// bounding set and the securebits of cr_restart. Criu would do more than that: with the
// image of the control groups it starts a process to move threads, which it then ends by
// SIGTERM, which all of its processes ignore here; and it drops capabilities that are
// dropped already, for which an ordinary user has no permission. Of limits see limits.go.

// threads changes the images of threads accordingly.
func (p *plan) threads(source source, r *ckpt.RestartRequest) error {
	o := images.ThreadOptions{NoCgroups: source.Has(images.CgroupName), Dropped: dropped(), Missing: missing(), Groups: groups(), Own: ownCredentials()}
	if r.AnyLimits || !proc.Capable(unix.CAP_SYS_RESOURCE) {
		o.Limits = highestLimits()
	}
	if !o.NoCgroups && o.Dropped == 0 && o.Own == nil && o.Groups == nil && o.Limits == nil {
		return nil
	}
	p.hidden = append(p.hidden, images.CgroupName)
	for _, task := range p.tasks {
		for _, id := range task.Threads {
			name := images.Name("core", id)
			img, err := p.served(source, name)
			if err == nil && img != nil { // it has not ended
				p.images[name], err = images.SetThread(img, o)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// dropped returns the capabilities that are not in the bounding set of this
// process, of those that the kernel has.
func dropped() uint64 {
	_, bits := bounding()
	return bits
}

// missing returns the capabilities that criu, started by this process as root, does not have.
// Those that can be inherited it has even where they are not in the bounding set.
func missing() uint64 { return dropped() &^ proc.Inheritable() }

// bounding returns which of the kernel's capabilities are in the bounding set of this
// process, and which are not.
func bounding() (in, out uint64) {
	for c := range 64 {
		has, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(c), 0, 0, 0)
		switch {
		case err != nil:
		case has == 0:
			out |= 1 << c
		default:
			in |= 1 << c
		}
	}
	return in, out
}

// ownCredentials returns those of this process that a job gets without CAP_SETPCAP: nobody
// else can change a bounding set or the securebits, or inherit more capabilities. nil if
// this process may set them.
func ownCredentials() *images.OwnCredentials {
	if proc.Capable(unix.CAP_SETPCAP) {
		return nil
	}
	const keepCaps = 1 << 4 // SECBIT_KEEP_CAPS, which the start of criu clears
	bits, err := unix.PrctlRetInt(unix.PR_GET_SECUREBITS, 0, 0, 0, 0)
	if err != nil {
		return nil
	}
	return &images.OwnCredentials{Inheritable: proc.Inheritable(), Securebits: uint32(bits) &^ keepCaps}
}

// groups returns the supplementary groups of cr_restart for an ordinary user, whose
// job keeps them: only root can give it those that it had, if they have changed since,
// as by usermod, newgrp, or a batch system that marks its jobs by a group. For root
// that may, and if they cannot be read, it returns nil.
func groups() []uint32 {
	if unix.Geteuid() == 0 && proc.Capable(unix.CAP_SETGID) {
		return nil
	}
	list, err := unix.Getgroups()
	if err != nil {
		return nil
	}
	ids := make([]uint32, 0, len(list))
	for _, gid := range list {
		ids = append(ids, uint32(gid))
	}
	return ids
}

// rights notes what the job gets from cr_restart instead of its own.
func (f *foresight) rights() error {
	own, theirs := ownCredentials(), groups()
	in, _ := bounding()
	lacks := missing()
	confined, filtered := proc.Confined(os.Getpid())
	priority, err := unix.Getpriority(unix.PRIO_PROCESS, 0) // 20 - nice, as the kernel has it
	if err != nil {
		return nil
	}
	nice := !proc.Capable(unix.CAP_SYS_NICE)
	others := [8]bool{7: filtered}
	for _, task := range f.plan.tasks {
		core, err := images.Read(f.source, images.Name("core", task.PID), images.ReadCore)
		if err != nil {
			return err
		}
		if core.State.Ended() {
			continue
		}
		had, err := images.Read(f.source, images.Name("core", task.PID), images.ReadRights)
		if err != nil {
			return err
		}
		if theirs != nil {
			same := len(theirs) == len(had.Groups)
			for _, gid := range theirs {
				same = same && slices.Contains(had.Groups, uint64(gid))
			}
			others[0] = others[0] || !same
		}
		if own != nil {
			others[1] = others[1] || in&^had.Bounding != 0 || had.Inheritable&^own.Inheritable != 0
			others[2] = others[2] || had.Securebits != own.Securebits
		}
		others[3] = others[3] || nice && 20-int(had.Nice) > priority
		others[5] = others[5] || had.Permitted&lacks != 0
		others[6] = others[6] || confined && !had.NoNewPrivs
		others[4] = others[4] || nice && (had.Policy == unix.SCHED_FIFO || had.Policy == unix.SCHED_RR)
	}
	var names []string
	for i, name := range []string{"supplementary groups", "bounding set and inheritable capabilities", "securebits", "nice value", "scheduling policy", "capabilities", "no_new_privs", "a filter of system calls, beside its own"} {
		if others[i] {
			names = append(names, name)
		}
	}
	if names != nil {
		f.Notes = append(f.Notes, "what only root may set becomes that of cr_restart: "+strings.Join(names, ", "))
	}
	return nil
}

// readAttributes reads what the processes and threads had set for themselves.
func (p *plan) readAttributes(source source) error {
	if !source.Has(images.AttributesName) {
		return nil
	}
	text, err := source.Bytes(images.AttributesName)
	p.attributes = attributes.Parse(text)
	return err
}

// restorer is what sets attributes again.
func (r *restart) restorer() *attributes.Restorer {
	restorer := r.plan.attributes.Restorer()
	restorer.Policies = r.plan.policies
	return restorer
}

// expireTimers changes timers that have expired while CRIU saved their process, after its pending
// signals and before its timers.
func (p *plan) expireTimers(source source) error {
	for _, task := range p.tasks {
		signals := p.attributes.Pending(task.PID)
		for _, id := range task.Threads {
			if signals == 0 {
				break
			}
			saved, err := images.Read(source, images.Name("core", id), images.Pending)
			if err != nil {
				return err
			}
			signals &^= saved
		}
		if signals == 0 {
			continue
		}
		name := images.Name("core", task.PID)
		core, err := p.served(source, name)
		if err == nil && core != nil {
			p.images[name], err = images.ExpireTimers(core, signals)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// advise changes what CRIU is to ask of the kernel for the memory of the processes.
func (p *plan) advise(source source) error {
	for _, task := range p.tasks {
		wipe, fault := p.attributes.Ranges(task.PID)
		if wipe == nil && fault == nil {
			continue
		}
		name := images.Name("mm", task.PID)
		mm, err := p.served(source, name)
		if mm == nil || err != nil {
			return err
		}
		if p.images[name], err = images.Advise(mm, wipe, fault); err != nil {
			return err
		}
	}
	return nil
}

// adoptPolicy has memory come as the job had it.
func (p *plan) adoptPolicy() {
	var ids []int32
	for _, task := range p.tasks {
		ids = append(ids, task.Threads...)
	}
	p.policies = p.policies || p.attributes.Policy(ids)
}

// personality is what criu has to have.
func (p *plan) personality() uint32 {
	var pids []int32
	for _, task := range p.tasks {
		pids = append(pids, task.PID)
	}
	return p.attributes.Personality(pids)
}

// setAttributes sets for each process and thread what it had set for itself. None
// of them runs.
func (r *restart) setAttributes() {
	if len(r.plan.attributes) == 0 {
		return
	}
	outer := r.numbers()
	restorer := r.restorer()
	for _, task := range r.plan.tasks {
		for _, id := range task.Threads {
			if tid := outer(id); restorer.Needs(id) && tid > 0 {
				restorer.Set(id, tid)
			}
		}
	}
}

// numbers returns what gives the number here of a process or thread of the restored job, by
// that in the images; 0 if there is none.
func (r *restart) numbers() func(id int32) int {
	if r.pidns == nil && !r.plan.container() {
		return func(id int32) int { return int(id) }
	}
	numbers := outerNumbers(r.root)
	return func(id int32) int { return numbers[id] }
}

// outerNumbers returns the numbers that the threads of a tree have here, by those
// in their own pid namespace.
func outerNumbers(root int) map[int32]int {
	numbers := make(map[int32]int)
	tree, err := proc.Descend(root)
	if err != nil {
		return nil
	}
	for _, pid := range tree {
		for _, tid := range proc.Threads(pid) {
			if inner, err := proc.InnerPid(tid); err == nil {
				numbers[int32(inner)] = tid
			}
		}
	}
	return numbers
}
