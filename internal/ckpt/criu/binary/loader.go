package binary

import (
	"encoding/binary"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/show"
)

// loaderMissing says which program a file that cannot be executed for want of it needs:
// the dynamic loader of an ELF file, or the interpreter of a script. "" if it is not
// that. The kernel says no more than that something does not exist.
func loaderMissing(name string) string {
	file, err := os.Open(name)
	if err != nil {
		return ""
	}
	defer file.Close()
	head := make([]byte, 4096)
	n, _ := file.ReadAt(head, 0)
	head = head[:n]
	what, loader := "its dynamic loader", elfLoader(head)
	if line, ok := strings.CutPrefix(string(head), "#!"); ok {
		line, _, _ = strings.Cut(line, "\n")
		if words := strings.Fields(line); len(words) > 0 {
			what, loader = "its interpreter", words[0]
		}
	}
	if loader == "" || unix.Access(loader, unix.F_OK) == nil {
		return ""
	}
	return what + " " + show.Name(loader) + " is missing"
}

// elfLoader returns the name that is in the segment PT_INTERP, given the beginning of a
// file; "" if there is none.
func elfLoader(head []byte) string {
	const phoff, phnum, phentsize, size = 32, 56, 54, 56 // in Elf64_Ehdr; of Elf64_Phdr
	le := binary.LittleEndian
	if len(head) < 64 || string(head[:6]) != "\x7fELF\x02\x01" || le.Uint16(head[phentsize:]) != size {
		return ""
	}
	at := le.Uint64(head[phoff:])
	for range le.Uint16(head[phnum:]) {
		if at > uint64(len(head))-size {
			return ""
		}
		segment := head[at : at+size]
		const interp = 3
		if le.Uint32(segment) == interp {
			from, length := le.Uint64(segment[8:]), le.Uint64(segment[32:])
			if from > uint64(len(head)) || length > uint64(len(head))-from {
				return ""
			}
			return strings.TrimRight(string(head[from:from+length]), "\x00")
		}
		at += size
	}
	return ""
}
