package images

import (
	"errors"
	"fmt"
	"math"
	"path"
	"strconv"
	"strings"
)

// CRIU's images have the names of mapped files, but not their content. The files
// that --save-exe and its like ask for are members of the context beside the
// images, "file-1", "file-2" and so on, which have only what lies between the
// holes of a file. The member SavedFilesName lists them. It is text, and its
// first line is
//
//	blcr-cli saved files 1
//
// Each further line is one name of a file:
//
//	"NAME" SIZE MTIME MODE UID GID MAPPED MEMBER [OFFSET+LENGTH]...
//
// NAME is absolute and quoted like a string of Go. MTIME is in nanoseconds since
// 1970, MODE the octal permissions, MAPPED "shared" where a process may write into
// the file through its memory, else "private". The extents are in order, and one
// behind the other in the member. Two lines may have the same member: a file with
// two names.

// savedFilesHeader is the list's first line.
const savedFilesHeader = "blcr-cli saved files 1\n"

// SavedFile is a file that was saved with the processes, under one of its names.
type SavedFile struct {
	Name     string // absolute and clean
	Size     int64
	MTime    int64  // in nanoseconds since 1970
	Mode     uint32 // permissions only
	UID, GID uint32
	Shared   bool     // a process may write into it through its memory
	Member   string   // the member of the context that has its extents; see IsSavedFile
	Data     []Extent // in order
}

// Extent is a part of a file that is no hole, in bytes.
type Extent struct{ Offset, Length int64 }

// EncodeSavedFiles returns the list.
func EncodeSavedFiles(files []*SavedFile) []byte {
	b := []byte(savedFilesHeader)
	for _, f := range files {
		mapped := "private"
		if f.Shared {
			mapped = "shared"
		}
		b = strconv.AppendQuote(b, f.Name)
		b = fmt.Appendf(b, " %d %d %04o %d %d %s %s", f.Size, f.MTime, f.Mode, f.UID, f.GID, mapped, f.Member)
		for _, e := range f.Data {
			b = fmt.Appendf(b, " %d+%d", e.Offset, e.Length)
		}
		b = append(b, '\n')
	}
	return b
}

// ErrSavedFiles is wrapped by every error about saved files.
var ErrSavedFiles = errors.New("damaged list of saved files")

// SavedFileName returns the name of the nth member with a file, from 1 on.
func SavedFileName(n int) string { return savedFilePrefix + strconv.Itoa(n) }

const savedFilePrefix = "file-"

// IsSavedFile reports whether a name may be that of a member with a saved file:
// SavedFileName of at most 9 digits.
func IsSavedFile(name string) bool {
	digits, ok := strings.CutPrefix(name, savedFilePrefix)
	n, err := strconv.ParseUint(digits, 10, 32)
	return ok && err == nil && n < 1e9 && n > 0 && SavedFileName(int(n)) == name
}

// ParseSavedFiles reads the list, which anyone may have made. The error wraps
// ErrSavedFiles.
func ParseSavedFiles(list []byte) ([]*SavedFile, error) {
	text, ok := strings.CutPrefix(string(list), savedFilesHeader)
	if !ok {
		return nil, fmt.Errorf("%w: it is of another kind", ErrSavedFiles)
	}
	var files []*SavedFile
	for line := range strings.Lines(text) {
		f, err := parseSavedFile(line)
		if err != nil {
			return nil, fmt.Errorf("%w: line %d: %v", ErrSavedFiles, len(files)+2, err)
		}
		files = append(files, f)
	}
	return files, nil
}

// parseSavedFile reads one line.
func parseSavedFile(line string) (*SavedFile, error) {
	line, ok := strings.CutSuffix(line, "\n")
	if !ok {
		return nil, errors.New("it is cut off")
	}
	quoted, err := strconv.QuotedPrefix(line)
	if err != nil || quoted[0] != '"' {
		return nil, errors.New("it has no name")
	}
	f := new(SavedFile)
	f.Name, _ = strconv.Unquote(quoted)
	// A copy is made of the base name, below a directory of its own.
	if !path.IsAbs(f.Name) || path.Clean(f.Name) != f.Name || f.Name == "/" || strings.ContainsRune(f.Name, 0) {
		return nil, fmt.Errorf("%q is no name of a file", f.Name)
	}
	fields := strings.Split(line[len(quoted):], " ")
	if len(fields) < 8 || fields[0] != "" {
		return nil, errors.New("fields are missing")
	}
	p := &intParser{}
	f.Size = p.int(fields[1], 10, 0, math.MaxInt64)
	f.MTime = p.int(fields[2], 10, math.MinInt64, math.MaxInt64)
	f.Mode = uint32(p.int(fields[3], 8, 0, 0o7777))
	f.UID = uint32(p.int(fields[4], 10, 0, math.MaxUint32))
	f.GID = uint32(p.int(fields[5], 10, 0, math.MaxUint32))
	switch fields[6] {
	case "shared":
		f.Shared = true
	case "private":
	default:
		return nil, fmt.Errorf("%q is neither shared nor private", fields[6])
	}
	if f.Member = fields[7]; !IsSavedFile(f.Member) {
		return nil, fmt.Errorf("%q is no name of a member", f.Member)
	}
	end := int64(0)
	for _, field := range fields[8:] {
		offset, length, _ := strings.Cut(field, "+")
		e := Extent{Offset: p.int(offset, 10, end, f.Size)}
		e.Length = p.int(length, 10, 1, f.Size-e.Offset)
		end = e.Offset + e.Length
		f.Data = append(f.Data, e)
	}
	return f, p.err
}

// intParser parses numbers and keeps the first error.
type intParser struct{ err error }

// int returns the number, or least and p.err for one that is not from least to
// most.
func (p *intParser) int(text string, base int, least, most int64) int64 {
	n, err := strconv.ParseInt(text, base, 64)
	if err == nil && least <= n && n <= most {
		return n
	}
	if p.err == nil {
		p.err = fmt.Errorf("%q is no number that can be here", text)
	}
	return least
}
