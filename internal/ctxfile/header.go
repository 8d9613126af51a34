package ctxfile

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	pageSize = 4096 // of the format, whatever the machine's is

	magicWords = "blcr-cli context "
	version    = "1"
	version2   = "2" // with compression

	// Zstd is the one compression that there is.
	Zstd = "zstd"

	// Where the header's text ends and the numbers are.
	tailOffset = pageSize - 64
	idOffset   = tailOffset + 8
	idLen      = 16
	sumOffset  = pageSize - 4

	// What the parts of the text may take, so that all of them fit.
	maxValue = 300
	maxList  = 1000
	ellipsis = "..."
)

// Header is what a context says of itself, for people and for the choice of an
// engine. The zero value of a field means that it is not known. Strings that
// Open returns may hold anything: quote them before printing.
type Header struct {
	Engine  string    // what saved, and its version: "criu 4.1.1"
	Created time.Time // kept to the second
	Host    string    // nodename
	Kernel  string    // release
	Machine string    // architecture, as uname -m has it

	// Compression is how images are compressed: Zstd, or "" for not at all. It
	// is up to the kind of the Writer, and what is here before is ignored.
	Compression string

	Command []string // arguments of the root process
	PIDs    []int    // processes saved, the root first

	// Cut says that Command or PIDs was too long for the header and has lost
	// its end. Open sets it; NewWriter finds out for itself.
	Cut bool
}

// page is the header page, sealed, with a trailer offset of 0.
func (h Header) page(id [idLen]byte) []byte {
	p := bytes.Repeat([]byte{'\n'}, pageSize)
	clear(p[tailOffset:])
	copy(p[:tailOffset-1], h.text())
	copy(p[idOffset:], id[:])
	binary.LittleEndian.PutUint32(p[sumOffset:], headerSum(p))
	return p
}

// headerSum is the checksum of a header page.
func headerSum(p []byte) uint32 {
	sum := checksum(0, p[:tailOffset])
	sum = checksum(sum, make([]byte, 8))
	return checksum(sum, p[idOffset:sumOffset])
}

func (h Header) text() string {
	var b strings.Builder
	v := version
	if h.Compression != "" {
		v = version2
	}
	b.WriteString(magicWords + v + "\n")
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

// list returns words as the value of a line. Of the first word that does not
// fit, the beginning remains if that makes sense.
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
	if len(s) > limit {
		s = s[:max(0, limit)]
	}
	for s != "" && len(quote(s)) > limit {
		_, n := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-n]
	}
	return s
}

// sniff tells from its beginning what a file is. maybe says that more bytes
// are needed to tell.
func sniff(b []byte) (k Kind, maybe bool) {
	var blcr [8]byte // two ints, in the machine's order
	binary.NativeEndian.PutUint32(blcr[:], 'C')
	binary.NativeEndian.PutUint32(blcr[4:], 'R')
	for kind, magic := range map[Kind]string{Ours: magicWords, BLCR: string(blcr[:])} {
		n := min(len(b), len(magic))
		if string(b[:n]) != magic[:n] {
			continue
		}
		if n == len(magic) {
			return kind, false
		}
		maybe = true
	}
	return Unknown, maybe
}

// parseHeader reads a header page.
func parseHeader(p []byte) (h Header, id [idLen]byte, trailer uint64, err error) {
	text, ok := strings.CutPrefix(string(p[:tailOffset]), magicWords)
	if !ok {
		return h, id, 0, refuse(Unknown)
	}
	first, text, _ := strings.Cut(text, "\n")
	if first != version && first != version2 {
		if len(first) > 16 || strings.ContainsFunc(first, func(c rune) bool { return c < '0' || c > '9' }) {
			return h, id, 0, refuse(Unknown)
		}
		return h, id, 0, invalid("", "version %s of the format is not known to this program", first)
	}
	if headerSum(p) != binary.LittleEndian.Uint32(p[sumOffset:]) {
		return h, id, 0, invalid("", "header checksum does not match")
	}
	text, _, _ = strings.Cut("\n"+text, "\n\n")
	for line := range strings.SplitSeq(text, "\n") {
		if key, value, ok := strings.Cut(line, ": "); ok {
			h.set(key, value)
		}
	}
	if first == version {
		h.Compression = ""
	} else if h.Compression != Zstd {
		return h, id, 0, invalid("", "compression by %q is not known to this program", h.Compression)
	}
	copy(id[:], p[idOffset:])
	return h, id, binary.LittleEndian.Uint64(p[tailOffset:]), nil
}

// set takes one line. What it cannot make sense of it leaves out: the context
// is no worse for it.
func (h *Header) set(key, value string) {
	switch key {
	case "engine":
		h.Engine = unplain(value)
	case "created":
		if t, err := time.Parse(time.RFC3339, value); err == nil {
			h.Created = t.UTC()
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

func unplain(value string) string {
	if s, err := strconv.Unquote(value); err == nil {
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
		if q, err := strconv.QuotedPrefix(value); err == nil {
			w, _ = strconv.Unquote(q)
			rest = value[len(q):]
		}
		words = append(words, w)
		value = rest
	}
}
