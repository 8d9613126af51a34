package criu

import (
	"bytes"
	"encoding/binary"
	"os"

	"golang.org/x/sys/unix"
)

// buildID returns the build ID of an ELF file of this machine's kind, as CRIU finds it:
// in a note of type NT_GNU_BUILD_ID; nil if it has none.
func buildID(name string) []byte {
	file, err := os.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil
	}
	defer file.Close()
	le := binary.LittleEndian
	var head [64]byte // Elf64_Ehdr
	if _, err := file.ReadAt(head[:], 0); err != nil || string(head[:5]) != "\x7fELF\x02" {
		return nil
	}
	const phentsize = 56 // Elf64_Phdr
	if le.Uint16(head[54:]) != phentsize {
		return nil
	}
	headers := make([]byte, int(min(le.Uint16(head[56:]), 1000))*phentsize)
	if _, err := file.ReadAt(headers, int64(le.Uint64(head[32:]))); err != nil {
		return nil
	}
	for ; len(headers) > 0; headers = headers[phentsize:] {
		const ptNote = 4
		if le.Uint32(headers) != ptNote {
			continue
		}
		notes := make([]byte, min(le.Uint64(headers[32:]), 64<<10))
		n, _ := file.ReadAt(notes, int64(le.Uint64(headers[8:])))
		if id := buildIDNote(notes[:n]); id != nil {
			return id
		}
	}
	return nil
}

// buildIDNote returns the build ID that is in some notes.
func buildIDNote(notes []byte) []byte {
	le := binary.LittleEndian
	const (
		head    = 12 // Elf64_Nhdr
		buildID = 3  // NT_GNU_BUILD_ID
	)
	for len(notes) >= head {
		nameLen, descLen, kind := uint64(le.Uint32(notes)), uint64(le.Uint32(notes[4:])), le.Uint32(notes[8:])
		desc := head + (nameLen+3)&^3
		end := desc + (descLen+3)&^3
		if desc+descLen > uint64(len(notes)) {
			return nil
		}
		if kind == buildID && bytes.Equal(notes[head:head+nameLen], []byte("GNU\x00")) {
			return notes[desc : desc+descLen]
		}
		notes = notes[min(end, uint64(len(notes))):]
	}
	return nil
}
