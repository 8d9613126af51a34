// Package header reads the beginning of a context that BLCR's module has
// written. The rest depends on the kernel that wrote it, and is not read. The
// package knows no request and no engine.
//
// Facts are from the module's cr_context.h and cr_dump_self.c, and from
// vmadump4/vmadump.h, of BLCR 0.8. A context is, in the byte order of its machine:
//
//	0   4   'C'
//	4   4   'R'
//	8   4   version of the format
//	12  4   scope of the request
//	16  4   architecture
//
// The processes follow, one after the other, each complete. Each begins with
//
//	0   4   number of threads
//	4   8   clone flags, a descriptor
//	12  4   size of the table
//	16      the table, with as many entries as threads: pointers to the task, its
//	        real parent and its parent; then 4 bytes each for the ids of thread,
//	        process group, session, and process; then members not used here
//	        "VMA", version 6 of that format, architecture, kernel's version as
//	        three bytes
//	        8 bytes, then the process's name, 16 bytes
//
// In the place of one more process is the end: 12 bytes, of which the first 4 are
// 0 and the last 4 are -1. The offset of the second process can be found only by
// reading all of the first one, in which even the length of the registers depends
// on the machine.
package header

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Header is the content of the beginning. Unknown members have the zero value.
type Header struct {
	Version      int
	Scope        int
	Architecture int

	// First is the process that was saved first, nil if it is not recognized.
	First *Process
}

// Process is the beginning of a process. Its name is the first thread's.
type Process struct {
	PID, PGID, SID int
	Name           string
	Threads        []int  // the process's own number among them
	Kernel         string // version, "2.6.32"
}

// Errors of Read.
var (
	ErrForeign   = errors.New("not a context of BLCR's")
	ErrTruncated = errors.New("the header is incomplete")
)

const (
	headerLen  = 20
	sectionLen = 16
	endLen     = 12
	vmadumpLen = 8
	prctlLen   = 8 + 16

	// Limits of what is accepted. The module keeps the table in one block of
	// kernel memory.
	mostThreads = 1 << 16
	mostEntry   = 512
	mostTable   = 4 << 20
)

// architecture describes one of VMAD_ARCH_… in vmadump.h.
type architecture struct {
	name string // as printed by uname -m
	word int    // bytes in a pointer
}

var architectures = map[int]architecture{
	1: {"i386", 4}, 2: {"sparc", 4}, 3: {"alpha", 8}, 4: {"ppc", 4},
	5: {"x86_64", 8}, 6: {"ppc64", 8}, 7: {"arm", 4}, 8: {"sparc64", 8},
}

// Machine is the architecture's name, "" if it is unknown.
func (h *Header) Machine() string { return architectures[h.Architecture].name }

// scopes are cr_scope_t of blcr_common.h.
var scopes = []string{"process", "group", "session", "tree"}

// ScopeName is the name of the scope, "" if it is unknown.
func (h *Header) ScopeName() string {
	if h.Scope < 0 || h.Scope >= len(scopes) {
		return ""
	}
	return scopes[h.Scope]
}

// Read reads the beginning from r, and no byte more. Errors are ErrForeign,
// ErrTruncated or the reader's.
func Read(r io.Reader) (*Header, error) {
	var b [headerLen]byte
	n, err := io.ReadFull(r, b[:])
	order := binary.NativeEndian
	switch {
	case err != nil && err != io.EOF && err != io.ErrUnexpectedEOF:
		return nil, err
	case n < 8 || order.Uint32(b[:]) != 'C' || order.Uint32(b[4:]) != 'R':
		return nil, ErrForeign
	case n < headerLen:
		return nil, ErrTruncated
	}
	number := func(at int) int { return int(int32(order.Uint32(b[at:]))) }
	h := &Header{Version: number(8), Scope: number(12), Architecture: number(16)}
	h.First, err = h.process(r)
	return h, err
}

// process reads the first process; nil if it is not recognized. An error is the
// reader's.
func (h *Header) process(r io.Reader) (*Process, error) {
	arch := architectures[h.Architecture]
	if arch.word == 0 {
		return nil, nil
	}
	b := make([]byte, sectionLen)
	if ok, err := readAll(r, b); !ok {
		return nil, err
	}
	order := binary.NativeEndian
	threads, table := order.Uint32(b), order.Uint32(b[12:])
	if threads == 0 || threads > mostThreads || table%threads != 0 || table > mostTable {
		return nil, nil
	}
	entry := int(table / threads)
	ids := 3 * arch.word
	if entry < ids+16 || entry > mostEntry {
		return nil, nil
	}
	b = make([]byte, int(table)+vmadumpLen+prctlLen)
	if ok, err := readAll(r, b); !ok {
		return nil, err
	}
	p := &Process{}
	for at := 0; at < int(table); at += entry {
		id := func(i int) int { return int(int32(order.Uint32(b[at+ids+4*i:]))) }
		p.Threads = append(p.Threads, id(0))
		if id(0) == id(3) {
			p.PID, p.PGID, p.SID = id(0), id(1), id(2)
		}
	}
	// All of this has to match, or it is something else.
	b = b[table:]
	if p.PID <= 0 || string(b[:4]) != "VMA\x06" || int(b[4]) != h.Architecture {
		return nil, nil
	}
	p.Kernel = fmt.Sprintf("%d.%d.%d", b[5], b[6], b[7])
	name, _, _ := bytes.Cut(b[vmadumpLen+8:], []byte{0})
	p.Name = string(name)
	return p, nil
}

// readAll fills b. It returns false, without an error, if r ends before.
func readAll(r io.Reader, b []byte) (bool, error) {
	_, err := io.ReadFull(r, b)
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return false, nil
	}
	return err == nil, err
}

// Ends tells whether a file of that size ends as a context of BLCR's does. If not,
// it was truncated, or something follows the context.
func Ends(file io.ReaderAt, size int64) (bool, error) {
	if size < headerLen+endLen {
		return false, nil
	}
	var b [endLen]byte
	if _, err := file.ReadAt(b[:], size-endLen); err != nil && err != io.EOF {
		return false, err
	}
	order := binary.NativeEndian
	const shareMemory = 0x100 // CLONE_VM, among the flags in between
	return order.Uint32(b[:]) == 0 && order.Uint32(b[4:])&shareMemory != 0 && int32(order.Uint32(b[8:])) == -1, nil
}
