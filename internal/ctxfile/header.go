package ctxfile

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"
)

const (
	magicWords = "blcr-cli context "
	version2   = 2 // the first with compression
	version3   = 3 // the first with checksums of everything

	// Zstd is the only compression that there is.
	Zstd = "zstd"

	// Where the header's text ends and the numbers are.
	trailerField = pageSize - 64
	idField      = trailerField + 8
	idLen        = 16
	sumField     = pageSize - 4

	// What the parts of the text may take, so that all of them fit.
	maxValue = 300
	maxList  = 1000
	ellipsis = "..."
)

// Header is what a context says of itself, for people and for the choice of an
// engine. The zero value of a field means that it is not known. Strings that come
// from Open may hold anything: quote them before printing.
type Header struct {
	Engine  string    // what saved the processes, and its version: "criu 4.1.1"
	Created time.Time // kept to the second
	Host    string    // nodename
	Kernel  string    // release
	Machine string    // architecture, as uname -m has it

	// Compression is how members are compressed: Zstd, or "" for not at all.
	// NewWriter ignores it.
	Compression string

	Command []string // arguments of the root process
	PIDs    []int    // processes saved, the root first

	// Cut says that Command or PIDs was too long for the header and has lost
	// its end. Open sets it; NewWriter finds out for itself.
	Cut bool
}

// page returns the header page, with its checksum and a trailer offset of 0.
func (h Header) page(id [idLen]byte) []byte {
	p := bytes.Repeat([]byte{'\n'}, pageSize)
	clear(p[trailerField:])
	copy(p[:trailerField-1], h.text())
	copy(p[idField:], id[:])
	binary.LittleEndian.PutUint32(p[sumField:], headerSum(p))
	return p
}

// headerSum is the checksum of a header page.
func headerSum(p []byte) uint32 {
	sum := checksum(0, p[:trailerField])
	sum = checksum(sum, make([]byte, 8))
	return checksum(sum, p[idField:sumField])
}

func (h Header) text() string {
	var b strings.Builder
	b.WriteString(magicWords + strconv.Itoa(version3) + "\n")
	line := func(key, value string) {
		if value != "" {
			fmt.Fprintf(&b, "%s: %s\n", key, value)
		}
	}
	line("engine", plain(h.Engine))
	if !h.Created.IsZero() {
		line("created", h.Created.UTC().Format(time.RFC3339))
	}
	line("host", plain(h.Host))
	line("kernel", plain(h.Kernel))
	line("machine", plain(h.Machine))
	line("compression", plain(h.Compression))
	line("command", list(h.Command, true))
	pids := make([]string, len(h.PIDs))
	for i, pid := range h.PIDs {
		pids[i] = strconv.Itoa(pid)
	}
	line("pids", list(pids, false))
	return b.String()
}

// plain returns s as the value of a line.
func plain(s string) string {
	s = shorten(s, maxValue-2, strconv.Quote)
	if quoted := strconv.Quote(s); len(quoted) != len(s)+2 || strings.HasPrefix(s, " ") || strings.HasSuffix(s, " ") {
		return quoted
	}
	return s
}

// list returns words as the value of a line. Of the first word that does not fit,
// the beginning remains if beginning is set.
func list(words []string, beginning bool) string {
	var b strings.Builder
	for _, w := range words {
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		room := maxList - b.Len() - len(" "+ellipsis)
		if q := word(w); len(q) <= room {
			b.WriteString(q)
			continue
		}
		if w = shorten(w, room, word); w != "" && beginning {
			b.WriteString(word(w) + " ")
		}
		b.WriteString(ellipsis)
		break
	}
	return b.String()
}

// word returns s so that it is one word of a list, and not the ellipsis.
func word(s string) string {
	if s == "" || s == ellipsis {
		return strconv.Quote(s)
	}
	for _, c := range s {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case strings.ContainsRune("_-+./,:=@%", c):
		default:
			return strconv.Quote(s)
		}
	}
	return s
}

