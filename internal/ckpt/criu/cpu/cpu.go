// Package cpu knows what a processor offers to programs: the instructions that code may
// have chosen when it was started, as a C library and its functions for strings do, and
// the size of the registers that a dynamic linker saves.
//
// A context has them as a member, which belongs to no image: see [Features.Text]. What
// only kernels use, and what only makes the same code faster, does not belong here.
package cpu

import (
	"fmt"
	"slices"
	"strings"
)

// Features are those of a processor. The zero value is for one of which nothing is known.
type Features struct {
	Names []string // as in /proc/cpuinfo, of what programs may use under this kernel

	// Registers is how many bytes XSAVE takes for the registers that the dynamic linker
	// of the GNU C library saves when it resolves a function; 0 if there is no XSAVE.
	Registers int
}

// Text returns the member of a context: lines of a name and values, in any order. Lines
// with other names have no effect.
//
//	features pni ssse3 avx avx2
//	registers 2688
func (f Features) Text() []byte {
	if len(f.Names) == 0 {
		return nil
	}
	return fmt.Appendf(nil, "features %s\nregisters %d\n", strings.Join(f.Names, " "), f.Registers)
}

// Parse reads what Text has written. What it does not understand is not known.
func Parse(text []byte) (f Features) {
	for line := range strings.Lines(string(text)) {
		name, values, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch name {
		case "features":
			f.Names = strings.Fields(values)
		case "registers":
			_, _ = fmt.Sscan(values, &f.Registers)
		}
	}
	return f
}

// Missing returns which of the features, those of the processor that a program was
// started on, another one does not have.
func (f Features) Missing(here Features) []string {
	return slices.DeleteFunc(slices.Clone(f.Names), func(name string) bool { return slices.Contains(here.Names, name) })
}

// Overflows reports whether a dynamic linker that was started on a processor with the
// features f would write behind the room that it has made for registers, on another
// processor: it saves by XSAVE, which also writes registers that are not in use.
func (f Features) Overflows(here Features) bool {
	return f.Registers > 0 && here.Registers > f.Registers && !slices.Contains(f.Names, "xsavec")
}
