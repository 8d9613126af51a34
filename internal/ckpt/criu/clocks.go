package criu

import (
	"time"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt/criu/images"
)

// criu restores processes into a time namespace of their own, in which the clocks
// that count from the start of the machine go on where they were. But it cannot
// save processes of several time namespaces together, as cr_restart and its job
// would be. With BLCR a job sees the clocks of the machine, on which time has
// passed meanwhile. So it does here, unless these clocks are behind what the job
// has seen already, as after a reboot or on another machine: such a clock must not
// go backwards.

// clocks decides about the time namespace.
func (p *plan) clocks(source source) error {
	inventory, err := images.Read(source, images.InventoryName, images.ReadInventory)
	if err != nil {
		return err
	}
	const criuClocks = "timens-0.img" // of processes in criu's own time namespace
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
	if clock(unix.CLOCK_MONOTONIC) < seen.Monotonic || clock(unix.CLOCK_BOOTTIME) < seen.Boottime {
		return nil
	}
	p.hidden = append(p.hidden, criuClocks)
	for name, img := range elsewhere {
		if p.images[name], err = images.SetTimeNamespace(img, inventory.CRIU.Time); err != nil {
			return err
		}
	}
	return nil
}

// clock reads a clock of this machine.
func clock(which int32) time.Duration {
	var t unix.Timespec
	if unix.ClockGettime(which, &t) != nil {
		return 0
	}
	return time.Duration(t.Nano())
}
