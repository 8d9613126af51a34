package images

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

// NotLazy returns a pagemap-PID.img of which no page may come later.
func NotLazy(pagemap []byte) ([]byte, error) {
	return kindPagemap.rewrite(pagemap, func(i int, m message) (message, error) {
		if flags := m.u64(pagemapFlags); i > 0 && flags&pageLazy != 0 {
			m = m.put(intField(pagemapFlags, flags&^pageLazy))
		}
		return m, nil
	})
}
