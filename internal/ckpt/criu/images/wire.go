package images

import (
	"encoding/binary"
	"fmt"
	"slices"
)

// Protobuf's wire format, as far as images have it. The package protowire would
// read it as well, but every program that links it opens its own executable by
// package os before main, and with that an epoll descriptor of the Go runtime.
// BLCR's module cannot save a process that has one, and cr_checkpoint and
// cr_restart have to be saved while they wait. protowire is the oracle of the
// tests.

// Wire types. Groups (3 and 4) never were in an image.
const (
	wireVarint  = 0
	wireFixed64 = 1
	wireBytes   = 2
	wireFixed32 = 5
)

// field is one field of a message. It is kept small, for messages may have many.
type field struct {
	num  uint32
	wire byte
	head uint8  // how many bytes of raw are its tag and length
	raw  []byte // all of it as it stood in the image, by which it is written
}

// data returns the content of a length-delimited field.
func (f field) data() []byte { return f.raw[f.head:] }

// value returns the number in a varint field.
func (f field) value() uint64 {
	v, _ := binary.Uvarint(f.raw[f.head:])
	return v
}

// message is a protobuf message, field by field in the order of the image. A nil
// message has no fields.
type message []field

// maxFields is how many fields a message may have: each takes much more memory
// than it has bytes. No process has that many mappings.
const maxFields = 1 << 21

// parseMessage splits b, which the message refers to from then on.
func parseMessage(b []byte) (message, error) { return appendMessage(nil, b) }

// appendMessage is parseMessage into the memory of m, which must be empty.
func appendMessage(m message, b []byte) (message, error) {
	if m == nil {
		m = message{}
	}
	for len(b) > 0 {
		if len(m) == maxFields {
			return nil, malformed("there are more than %d fields", maxFields)
		}
		f, err := parseField(b)
		if err != nil {
			return nil, err
		}
		m = append(m, f)
		b = b[len(f.raw):]
	}
	return m, nil
}

// parseField reads the field that b begins with.
func parseField(b []byte) (field, error) {
	tag, head := binary.Uvarint(b)
	if head <= 0 {
		return field{}, malformed("a field's tag is cut off or too long")
	}
	num, wire := tag>>3, byte(tag&7)
	if num == 0 || num >= 1<<29 {
		return field{}, malformed("there is no field number %d", num)
	}
	size := uint64(0)
	switch wire {
	case wireVarint:
		_, n := binary.Uvarint(b[head:])
		if n <= 0 {
			return field{}, malformed("field %d is cut off or too long", num)
		}
		size = uint64(n)
	case wireFixed32:
		size = 4
	case wireFixed64:
		size = 8
	case wireBytes:
		length, n := binary.Uvarint(b[head:])
		if n <= 0 {
			return field{}, malformed("the length of field %d is cut off or too long", num)
		}
		size = length
		head += n
	default:
		return field{}, malformed("field %d is of unknown wire type %d", num, wire)
	}
	if size > uint64(len(b)-head) {
		return field{}, malformed("field %d has %d bytes of %d", num, len(b)-head, size)
	}
	return field{uint32(num), wire, uint8(head), b[:head+int(size)]}, nil
}

// append appends the message's bytes to b.
func (m message) append(b []byte) []byte {
	for _, f := range m {
		b = append(b, f.raw...)
	}
	return b
}

// last returns the field that counts where there are several of a number: the
// last one.
func (m message) last(num uint32, wire byte) (f field, ok bool) {
	for _, f := range slices.Backward(m) {
		if f.num == num && f.wire == wire {
			return f, true
		}
	}
	return field{}, false
}

// u64 returns an integer field, 0 if there is none.
func (m message) u64(num uint32) uint64 {
	f, _ := m.last(num, wireVarint)
	return f.value()
}

// u32 is u64 for fields of 32 bits.
func (m message) u32(num uint32) uint32 { return uint32(m.u64(num)) }

// has reports whether there is that integer field.
func (m message) has(num uint32) bool {
	_, ok := m.last(num, wireVarint)
	return ok
}

// text returns a string or bytes field, "" if there is none.
func (m message) text(num uint32) string {
	f, _ := m.last(num, wireBytes)
	return string(f.data())
}

// sub returns a message in the message, nil if there is none.
func (m message) sub(num uint32) (message, error) {
	f, ok := m.last(num, wireBytes)
	if !ok {
		return nil, nil
	}
	sub, err := parseMessage(f.data())
	if err != nil {
		return nil, fmt.Errorf("in field %d: %w", num, err)
	}
	return sub, nil
}

// repeated returns the values of a repeated integer field, packed or not.
func (m message) repeated(num uint32) ([]uint64, error) {
	var values []uint64
	for _, f := range m {
		switch {
		case f.num != num:
		case f.wire == wireVarint:
			values = append(values, f.value())
		case f.wire == wireBytes:
			for b := f.data(); len(b) > 0; {
				v, n := binary.Uvarint(b)
				if n <= 0 {
					return nil, malformed("field %d is cut off or too long", num)
				}
				values = append(values, v)
				b = b[n:]
			}
		}
	}
	return values, nil
}

// require fails unless the integer fields nums are all there. criu refuses such
// an image as well, but names neither the image nor the field.
func (m message) require(nums ...uint32) error {
	for _, num := range nums {
		if !m.has(num) {
			return malformed("required field %d is missing", num)
		}
	}
	return nil
}

// put returns a message in which f is the only field of its number: in the place
// of the first one, or at the end if there is none.
func (m message) put(f field) message {
	at := slices.IndexFunc(m, func(o field) bool { return o.num == f.num })
	if at < 0 {
		return append(slices.Clone(m), f)
	}
	out := append(slices.Clone(m[:at]), f)
	return append(out, m[at+1:].without(f.num, f.num)...)
}

// without returns the message without the fields from first to last.
func (m message) without(first, last uint32) message {
	out := make(message, 0, len(m))
	for _, f := range m {
		if f.num < first || f.num > last {
			out = append(out, f)
		}
	}
	return out
}

// intField makes an integer field.
func intField(num uint32, v uint64) field {
	head := binary.AppendUvarint(nil, uint64(num)<<3|wireVarint)
	return field{num, wireVarint, uint8(len(head)), binary.AppendUvarint(head, v)}
}

// bytesField makes a string, bytes or message field.
func bytesField(num uint32, data []byte) field {
	head := binary.AppendUvarint(nil, uint64(num)<<3|wireBytes)
	head = binary.AppendUvarint(head, uint64(len(data)))
	return field{num, wireBytes, uint8(len(head)), append(head, data...)}
}
