// Package wire encodes and decodes the messages between clients and agents of the CIFTS
// Fault Tolerance Backplane (FTB), versions 0.6 to 0.6.2 and the trunk of 2011, and the
// datagrams of their bootstrap server. It knows no socket, and not the order of
// messages.
//
// There is no version number, length or checksum on the wire: structures are sent as
// they are in the memory of a little-endian machine, including padding. Fields that the
// C library leaves unset are sent as zero here, and ignored when they are received.
//
// Encode appends to a slice. It fails, with a *FieldError, only if a string
// does not fit. Decode reads the start of a slice and ignores what follows; it
// fails with io.ErrUnexpectedEOF if the slice is too short, and with a
// *FieldError if a string has no end. A failed Decode has changed nothing.
//
// Clients and agents ignore case when they compare strings, of ASCII letters only.
package wire

import (
	"encoding/binary"
	"fmt"
	"io"
)

// Encoded sizes in bytes.
const (
	LocationSize = 100  // Location
	ClientIDSize = 209  // ClientID
	IDSize       = 312  // ID, including 3 bytes of padding
	EventSize    = 708  // Event, including 1 byte of padding
	MessageSize  = 1336 // Message
	HelloSize    = 1440 // Hello: system id, Location and Message
	HandleSize   = 360  // Handle
	PayloadSize  = 368  // Event.Payload
)

// Largest lengths of strings in bytes, without the NUL that ends them on the wire.
const (
	MaxSpacePart = 63 // each of Region, CompCat and Comp
	MaxName      = 31 // an event's name
	MaxSeverity  = 15
	MaxClient    = 15 // a client's name
	MaxJobID     = 15
	MaxHostname  = 63
	MaxStartTime = 31
)

// FieldError is the error for a string that does not fit into its field.
type FieldError struct {
	Field string // what the field is called in FTB, such as "event_name"
	Size  int    // size of the field in bytes, including the NUL
	Value string // the string, as far as it is known
}

func (e *FieldError) Error() string {
	return fmt.Sprintf("%s: %q does not fit in %d bytes that end in a NUL", e.Field, e.Value, e.Size)
}

// short returns io.ErrUnexpectedEOF if src has fewer than n bytes.
func short(src []byte, n int) error {
	if len(src) < n {
		return io.ErrUnexpectedEOF
	}
	return nil
}

// encoder appends fields to b until one fails.
type encoder struct {
	b   []byte
	err error
}

// text appends s to a field of size bytes. It refuses a NUL within s, which would
// truncate s without notice.
func (e *encoder) text(field, s string, size int) {
	if e.err == nil && (len(s) >= size || hasNUL(s)) {
		e.err = &FieldError{field, size, s}
	}
	if e.err != nil {
		return
	}
	e.b = append(e.b, s...)
	e.zeros(size - len(s))
}

func (e *encoder) zeros(n int) {
	for range n {
		e.b = append(e.b, 0)
	}
}

func (e *encoder) byte(v uint8)    { e.b = append(e.b, v) }
func (e *encoder) uint16(v uint16) { e.b = binary.LittleEndian.AppendUint16(e.b, v) }
func (e *encoder) uint32(v uint32) { e.b = binary.LittleEndian.AppendUint32(e.b, v) }

// done returns the result of an Encode into dst: on failure nothing is appended.
func (e *encoder) done(dst []byte) ([]byte, error) {
	if e.err != nil {
		return dst, e.err
	}
	return e.b, nil
}

// decoder takes fields off b, which is long enough.
type decoder struct {
	b   []byte
	err error
}

func (d *decoder) bytes(n int) []byte {
	b := d.b[:n]
	d.b = d.b[n:]
	return b
}

// text takes the string off a field of size bytes.
func (d *decoder) text(field string, size int) string {
	b := d.bytes(size)
	for i, c := range b {
		if c == 0 {
			return string(b[:i])
		}
	}
	if d.err == nil {
		d.err = &FieldError{field, size, string(b)}
	}
	return ""
}

func (d *decoder) byte() uint8    { return d.bytes(1)[0] }
func (d *decoder) uint16() uint16 { return binary.LittleEndian.Uint16(d.bytes(2)) }
func (d *decoder) uint32() uint32 { return binary.LittleEndian.Uint32(d.bytes(4)) }

func hasNUL(s string) bool {
	for i := range len(s) {
		if s[i] == 0 {
			return true
		}
	}
	return false
}

// EqualFold reports whether FTB takes two strings to be the same: without
// case, where ASCII letters only have one, as strcasecmp in the C locale.
func EqualFold(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		if lower(a[i]) != lower(b[i]) {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}
