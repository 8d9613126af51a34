package criu

import (
	"runtime"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt/criu/images"
	"blcr-cli/internal/signals"
)

// A job that had its terminal in the foreground gets cr_restart's with the modes
// that its own had: an editor, or a shell that waits for a command, has set them
// and relies on them. When the job has ended, cr_restart's terminal is as it was
// before.
//
// A shell with job control also has process groups, makes one or the other of them
// the foreground, and knows its own by the number. So these groups are restored,
// where other jobs join that of cr_restart, and one of them becomes the foreground.

// terminal is what a restart does to cr_restart's terminal.
type terminal struct {
	modes *images.Modes // nil to leave it as it is
	group int32         // the process group that becomes the foreground, 0 for cr_restart's
}

// jobControl returns the process groups of shells with job control and of what
// these have started; none if cr_restart has no terminal for them.
func jobControl(source source, pstree []byte, ttys []images.TTY) (groups map[int32]bool, err error) {
	if !hasTerminal() {
		return nil, nil
	}
	tasks, err := images.Tasks(pstree)
	if err != nil {
		return nil, err
	}
	controlled := make(map[int32]bool) // sessions with a terminal that is not in the tree
	for _, t := range ttys {
		if t.SID != 0 && !t.Master {
			controlled[t.SID] = true
		}
	}
	groups = make(map[int32]bool)
	inside := make(map[int32]bool) // such shells and their descendants
	for _, t := range tasks {
		shell := false
		if t.PID == t.PGID && controlled[t.SID] && len(t.Threads) > 0 {
			core, err := images.Read(source, images.Name("core", t.PID), images.ReadCore)
			if err != nil {
				return nil, err
			}
			// Of such a shell it stops neither that it prints in the background nor
			// Ctrl-Z.
			const ignored = 1<<(unix.SIGTTOU-1) | 1<<(unix.SIGTSTP-1)
			shell = core.Ignored&ignored == ignored
		}
		inside[t.PID] = shell || inside[t.PPID]
		if inside[t.PID] && (t.PGID == t.PID || groups[t.PGID]) {
			groups[t.PGID] = true
		}
	}
	return groups, nil
}

// planTerminal decides what becomes of cr_restart's terminal, which takes the place
// of one of those in files and tables.
func (p *plan) planTerminal(source source, files []images.File, tables images.Tables) error {
	if !source.Has(images.TTYInfoName) {
		return nil
	}
	// As they were, with their sessions.
	ttys, err := images.Read(source, images.TTYInfoName, images.TTYs)
	if err != nil {
		return err
	}
	saved, err := images.Read(source, images.PstreeName, images.Tasks)
	if err != nil {
		return err
	}
	for _, tty := range images.ExternalTTYs(files, ttys, tables) {
		for i, task := range saved {
			if tty.TTY.SID == 0 || tty.TTY.PGrp == 0 || task.PGID != tty.TTY.PGrp {
				continue
			}
			p.terminal.modes = tty.TTY.Modes
			if p.keptGroups[task.PGID] && p.tasks[i].PGID == task.PGID {
				p.terminal.group = task.PGID
			}
			return nil
		}
	}
	return nil
}

// giveTerminal gives the job what was planned, if cr_restart has its terminal in the
// foreground. The processes do not run yet.
func (r *restart) giveTerminal() {
	plan := r.plan.terminal
	if plan == (terminal{}) {
		return
	}
	fd, err := unix.Open("/dev/tty", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	own := unix.Getpgrp()
	foreground, err := unix.IoctlGetInt(fd, unix.TIOCGPGRP)
	if err != nil || foreground != own {
		unix.Close(fd)
		return
	}
	before, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		unix.Close(fd)
		return
	}
	if plan.modes != nil {
		modes := *before
		modes.Iflag, modes.Oflag, modes.Lflag = plan.modes.Input, plan.modes.Output, plan.modes.Local
		copy(modes.Cc[:], plan.modes.Control)
		_ = unix.IoctlSetTermios(fd, unix.TCSETS, &modes)
	}
	if plan.group != 0 {
		group := int(plan.group)
		if r.pidns != nil || r.plan.container() {
			group = outerNumbers(r.root)[plan.group]
		}
		if group > 0 {
			_ = unix.IoctlSetPointerInt(fd, unix.TIOCSPGRP, group)
		}
	}
	r.request.AtEnd = func() { takeTerminal(fd, own, before) }
}

// takeTerminal makes this process the foreground of its terminal again, unless
// another that lives is, and restores the modes.
func takeTerminal(fd, own int, modes *unix.Termios) {
	defer unix.Close(fd)
	foreground, err := unix.IoctlGetInt(fd, unix.TIOCGPGRP)
	if err != nil || foreground != own && unix.Kill(-foreground, 0) != unix.ESRCH {
		return
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	// In the background SIGTTOU would stop it.
	mask, err := signals.BlockAll()
	if err != nil {
		return
	}
	defer signals.RestoreMask(mask)
	if foreground != own {
		_ = unix.IoctlSetPointerInt(fd, unix.TIOCSPGRP, own)
	}
	_ = unix.IoctlSetTermios(fd, unix.TCSETS, modes)
}
