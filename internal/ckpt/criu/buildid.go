package criu

import (
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
		size := min(le.Uint64(headers[32:]), 64<<10)
		notes := make([]byte, size+1<<10)
		n, _ := file.ReadAt(notes, int64(le.Uint64(headers[8:])))
		if id := buildIDNote(notes[:n], size); id != nil {
			return id
		}
	}
	return nil
}

// buildIDNote returns the build ID that is in notes, which take size bytes. As CRIU it
// takes one right behind them, where Go's linker puts it, and whatever the owner's name.
func buildIDNote(notes []byte, size uint64) []byte {
	le := binary.LittleEndian
	const (
		head    = 12 // Elf64_Nhdr
		buildID = 3  // NT_GNU_BUILD_ID
		longest = 512
	)
	for at := uint64(0); at <= size && at+head <= uint64(len(notes)); {
		nameLen, descLen, kind := uint64(le.Uint32(notes[at:])), uint64(le.Uint32(notes[at+4:])), le.Uint32(notes[at+8:])
		desc := at + head + (nameLen+3)&^3
		if kind == buildID {
			if descLen == 0 || descLen > longest || desc+descLen > uint64(len(notes)) {
				return nil
			}
			return notes[desc : desc+descLen]
		}
		at = desc + (descLen+3)&^3
	}
	return nil
}
