package criu

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/ckpt/criu/images"
	"blcr-cli/internal/proc"
)

// criu restores processes into a time namespace of their own, in which the clocks
// that count from the start of the machine go on where they were. But it cannot
// save processes of several time namespaces together, as cr_restart and its job
// would be. With BLCR a job sees the clocks of the machine, on which time has
// passed meanwhile. So it does here, unless these clocks are behind what the job
// has seen already, as after a reboot or on another machine: such a clock must not
// go backwards. Criu makes a time namespace for that where it may. A user's job gets one
// together with its pid namespace, see package pidns, and criu runs in there.

// criuClocks is the image of the clocks of processes in criu's own time namespace.
const criuClocks = "timens-0.img"

// clocks decides about the time namespace.
func (p *plan) clocks(source source, r *ckpt.RestartRequest) error {
	inventory, err := images.Read(source, images.InventoryName, images.ReadInventory)
	if err != nil {
		return err
	}
	saved := criuClocks
	elsewhere := make(map[string][]byte) // ids images of processes in another one
	for _, task := range p.tasks {
		name := images.Name("ids", task.PID)
		if !source.Has(name) { // it has ended
			continue
		}
		img, err := source.Bytes(name)
		if err != nil {
			return err
		}
		ids, err := images.TaskIDs(img)
		if err != nil {
			return err
		}
		if ids.Time != inventory.CRIU.Time {
			elsewhere[name] = img
			saved = images.Name("timens", ids.Time)
		}
	}
	if !source.Has(saved) {
		return nil
	}
	seen, err := images.Read(source, saved, images.ReadClocks)
	if err != nil {
		return err
	}
	ahead := images.Clocks{Monotonic: seen.Monotonic - clock(unix.CLOCK_MONOTONIC), Boottime: seen.Boottime - clock(unix.CLOCK_BOOTTIME)}
	if behind := max(ahead.Monotonic, ahead.Boottime); behind > 0 {
		if proc.Capable(unix.CAP_SYS_ADMIN) {
			return nil
		}
		if r.RestorePid || p.container() {
			return clocksBehind(behind)
		}
		p.ahead = ahead
	}
	p.hidden = append(p.hidden, criuClocks)
	for name, img := range elsewhere {
		if p.images[name], err = images.SetTimeNamespace(img, inventory.CRIU.Time); err != nil {
			return err
		}
	}
	return nil
}

// clocksBehind is the error for a job whose clocks are ahead of the machine's by that much,
// where no time namespace can be made. Without one criu lets the clocks go back, and
// whatever sleeps waits for them to come up again. A user can make one in a user namespace
// only, in which nothing may choose the pids of the pid namespace around it.
func clocksBehind(behind time.Duration) error {
	return &ckpt.Error{Op: "restore", Object: "clocks", Errno: unix.EOPNOTSUPP, Detail: []string{
		fmt.Sprintf("this machine has been up for %v less than the job has seen, and clocks of its own for a job with its old pids take the capability CAP_SYS_ADMIN",
			behind.Round(time.Second)),
		"cr_restart --no-restore-pid gives it clocks and pids of its own, in a user namespace; or restart it as root, or on a machine that has been up for longer",
	}}
}

// clock reads a clock of this machine.
func clock(which int32) time.Duration {
	var t unix.Timespec
	if unix.ClockGettime(which, &t) != nil {
		return 0
	}
	return time.Duration(t.Nano())
}
