package images

// Fields of vma_entry, and a flag of mmap(2).
const (
	vmaAdvice = 9 // madv: advice N of madvise(2) as bit N

	mapLocked  = 0x2000
	adviceWipe = 18 // MADV_WIPEONFORK
)

// Advise changes mm-PID.img so that mappings in the ranges wipe are wiped in a child
// (MADV_WIPEONFORK), which CRIU has saved since 4.2, and so that those in the ranges free are not
// locked.
func Advise(mm []byte, wipe, free []Range) ([]byte, error) {
	return rewriteMappings(mm, func(v message) (_ message, changed bool) {
		if advice := v.u64(vmaAdvice); within(v, wipe) && advice&(1<<adviceWipe) == 0 {
			v, changed = v.put(intField(vmaAdvice, advice|1<<adviceWipe)), true
		}
		if flags := v.u64(vmaFlags); within(v, free) && flags&mapLocked != 0 {
			v, changed = v.put(intField(vmaFlags, flags&^mapLocked)), true
		}
		return v, changed
	})
}

// Wiped returns the mappings in mm-PID.img that are wiped in a child, in the order of their
// addresses.
func Wiped(mm []byte) ([]Range, error) {
	return mappings(mm, func(v message) bool { return v.u64(vmaAdvice)&(1<<adviceWipe) != 0 })
}

// within reports whether a vma_entry is in one of these ranges.
func within(v message, ranges []Range) bool {
	for _, r := range ranges {
		if v.u64(vmaStart) >= r.Start && v.u64(vmaEnd) <= r.End {
			return true
		}
	}
	return false
}