// shorten cuts s so that quote makes at most limit bytes of it.
func shorten(s string, limit int, quote func(string) string) string {
	s = s[:max(0, min(len(s), limit))]
	for s != "" {
		excess := len(quote(s)) - limit
		if excess <= 0 {
			break
		}
		// A byte becomes four at most, as \x1b.
		cut := len(s) - max(1, excess/4)
		for i := 1; i < utf8.UTFMax && cut > 0 && !utf8.RuneStart(s[cut]); i++ {
			cut--
		}
		s = s[:cut]
	}
	return s
}

// headerPage is what a header page says.
type headerPage struct {
	Header
	version int
	id      [idLen]byte
	trailer uint64 // its offset, or 0
}

// parsePage reads a header page, or less of one.
func parsePage(p []byte) (headerPage, error) {
	var h headerPage
	k, maybe := kindOf(p)
	switch {
	case len(p) == 0:
		return h, &Error{Op: "read", Errno: syscall.EIO, Reason: ErrEmpty.Error(), kind: ErrEmpty}
	case k != Ours && !maybe:
		return h, refuse(k)
	case len(p) < pageSize:
		return h, truncated("", "the header is incomplete")
	}
	first, text, _ := strings.Cut(string(p[len(magicWords):trailerField]), "\n")
	if len(first) > 16 || strings.ContainsFunc(first, func(c rune) bool { return c < '0' || c > '9' }) {
		return h, refuse(Unknown)
	}
	h.version, _ = strconv.Atoi(first)
	if h.version < 1 || h.version > version3 || first != strconv.Itoa(h.version) {
		return h, &Error{Op: "read", Errno: syscall.EINVAL, kind: ErrVersion,
			Reason: "version " + first + " of the format is not known to this program"}
	}
	if headerSum(p) != binary.LittleEndian.Uint32(p[sumField:]) {
		return h, invalid("", "header checksum does not match")
	}
	text, _, _ = strings.Cut("\n"+text, "\n\n")
	for line := range strings.SplitSeq(text, "\n") {
		if key, value, ok := strings.Cut(line, ": "); ok {
			h.set(key, value)
		}
	}
	switch {
	case h.version < version2:
		h.Compression = ""
	case h.version == version2 && h.Compression == "", h.Compression != "" && h.Compression != Zstd:
		return h, invalid("", "compression by %q is not known to this program", h.Compression)
	}
	copy(h.id[:], p[idField:])
	h.trailer = binary.LittleEndian.Uint64(p[trailerField:])
	return h, nil
}

// set takes one line. It ignores what it does not understand: nothing of the
// restart depends on that.
func (h *Header) set(key, value string) {
	switch key {
	case "engine":
		h.Engine = unplain(value)
	case "created":
		if t, err := time.Parse(time.RFC3339, value); err == nil {
			h.Created = t.UTC().Truncate(time.Second)
		}
	case "host":
		h.Host = unplain(value)
	case "kernel":
		h.Kernel = unplain(value)
	case "machine":
		h.Machine = unplain(value)
	case "compression":
		h.Compression = unplain(value)
	case "command":
		h.Command = h.words(value)
	case "pids":
		h.PIDs = nil
		for _, w := range h.words(value) {
			if pid, err := strconv.Atoi(w); err == nil {
				h.PIDs = append(h.PIDs, pid)
			}
		}
	}
}

// unplain reverses plain.
func unplain(value string) string {
	if s, err := strconv.Unquote(value); err == nil && value[0] == '"' {
		return s
	}
	return value
}

// words takes a list apart, and notes if it was cut.
func (h *Header) words(value string) (words []string) {
	for {
		value = strings.TrimLeft(value, " ")
		if value == "" {
			return words
		}
		w, rest, _ := strings.Cut(value, " ")
		if w == ellipsis && rest == "" {
			h.Cut = true
			return words
		}
		if q, err := strconv.QuotedPrefix(value); err == nil && value[0] == '"' {
			w, _ = strconv.Unquote(q)
			rest = value[len(q):]
		}
		words = append(words, w)
		value = rest
	}
}
