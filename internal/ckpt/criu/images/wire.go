package images

import (
	"encoding/binary"
	"fmt"
	"slices"
)

// Wire types of protobuf. Groups (3 and 4) never were in an image.
const (
	wireVarint  = 0
	wireFixed64 = 1
	wireBytes   = 2
	wireFixed32 = 5
)

// field is one field of a message. raw is all of it as it stood in the image,
// so that what is not understood goes out as it came in.
type field struct {
	num   uint32
	wire  byte
	value uint64 // of a varint or fixed field
	data  []byte // of a length-delimited field
	raw   []byte
}

// message is a protobuf message, field by field in the order of the image.
type message []field

// mostFields is how many fields a message may have: each takes a lot more memory
// than it has bytes. No process has that many mappings.
const mostFields = 1 << 21

// parseMessage splits b, which the message goes on to refer to.
func parseMessage(b []byte) (message, error) { return appendMessage(nil, b) }

// appendMessage is parseMessage with the memory of m, which is empty.
func appendMessage(m message, b []byte) (message, error) {
	for at := 0; at < len(b); {
		start := at
		tag, n := binary.Uvarint(b[at:])
		if n <= 0 {
			return nil, malformed("a field's tag is cut off or too long")
		}
		at += n
		f := field{num: uint32(tag >> 3), wire: byte(tag & 7)}
		if tag>>3 == 0 || tag>>3 >= 1<<29 {
			return nil, malformed("there is no field number %d", tag>>3)
		}
		switch f.wire {
		case wireVarint:
			if f.value, n = binary.Uvarint(b[at:]); n <= 0 {
				return nil, malformed("field %d is cut off or too long", f.num)
			}
			at += n
		case wireFixed32, wireFixed64:
			n = 4
			if f.wire == wireFixed64 {
				n = 8
			}
			if len(b)-at < n {
				return nil, malformed("field %d is cut off", f.num)
			}
			if n == 4 {
				f.value = uint64(binary.LittleEndian.Uint32(b[at:]))
			} else {
				f.value = binary.LittleEndian.Uint64(b[at:])
			}
			at += n
		case wireBytes:
			size, n := binary.Uvarint(b[at:])
			if n <= 0 {
				return nil, malformed("the length of field %d is cut off or too long", f.num)
			}
			at += n
			if size > uint64(len(b)-at) {
				return nil, malformed("field %d has %d bytes of %d", f.num, len(b)-at, size)
			}
			f.data = b[at : at+int(size)]
			at += int(size)
		default:
			return nil, malformed("field %d is of unknown wire type %d", f.num, f.wire)
		}
		f.raw = b[start:at]
		if len(m) == mostFields {
			return nil, malformed("there are more than %d fields", mostFields)
		}
		m = append(m, f)
	}
	return m, nil
}

// encode is the message as bytes again.
func (m message) encode() []byte {
	size := 0
	for _, f := range m {
		size += len(f.raw)
	}
	b := make([]byte, 0, size)
	for _, f := range m {
		b = append(b, f.raw...)
	}
	return b
}

// last is the field num that counts: of several the last one.
func (m message) last(num uint32, wire byte) (field, bool) {
	for _, f := range slices.Backward(m) {
		if f.num == num && f.wire == wire {
			return f, true
		}
	}
	return field{}, false
}

// number is an optional integer field.
func (m message) number(num uint32) (uint64, bool) {
	f, ok := m.last(num, wireVarint)
	return f.value, ok
}

// u32 is the value of an integer field, 0 if there is none.
func (m message) u32(num uint32) uint32 {
	v, _ := m.number(num)
	return uint32(v)
}

// u64 is the value of an integer field, 0 if there is none.
func (m message) u64(num uint32) uint64 {
	v, _ := m.number(num)
	return v
}

// flag is the value of a bool field, false if there is none.
func (m message) flag(num uint32) bool {
	v, _ := m.number(num)
	return v != 0
}

// text is the value of a string or bytes field, "" if there is none.
func (m message) text(num uint32) string {
	f, _ := m.last(num, wireBytes)
	return string(f.data)
}

// sub is a message in the message; ok is false if there is none.
func (m message) sub(num uint32) (sub message, ok bool, err error) {
	f, ok := m.last(num, wireBytes)
	if !ok {
		return nil, false, nil
	}
	if sub, err = parseMessage(f.data); err != nil {
		return nil, false, fmt.Errorf("in field %d: %w", num, err)
	}
	return sub, true, nil
}

// numbers are the values of a repeated integer field, packed or not.
func (m message) numbers(num uint32) ([]uint64, error) {
	var all []uint64
	for _, f := range m {
		switch {
		case f.num != num:
		case f.wire == wireVarint:
			all = append(all, f.value)
		case f.wire == wireBytes:
			for b := f.data; len(b) > 0; {
				v, n := binary.Uvarint(b)
				if n <= 0 {
					return nil, malformed("field %d is cut off or too long", num)
				}
				all = append(all, v)
				b = b[n:]
			}
		}
	}
	return all, nil
}

// require fails unless the integer fields nums are all there. criu refuses such
// an image as well, but names neither the image nor the field.
func (m message) require(nums ...uint32) error {
	for _, num := range nums {
		if _, ok := m.number(num); !ok {
			return malformed("required field %d is missing", num)
		}
	}
	return nil
}

// put makes f the only field of its number, in the place of the one it
// replaces, at the end if there is none.
func (m message) put(f field) message {
	at := slices.IndexFunc(m, func(o field) bool { return o.num == f.num })
	if at < 0 {
		return append(slices.Clone(m), f)
	}
	out := append(slices.Clone(m[:at]), f)
	return append(out, m[at+1:].without(f.num)...)
}

// without is the message without the fields nums.
func (m message) without(nums ...uint32) message {
	out := make(message, 0, len(m))
	for _, f := range m {
		if !slices.Contains(nums, f.num) {
			out = append(out, f)
		}
	}
	return out
}

// numberField makes an integer field.
func numberField(num uint32, v uint64) field {
	raw := binary.AppendUvarint(nil, uint64(num)<<3|wireVarint)
	return field{num: num, wire: wireVarint, value: v, raw: binary.AppendUvarint(raw, v)}
}

// bytesField makes a string, bytes or message field.
func bytesField(num uint32, data []byte) field {
	raw := binary.AppendUvarint(nil, uint64(num)<<3|wireBytes)
	raw = binary.AppendUvarint(raw, uint64(len(data)))
	return field{num: num, wire: wireBytes, data: data, raw: append(raw, data...)}
}
