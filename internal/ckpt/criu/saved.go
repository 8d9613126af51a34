package criu

import (
	"errors"
	"fmt"
	"math"
	"path"
	"strconv"
	"strings"
)

// Files that are mapped into processes are none of criu's images: it notes their
// names. Those that --save-exe and the like ask for are members of the context
// beside the images, "file-1", "file-2" and so on, which only hold what there is
// between the holes of a file. The member "saved-files" tells whose they are. It
// is text, and its first line is
//
//	blcr-cli saved files 1
//
// Each further line is one name of a file:
//
//	"NAME" SIZE MTIME MODE UID GID MAPPED MEMBER [OFFSET+LENGTH]...
//
// NAME is absolute and quoted like a string of Go's. MTIME is in nanoseconds
// since 1970, MODE the octal permissions, MAPPED "shared" where a process may
// write into the file through its memory, else "private". The pieces of data
// are in order, and one behind the other in the member. Two lines may have the
// same member: a file with two names.

// savedList is the name of the list.
const savedList = "saved-files"

// savedFirst is the list's first line.
const savedFirst = "blcr-cli saved files 1\n"

// savedFile is a line of the list.
type savedFile struct {
	name     string
	size     int64
	mtime    int64 // in ns
	mode     uint32
	uid, gid uint32
	shared   bool
	member   string
	data     []piece
}

// piece is a part of a file that is no hole.
type piece struct{ offset, length int64 }

// encodeSaved makes the list.
func encodeSaved(files []*savedFile) []byte {
	b := []byte(savedFirst)
	for _, f := range files {
		mapped := "private"
		if f.shared {
			mapped = "shared"
		}
		b = strconv.AppendQuote(b, f.name)
		b = fmt.Appendf(b, " %d %d %04o %d %d %s %s", f.size, f.mtime, f.mode, f.uid, f.gid, mapped, f.member)
		for _, p := range f.data {
			b = fmt.Appendf(b, " %d+%d", p.offset, p.length)
		}
		b = append(b, '\n')
	}
	return b
}

// errSaved is in all errors of parseSaved.
var errSaved = errors.New("damaged list of saved files")

// memberName is a name that a list may give. Any other would be an image.
var memberName = pattern(`^file-[1-9][0-9]{0,8}$`)

// parseSaved reads the list, which anybody may have made.
func parseSaved(list []byte) ([]*savedFile, error) {
	text, ok := strings.CutPrefix(string(list), savedFirst)
	if !ok {
		return nil, fmt.Errorf("%w: it is of another kind", errSaved)
	}
	var files []*savedFile
	for line := range strings.Lines(text) {
		f, err := parseSavedLine(line)
		if err != nil {
			return nil, fmt.Errorf("%w: line %d: %v", errSaved, len(files)+2, err)
		}
		files = append(files, f)
	}
	return files, nil
}

func parseSavedLine(line string) (*savedFile, error) {
	line, ok := strings.CutSuffix(line, "\n")
	if !ok {
		return nil, errors.New("it is cut off")
	}
	quoted, err := strconv.QuotedPrefix(line)
	if err != nil || quoted[0] != '"' {
		return nil, errors.New("it has no name")
	}
	f := new(savedFile)
	f.name, _ = strconv.Unquote(quoted)
	// A file has a name of its own, and is not a directory.
	if !path.IsAbs(f.name) || path.Clean(f.name) != f.name || f.name == "/" || strings.ContainsRune(f.name, 0) {
		return nil, fmt.Errorf("%q is no name of a file", f.name)
	}
	fields := strings.Split(line[len(quoted):], " ")
	if len(fields) < 8 || fields[0] != "" {
		return nil, errors.New("fields are missing")
	}
	p := &numberParser{}
	f.size = p.number(fields[1], 10, 0, math.MaxInt64)
	f.mtime = p.number(fields[2], 10, math.MinInt64, math.MaxInt64)
	f.mode = uint32(p.number(fields[3], 8, 0, 0o7777))
	f.uid = uint32(p.number(fields[4], 10, 0, math.MaxUint32))
	f.gid = uint32(p.number(fields[5], 10, 0, math.MaxUint32))
	switch fields[6] {
	case "shared":
		f.shared = true
	case "private":
	default:
		return nil, fmt.Errorf("%q is neither shared nor private", fields[6])
	}
	if f.member = fields[7]; !memberName().MatchString(f.member) {
		return nil, fmt.Errorf("%q is no name of a member", f.member)
	}
	end := int64(0)
	for _, field := range fields[8:] {
		offset, length, _ := strings.Cut(field, "+")
		d := piece{offset: p.number(offset, 10, end, f.size)}
		d.length = p.number(length, 10, 1, f.size-d.offset)
		end = d.offset + d.length
		f.data = append(f.data, d)
	}
	return f, p.err
}

// numberParser parses numbers and keeps the first error.
type numberParser struct{ err error }

func (p *numberParser) number(text string, base int, least, most int64) int64 {
	n, err := strconv.ParseInt(text, base, 64)
	if err == nil && (n < least || n > most) {
		err = errors.New("out of range")
	}
	if err != nil {
		if p.err == nil {
			p.err = fmt.Errorf("%q is no number that can be here", text)
		}
		return least
	}
	return n
}
