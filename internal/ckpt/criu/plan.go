package criu

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/ckpt/criu/image"
	"blcr-cli/internal/ckpt/criu/proc"
)

// plan is what a restore does otherwise than the images say: criu brings
// everything back as it was, BLCR fits the job in where cr_restart stands.
type plan struct {
	// images are served instead of those of the same name in the context.
	images map[string][]byte

	// options are criu's, and inherited the descriptors that they number from 3
	// on; owned ones are closed with the plan.
	options   []string
	inherited []int
	owned     []int

	tasks []image.Task
}

// newPlan reads what it needs from the context.
func newPlan(source source, r *ckpt.RestartRequest) (*plan, error) {
	p := &plan{images: make(map[string][]byte)}
	relocations := r.Relocations
	for _, step := range []func() error{
		func() error { return p.adopt(source, r) },
		func() (err error) { relocations, err = p.extractSaved(source, relocations); return err },
		func() error { return p.relocate(source, relocations) },
	} {
		if err := step(); err != nil {
			p.close()
			return nil, err
		}
	}
	return p, nil
}

// adopt puts the processes into our session and process group, or leaves them
// in theirs.
func (p *plan) adopt(source source, r *ckpt.RestartRequest) error {
	pstree, err := source.Bytes("pstree.img")
	if err != nil {
		return err
	}
	a := image.Adoption{KeepSID: r.RestoreSid, KeepPGID: r.RestorePgid}
	if r.RestorePid {
		sid, err := unix.Getsid(0)
		if err != nil {
			return sysError("getsid", "", err)
		}
		a.SID, a.PGID = int32(sid), int32(unix.Getpgrp())
	}
	// Else criu runs in a new pid namespace, where ours have no number.
	patched, adopted, err := image.AdoptTasks(pstree, a)
	if errors.Is(err, image.ErrInUse) {
		var pid int
		fmt.Sscan(err.Error()[strings.LastIndex(err.Error(), ":")+1:], &pid)
		return busyError(pid)
	}
	if err != nil {
		return imageError(err)
	}
	p.images["pstree.img"], p.tasks = patched, adopted.Tasks
	return nil
}

// relocate has files opened under other names.
func (p *plan) relocate(source source, relocations []ckpt.Relocation) error {
	files, err := source.Bytes("files.img")
	if err != nil {
		return err
	}
	patched, changed, err := image.Relocate(files, relocations)
	if err != nil {
		return imageError(err)
	}
	if changed {
		p.images["files.img"] = patched
	}
	return nil
}

// imageError is for an image that is not as it should be.
func imageError(err error) error {
	return &ckpt.Error{Op: "read", Object: "context", Errno: syscall.EINVAL, Detail: []string{"context: " + err.Error()}}
}

// pidsFree tells whether the processes can have their numbers.
func (p *plan) pidsFree() error {
	for _, task := range p.tasks {
		for _, id := range append([]int32{task.PID}, task.Threads...) {
			// Threads take numbers, too, and so do groups and sessions whose
			// leader has ended; of those criu itself will tell.
			if err := unix.Kill(int(id), 0); err != syscall.ESRCH {
				return busyError(int(id))
			}
			if _, err := proc.Leader(int(id)); err == nil {
				return busyError(int(id))
			}
		}
	}
	return nil
}

// close gives back what was opened for the restore.
func (p *plan) close() {
	for _, fd := range p.owned {
		unix.Close(fd)
	}
	p.owned = nil
}

// busyPid finds out from criu's log that a number was taken, and which.
func busyPid(texts []string) (pid int, busy bool) {
	for _, text := range texts {
		// "Can't fork for 123: File exists", "Pid 123 do not match expected 124"
		var expected, got int
		if n, _ := fmt.Sscanf(text, "Can't fork for %d: File exists", &pid); n == 1 && strings.HasSuffix(text, "File exists") {
			return pid, true
		}
		if n, _ := fmt.Sscanf(text, "Pid %d do not match expected %d", &got, &expected); n == 2 {
			return expected, true
		}
	}
	return 0, false
}

// numbers are those in a text, separated by blanks.
func numbers(text string) []int {
	var found []int
	for _, word := range strings.Fields(text) {
		if n, err := strconv.Atoi(word); err == nil {
			found = append(found, n)
		}
	}
	return found
}
