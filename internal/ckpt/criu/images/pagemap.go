package images

import "os"

// Pagemap is the sum of pagemap-PID.img or pagemap-shmem-N.img (pagemap_head and
// pagemap_entry in pagemap.proto), in pages.
type Pagemap struct {
	PagesID  uint32 // the N of pages-N.img, which has the pages
	Saved    uint64 // how many pages are there
	InParent uint64 // how many are in an earlier dump
}

// Fields of pagemap_head and pagemap_entry, and bits of pagemap_entry.flags.
const (
	pagemapPagesID   = 1
	pagemapAddress   = 1
	pagemapOldCount  = 2
	pagemapOldParent = 3
	pagemapFlags     = 4
	pagemapCount     = 5

	pageInParent = 1 << 0 // PE_PARENT
	pagePresent  = 1 << 2 // PE_PRESENT
)

// ReadPagemap reads pagemap-PID.img or pagemap-shmem-N.img. It allocates no more
// for a large image than for a small one. With an error it returns what comes before
// that: of the beginning of an image, what that has.
func ReadPagemap(pagemap []byte) (Pagemap, error) {
	var p Pagemap
	err := kindPagemap.each(pagemap, func(i int, m message) error {
		if i == 0 {
			p.PagesID = m.u32(pagemapPagesID)
			return m.require(pagemapPagesID)
		}
		return p.add(m)
	})
	return p, err
}

// add adds a pagemap_entry.
func (p *Pagemap) add(m message) error {
	count, flags, err := pagemapEntry(m)
	if err != nil {
		return err
	}
	if p.Saved > mostPages || p.InParent > mostPages {
		return malformed("there are too many pages")
	}
	switch {
	case flags&pagePresent != 0:
		p.Saved += count
	case flags&pageInParent != 0:
		p.InParent += count
	}
	return nil
}

// mostPages is more pages than an address space has.
const mostPages = 1 << 52

// pagemapEntry returns how many pages a pagemap_entry is for, and its flags.
func pagemapEntry(m message) (count, flags uint64, err error) {
	count = m.u64(pagemapCount)
	if !m.has(pagemapCount) {
		// By criu before 4.1.
		if err := m.require(pagemapOldCount); err != nil {
			return 0, 0, err
		}
		count = m.u64(pagemapOldCount)
	}
	flags = m.u64(pagemapFlags)
	if !m.has(pagemapFlags) {
		flags = pagePresent
		if m.u64(pagemapOldParent) != 0 {
			flags = pageInParent
		}
	}
	if count > mostPages {
		return 0, 0, malformed("there are too many pages")
	}
	return count, flags, nil
}

// FindPage returns which page of pages-N.img has an address of pagemap-PID.img, counted
// from 0. It may be given the beginning of the image only. Ok is false where that does not
// have it.
func FindPage(pagemap []byte, address uint64) (page uint64, ok bool) {
	size := uint64(os.Getpagesize())
	_ = kindPagemap.each(pagemap, func(i int, m message) error {
		if i == 0 || ok {
			return nil
		}
		count, flags, err := pagemapEntry(m)
		if err != nil || flags&pagePresent == 0 {
			return err
		}
		start := m.u64(pagemapAddress)
		if start <= address && (address-start)/size < count {
			page, ok = page+(address-start)/size, true
			return nil
		}
		page += count
		return nil
	})
	return page, ok
}
