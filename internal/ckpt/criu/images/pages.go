package images

import "sort"

// PageRun is pages that follow one another in a process's memory and in the image
// of pages. All numbers are in pages but for Address.
type PageRun struct {
	Address uint64 // of the first page, in bytes
	First   uint64 // its number in the image, from 0
	Count   uint64
	Lazy    bool // private anonymous memory, which may come after all else
}

// Pages is pagemap-PID.img.
type Pages struct {
	ID   uint32    // the N of pages-N.img
	Runs []PageRun // those that are in the image, in its order
}

// pageLazy is PE_LAZY of pagemap_entry.flags.
const pageLazy = 1 << 1

// addressSpace is more bytes than any address space has.
const addressSpace = 1 << 57

// ReadPages reads pagemap-PID.img. Pages that are in an earlier dump are left out.
// pageSize is the kernel's, in bytes.
func ReadPages(pagemap []byte, pageSize uint64) (Pages, error) {
	var p Pages
	next := uint64(0)
	err := kindPagemap.each(pagemap, func(i int, m message) error {
		if i == 0 {
			p.ID = m.u32(pagemapPagesID)
			return m.require(pagemapPagesID)
		}
		count, flags, err := pagemapEntry(m)
		if err != nil || flags&pagePresent == 0 || count == 0 {
			return err
		}
		r := PageRun{m.u64(pagemapAddress), next, count, flags&pageLazy != 0}
		if r.Address%pageSize != 0 || r.Address > addressSpace || count > (addressSpace-r.Address)/pageSize || next > addressSpace/pageSize {
			return malformed("there are pages at %#x", r.Address)
		}
		next += count
		if n := len(p.Runs); n > 0 {
			last := &p.Runs[n-1]
			if last.Lazy == r.Lazy && last.Address+last.Count*pageSize == r.Address {
				last.Count += count
				return nil
			}
		}
		p.Runs = append(p.Runs, r)
		return nil
	})
	if err != nil {
		return Pages{}, err
	}
	return p, nil
}

// Range is addresses of a process, from Start up to End.
type Range struct{ Start, End uint64 }

// Everywhere is all addresses that there are.
var Everywhere = []Range{{0, addressSpace}}

// NotLazy returns a pagemap-PID.img of which no page may come later that is in one of
// some ranges, nor what follows it in the same run. The ranges are in the order of their
// addresses and do not overlap. pageSize is the kernel's, in bytes.
func NotLazy(pagemap []byte, pageSize uint64, in []Range) ([]byte, error) {
	return kindPagemap.rewrite(pagemap, func(i int, m message) (message, error) {
		flags := m.u64(pagemapFlags)
		if i == 0 || flags&pageLazy == 0 {
			return m, nil
		}
		count, _, err := pagemapEntry(m)
		if err != nil {
			return m, err
		}
		start := m.u64(pagemapAddress)
		end := start + min(count, addressSpace/pageSize)*pageSize
		// The first range that does not end before the run.
		n := sort.Search(len(in), func(n int) bool { return in[n].End > start })
		if n < len(in) && in[n].Start < end {
			m = m.put(intField(pagemapFlags, flags&^pageLazy))
		}
		return m, nil
	})
}
