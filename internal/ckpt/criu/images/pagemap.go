package images

import "fmt"

// Pagemap is pagemap-PID.img: which pages of a process are in pages-N.img.
type Pagemap struct {
	PagesID  uint32 // the N
	Saved    uint64 // how many pages there are in it
	InParent uint64 // how many are in an earlier dump
}

// Fields of pagemap_head and pagemap_entry, and bits of pagemap_entry.flags.
const (
	pagemapPagesID   = 1
	pagemapOldCount  = 2
	pagemapOldParent = 3
	pagemapFlags     = 4
	pagemapCount     = 5

	pageInParent = 1 << 0 // PE_PARENT
	pagePresent  = 1 << 2 // PE_PRESENT
)

// ReadPagemap reads pagemap-PID.img, or pagemap-shmem-N.img. It may be a large
// one.
func ReadPagemap(pagemap []byte) (Pagemap, error) {
	at, err := kindPagemap.body(pagemap)
	if err != nil {
		return Pagemap{}, err
	}
	var p Pagemap
	var m message // the same memory for all entries
	for i := 0; at < len(pagemap); i++ {
		payload, err := next(pagemap[at:])
		if err == nil {
			at += 4 + len(payload)
			if m, err = appendMessage(m[:0], payload); err == nil {
				err = p.add(m, i == 0)
			}
		}
		if err != nil {
			return Pagemap{}, fmt.Errorf("%s: entry %d: %w", kindPagemap.name, i, err)
		}
	}
	return p, nil
}

// add counts an entry.
func (p *Pagemap) add(m message, head bool) error {
	if head {
		p.PagesID = m.u32(pagemapPagesID)
		return m.require(pagemapPagesID)
	}
	count, ok := m.number(pagemapCount)
	if !ok {
		// That of criu before 4.1.
		if count, ok = m.number(pagemapOldCount); !ok {
			return malformed("required field %d is missing", pagemapOldCount)
		}
	}
	flags, ok := m.number(pagemapFlags)
	if !ok {
		flags = pagePresent
		if m.flag(pagemapOldParent) {
			flags = pageInParent
		}
	}
	const most = 1 << 52 // of pages of an address space
	if count > most || p.Saved > most || p.InParent > most {
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
