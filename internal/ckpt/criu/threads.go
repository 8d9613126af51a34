package criu

import (
	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt/criu/images"
)

// As with BLCR a job is restored in the control groups of its cr_restart, and in
// their namespace, and with no capability that is not in the bounding set of
// cr_restart. Criu would do more than that: with the image of the control groups
// it starts a process to move threads, which it then ends by SIGTERM, which all of
// its processes ignore here; and it drops capabilities that are dropped already,
// for which an ordinary user has no permission.

// threads changes the images of threads accordingly.
func (p *plan) threads(source source) error {
	o := images.ThreadOptions{NoCgroups: source.Has(images.CgroupName), Dropped: dropped()}
	if o == (images.ThreadOptions{}) {
		return nil
	}
	p.hidden = append(p.hidden, images.CgroupName)
	for _, task := range p.tasks {
		for _, id := range task.Threads {
			name := images.Name("core", id)
			if !source.Has(name) { // it has ended
				continue
			}
			img, err := images.Read(source, name, func(core []byte) ([]byte, error) { return images.SetThread(core, o) })
			if err != nil {
				return err
			}
			p.images[name] = img
		}
	}
	return nil
}

// dropped returns the capabilities that are not in the bounding set of this
// process, of those that the kernel has.
func dropped() (bits uint64) {
	for c := range 64 {
		if has, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(c), 0, 0, 0); err == nil && has == 0 {
			bits |= 1 << c
		}
	}
	return bits
}
