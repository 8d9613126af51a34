package proc

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io/fs"
	"iter"
	"math"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Mapping is a part of a file that a process has mapped.
type Mapping struct {
	Start, End uint64 // addresses
	Shared     bool   // MAP_SHARED
	Dev, Ino   uint64 // of the file, as of stat(2) on most file systems

	// Path as the kernel shows it here: with each line feed written as \012,
	// and with Deleted behind it for a file that has lost its name.
	Path string
}

// Link is the file itself, whatever has become of its name. Few may follow it.
func (m *Mapping) Link(pid int) string {
	return fmt.Sprintf("/proc/%d/map_files/%x-%x", pid, m.Start, m.End)
}

// longestMapping is more than any line of a maps file has, in bytes: each of the
// 4096 of a path may take four.
const longestMapping = 32 << 10

// Mappings yields what a process has mapped of files, and of what looks like one:
// System V memory has a path as well. A process that has ended has none. An error
// is a *fs.PathError and the last that it yields.
//
// It reads while it yields: a process may have 65530 mappings with long paths.
func Mappings(pid int) iter.Seq2[Mapping, error] {
	return func(yield func(Mapping, error) bool) {
		for line, err := range mapsLines(pid) {
			if err != nil {
				yield(Mapping{}, err)
				return
			}
			m, ok, err := parseMapping(line)
			if err != nil {
				yield(Mapping{}, &fs.PathError{Op: "read", Path: mapsPath(pid), Err: err})
				return
			}
			if ok && !yield(m, nil) {
				return
			}
		}
	}
}

func mapsPath(pid int) string { return fmt.Sprintf("/proc/%d/maps", pid) }

// mapsLines yields the lines of a maps file. Errors are those of Mappings.
func mapsLines(pid int) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		path := mapsPath(pid)
		f, err := open(path)
		if err != nil {
			yield("", &fs.PathError{Op: "open", Path: path, Err: err})
			return
		}
		defer f.close()
		lines := bufio.NewScanner(f)
		lines.Buffer(make([]byte, longestMapping), longestMapping)
		for lines.Scan() {
			if !yield(lines.Text(), nil) {
				return
			}
		}
		if err := lines.Err(); err != nil {
			yield("", &fs.PathError{Op: "read", Path: path, Err: err})
		}
	}
}

// VDSO returns the addresses of the code that the kernel has mapped into a process,
// vdso(7); 0 where there is none, or it cannot be seen.
func VDSO(pid int) (start, end uint64) {
	for line := range mapsLines(pid) {
		// "7ffe6a3f2000-7ffe6a3f4000 r-xp 00000000 00:00 0   [vdso]"
		if strings.HasSuffix(line, " [vdso]") && !strings.Contains(line, "/") {
			addresses, _, _ := strings.Cut(line, " ")
			from, to, _ := strings.Cut(addresses, "-")
			start, _ = strconv.ParseUint(from, 16, 64)
			end, _ = strconv.ParseUint(to, 16, 64)
			break
		}
	}
	return start, end
}

// Writable returns the address of memory that a process may write to, and shares with none,
// nor with a file; 0 where it has none, or it cannot be seen.
func Writable(pid int) uintptr {
	for line := range mapsLines(pid) {
		// "55d0c7a3b000-55d0c7a5c000 rw-p 00000000 00:00 0   [heap]"
		addresses, rest, _ := strings.Cut(line, " ")
		if f := strings.Fields(rest); len(f) >= 4 && (f[0] == "rw-p" || f[0] == "rwxp") && f[3] == "0" {
			start, _, _ := strings.Cut(addresses, "-")
			at, _ := strconv.ParseUint(start, 16, 64)
			return uintptr(at)
		}
	}
	return 0
}

// LacksVDSO reports whether a process has the data of vdso(7) and not its code.
func LacksVDSO(pid int) bool {
	const codeAt = 33 // AT_SYSINFO_EHDR
	text, _ := read(fmt.Sprintf("/proc/%d/auxv", pid))
	for ; len(text) >= 16; text = text[16:] {
		// Where the kernel has put it there is nearly always the ELF file that it is. That is
		// found sooner than all mappings are read.
		magic := make([]byte, 4)
		if at := binary.NativeEndian.Uint64(text[8:]); binary.NativeEndian.Uint64(text) == codeAt && ReadMemory(pid, uintptr(at), magic) && string(magic) == "\x7fELF" {
			return false
		}
	}
	data := false
	for line := range mapsLines(pid) {
		// There is [vvar], and [vvar_vclock] since Linux 6.13.
		if _, name, _ := strings.Cut(line, " ["); !strings.Contains(line, "/") && strings.HasSuffix(name, "]") {
			if name == "vdso]" {
				return false
			}
			data = data || strings.HasPrefix(name, "vvar")
		}
	}
	return data
}

// parseMapping reads a line of a maps file; not ok is one without a path.
func parseMapping(line string) (m Mapping, ok bool, err error) {
	// "7f5a6b000-7f5a6d000 rw-s 00000000 fe:00 1014   /a path"
	head, path, found := strings.Cut(line, "/")
	if !found {
		return m, false, nil
	}
	fields := strings.Fields(head)
	if len(fields) > 5 {
		return m, false, nil // a name with a slash in it: anon_inode:a/b
	}
	if len(fields) < 5 || len(fields[1]) != 4 {
		return m, false, fmt.Errorf("no mapping in %q", line)
	}
	start, end, _ := strings.Cut(fields[0], "-")
	major, minor, _ := strings.Cut(fields[3], ":")
	var dev [2]uint64
	for _, f := range []struct {
		to   *uint64
		text string
		base int
	}{{&m.Start, start, 16}, {&m.End, end, 16}, {&dev[0], major, 16}, {&dev[1], minor, 16}, {&m.Ino, fields[4], 10}} {
		if *f.to, err = strconv.ParseUint(f.text, f.base, 64); err != nil {
			return m, false, fmt.Errorf("no mapping in %q", line)
		}
	}
	m.Dev = unix.Mkdev(uint32(dev[0]), uint32(dev[1]))
	m.Shared = fields[1][3] == 's'
	m.Path = "/" + path
	return m, true, nil
}

// Code returns the addresses at which the first few executable mappings of a process begin.
func Code(pid int) (starts []uint64) {
	const few = 4
	for line, err := range mapsLines(pid) {
		if err != nil || len(starts) == few {
			break
		}
		fields := strings.Fields(line) // START-END PERMISSIONS …
		if len(fields) < 2 || len(fields[1]) < 3 || fields[1][2] != 'x' {
			continue
		}
		first, _, _ := strings.Cut(fields[0], "-")
		if start, err := strconv.ParseUint(first, 16, 64); err == nil && start <= math.MaxInt {
			starts = append(starts, start)
		}
	}
	return starts
}
