package criu

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/ckpt/criu/cpu"
	"blcr-cli/internal/ckpt/criu/images"
	"blcr-cli/internal/proc"
	"blcr-cli/internal/show"
)

// What a job demands of the machine that it is restarted on, and of no process there. It
// is looked at before anything is made, by a restart as by a look ahead.

// noteProcessor writes what the processor offers, which programs may have found out.
func (c *capture) noteProcessor() error {
	text := cpu.Here().Text()
	if text == nil {
		return nil
	}
	return contextError(c.writer.Bytes(images.ProcessorName, text))
}

// demands is the error for a machine that cannot run the job, with all reasons.
func (r *restart) demands() error {
	f := r.foresight()
	for _, step := range []func() error{f.processor, f.numbers, f.limits, f.groups, f.room, f.openFiles, f.named} {
		if err := step(); err != nil {
			return contextError(err)
		}
	}
	if len(f.Failures) == 0 {
		return nil
	}
	const most = 5
	first := *f.Failures[0].(*ckpt.Error)
	first.Detail = slices.Clone(first.Detail)
	for i, other := range f.Failures[1:] {
		if i == most {
			first.Detail = append(first.Detail, fmt.Sprintf("and %d more: see cr_info --check", len(f.Failures)-1-most))
			break
		}
		for _, line := range ckpt.DetailOf(other) {
			if !slices.Contains(first.Detail, line) { // a hint is the same
				first.Detail = append(first.Detail, line)
			}
		}
	}
	return &first
}

// foresight returns a look at what this restart needs.
func (r *restart) foresight() *foresight {
	return &foresight{Forecast: &ckpt.Forecast{}, source: r.source, plan: r.plan, request: r.request}
}

// processor looks for what the processor of the checkpoint could do and this one cannot.
func (f *foresight) processor() error {
	if f.request.AnyCPU || !f.source.Has(images.ProcessorName) {
		return nil
	}
	text, err := f.source.Bytes(images.ProcessorName)
	if err != nil {
		return err
	}
	here := cpu.Here()
	const hint = "restart it on a machine with such a processor, or try by cr_restart --cpu-any"
	if had := cpu.Parse(text); len(here.Names) > 0 {
		if missing := had.Missing(here); len(missing) > 0 {
			const most = 12
			names := strings.Join(missing[:min(most, len(missing))], ", ")
			if n := len(missing) - most; n > 0 {
				names += fmt.Sprintf(" and %d more", n)
			}
			f.obstacle(syscall.EOPNOTSUPP, "processor", "the processor of this machine lacks what that of the checkpoint had, and what the job's code may use: "+names, hint)
		}
		if had.Overflows(here) {
			f.obstacle(syscall.EOPNOTSUPP, "processor", fmt.Sprintf("the processor of this machine has %d bytes of registers, and the dynamic linker of the job has room for %d", here.Registers, had.Registers), hint)
		}
	}
	return nil
}

// groups looks for a control group of this process that is not allowed the memory that a single
// process of the job had: the kernel would kill the job, or cr_restart, without a reason. What
// several had in common may take less, and is not counted.
func (f *foresight) groups() error {
	limits := proc.MemoryLimits(os.Getpid())
	if len(limits) == 0 {
		return nil
	}
	least := slices.MinFunc(limits, func(a, b proc.MemoryLimit) int { return cmp.Compare(a.Limit, b.Limit) })
	swap := proc.MachineMemory()["SwapTotal"]
	for _, task := range f.plan.tasks {
		name := images.Name("pagemap", task.PID)
		if !f.source.Has(name) {
			continue
		}
		pagemap, err := images.Read(f.source, name, images.ReadPagemap)
		if err != nil {
			return err
		}
		if had := pagemap.Saved * uint64(os.Getpagesize()); had > least.Limit+swap {
			f.obstacle(syscall.ENOMEM, "memory", fmt.Sprintf("process %d had %s in memory, and the control group %s may have %s (%s)",
				task.PID, show.Size(int64(had)), show.Name(least.Group.Name), show.Size(least.Limit), least.File),
				"have a higher limit, as 'systemd-run -p MemoryMax=…' sets it, or restart it in another control group")
			return nil
		}
	}
	return nil
}

