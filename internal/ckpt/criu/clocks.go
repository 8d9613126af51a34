package criu

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt/criu/images"
)

// Criu restores processes into a time namespace of their own, in which the
// clocks that count from the start of the machine go on where they were. But it
// cannot save processes of several such namespaces together, as a cr_restart and
// its job would be in. BLCR's jobs see the clocks of the machine, on which time
// has passed meanwhile; so do ours, unless these clocks are behind what the job
// has seen already: after a restart of the machine, or on another one. There is
// no clock that goes backwards.

// clocks decides about the time namespace.
func (p *plan) clocks(source source) error {
	text, err := source.Bytes("inventory.img")
	if err != nil {
		return err
	}
	inventory, err := images.ReadInventory(text)
	if err != nil {
		return imageError(err)
	}
	elsewhere := make(map[string][]byte) // images of those that were in another one than criu
	saved := "timens-0.img"
	for _, task := range p.tasks {
		name := fmt.Sprintf("ids-%d.img", task.PID)
		if !source.Has(name) { // one that has ended
			continue
		}
		if text, err = source.Bytes(name); err != nil {
			return err
		}
		ids, err := images.TaskIDs(text)
		if err != nil {
			return imageError(err)
		}
		if ids.Time != inventory.Root.Time {
			elsewhere[name] = text
			saved = fmt.Sprintf("timens-%d.img", ids.Time)
		}
	}
	if !source.Has(saved) {
		return nil
	}
	if text, err = source.Bytes(saved); err != nil {
		return err
	}
	seen, err := images.ReadClocks(text)
	if err != nil {
		return imageError(err)
	}
	if clock(unix.CLOCK_MONOTONIC) < seen.Monotonic || clock(unix.CLOCK_BOOTTIME) < seen.Boottime {
		return nil
	}
	p.hidden = append(p.hidden, "timens-0.img")
	for name, text := range elsewhere {
		if p.images[name], err = images.PutTime(text, inventory.Root.Time); err != nil {
			return imageError(err)
		}
	}
	return nil
}

// clock reads one of our clocks.
func clock(which int32) time.Duration {
	var t unix.Timespec
	if unix.ClockGettime(which, &t) != nil {
		return 0
	}
	return time.Duration(t.Nano())
}