// numbers looks for pids and numbers of threads that this machine does not have.
func (f *foresight) numbers() error {
	most := proc.Numbers("/proc/sys/kernel/pid_max")
	if len(most) != 1 || f.plan.container() {
		return nil
	}
	highest := 0
	for _, task := range f.plan.tasks {
		for _, id := range task.Numbers() {
			highest = max(highest, int(id))
		}
	}
	if uint64(highest) >= most[0] {
		f.obstacle(syscall.EOPNOTSUPP, fmt.Sprint(highest), fmt.Sprintf("the job has the pid %d, and this machine has none above %d", highest, most[0]-1),
			fmt.Sprintf("raise the limit, as root: sysctl kernel.pid_max=%d", max(highest+1, 32768)))
	}
	return nil
}

// named looks at the programs and libraries of the processes, and at open files that are
// something else now: CRIU would wait for the other end of a FIFO, and write into a device.
func (f *foresight) named() error {
	own, err := f.ownMounts()
	if err != nil || own {
		return err // they are on mounts that CRIU makes
	}
	list, checks, mapped, err := f.listFiles(f.plan.images[images.FilesName])
	if err != nil {
		return err
	}
	open, err := f.open(list)
	if err == nil {
		err = f.withoutRemoved(open)
	}
	if err != nil {
		return err
	}
	saved, err := f.saved()
	if err != nil {
		return err
	}
	// The plan has taken from CRIU what it would check of open files.
	was, err := images.Read(f.source, images.FilesName, images.Files)
	if err != nil {
		return err
	}
	modes := make(map[uint32]uint32)
	for _, file := range was {
		modes[file.ID] = file.Mode
	}
	for _, file := range list {
		file.Mode = modes[file.ID]
		switch {
		case file.Type != images.TypeReg || !strings.HasPrefix(file.Name, "/"):
		case mapped[file.ID] || open[file.ID] && !saved[file.Name] && f.otherKind(file):
			f.file(file, checks[file.ID])
		}
	}
	return nil
}

// otherKind reports whether there is a FIFO or a device where a file was. What else is there
// CRIU cannot open, and says so.
func (f *foresight) otherKind(file images.File) bool {
	var st unix.Stat_t
	if file.Mode&unix.S_IFMT != unix.S_IFREG || statOf(file, &st) != nil {
		return false
	}
	kind := st.Mode & unix.S_IFMT
	return kind == unix.S_IFIFO || kind == unix.S_IFCHR || kind == unix.S_IFBLK
}

// statOf is stat(2) of what a descriptor of the job would lead to.
func statOf(file images.File, st *unix.Stat_t) error {
	const itself = unix.O_PATH | unix.O_NOFOLLOW
	if file.Flags&itself == itself {
		return unix.Lstat(file.Name, st) // a symbolic link itself
	}
	return unix.Stat(file.Name, st)
}

// listFiles returns the entries of a files.img, what CRIU checks of them, and which of them
// the processes have in memory, by images.File.ID. Those whose names were gone are not
// among the latter.
func (f *foresight) listFiles(img []byte) (list []images.File, checks map[uint32]images.Validation, mapped map[uint32]bool, err error) {
	if list, err = images.Files(img); err != nil {
		return nil, nil, nil, err
	}
	if checks, err = images.Validations(img); err != nil {
		return nil, nil, nil, err
	}
	if mapped, err = f.plan.mapped(f.source); err != nil {
		return nil, nil, nil, err
	}
	return list, checks, mapped, f.withoutRemoved(mapped)
}

// ownMounts reports whether a process has a mount namespace that was saved.
func (f *foresight) ownMounts() (bool, error) {
	for task, err := range f.plan.ids(f.source) {
		if err != nil {
			return false, err
		}
		if f.source.Has(images.Name("mountpoints", task.Mount)) {
			return true, nil
		}
	}
	return false, nil
}

// withoutRemoved takes away files, by images.File.ID, whose names were gone: their
// contents are in the context.
func (f *foresight) withoutRemoved(files map[uint32]bool) error {
	if !f.source.Has(images.RemapName) {
		return nil
	}
	lost, err := images.Read(f.source, images.RemapName, images.Remaps)
	for _, remap := range lost {
		delete(files, remap.File)
		if remap.Type == images.RemapProc { // which is for all files of that process
			f.helpers = append(f.helpers, int32(remap.To))
		}
	}
	return err
}
