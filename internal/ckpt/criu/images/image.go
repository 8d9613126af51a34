// Package images reads CRIU's images, and changes the few that a restart changes
// while it serves them to criu: who is in which session and group, where files
// are, and which descriptors come from cr_restart.
//
// It turns bytes into bytes and knows no file, socket or process. Images come
// from a context file, which anyone may have made: whatever they hold, the
// answer is an image or an error that wraps [ErrMalformed]. Fields and entries
// that the package does not know come out byte for byte as they went in, so
// images of a newer criu pass.
//
// It has its own few lines of protobuf. The generated types of all of CRIU's
// images would cost each start of cr_restart more time than the patching does.
//
// The numbers of fields and the magics are from images/*.proto and
// criu/include/magic.h of CRIU 4.2.
package images

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// ErrMalformed is in every error about bytes that are no image of the kind
// asked for.
var ErrMalformed = errors.New("malformed image")

// malformed makes an ErrMalformed that says what is wrong.
func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
}

// kind is what an image begins with, and its name for messages.
type kind struct {
	name  string
	magic uint32
}

// The kinds of images.
var (
	kindPstree    = kind{"pstree", 0x50273030}
	kindFiles     = kind{"files", 0x56303138}
	kindFDInfo    = kind{"fdinfo", 0x56213732}
	kindIDs       = kind{"ids", 0x54432030}
	kindFS        = kind{"fs", 0x51403912}
	kindMM        = kind{"mm", 0x57492820}
	kindCore      = kind{"core", 0x55053847}
	kindTTYInfo   = kind{"tty-info", 0x59453036}
	kindTTYData   = kind{"tty-data", 0x59413026}
	kindRemap     = kind{"remap-fpath", 0x59133954}
	kindPipesData = kind{"pipes-data", 0x56453709}
	kindTimens    = kind{"timens", 0x43114433}
	kindInventory = kind{"inventory", 0x58313116}
	kindPagemap   = kind{"pagemap", 0x56084025}
	kindMemFD     = kind{"memfd", 0x48453499}
)

// commonMagic comes before the magic of the kind in all images but inventory.
const commonMagic = 0x54564319

// body checks the magics of img; the entries begin at the offset it returns.
func (k kind) body(img []byte) (int, error) {
	magics := []uint32{commonMagic, k.magic}
	if k == kindInventory {
		magics = magics[1:]
	}
	for i, want := range magics {
		if len(img) < 4*i+4 {
			return 0, fmt.Errorf("%s: %w", k.name, malformed("%d bytes are too few", len(img)))
		}
		if got := binary.LittleEndian.Uint32(img[4*i:]); got != want {
			return 0, fmt.Errorf("%s: %w", k.name, malformed("magic number is %#x, not %#x", got, want))
		}
	}
	return 4 * len(magics), nil
}

// entries calls f with every entry of img, and with what follows the entry; f
// returns how much of that belongs to the entry (see pipes-data).
func (k kind) entries(img []byte, f func(entry message, rest []byte) (raw int, err error)) error {
	at, err := k.body(img)
	if err != nil {
		return err
	}
	for i := 0; at < len(img); i++ {
		payload, err := next(img[at:])
		if err == nil {
			at += 4 + len(payload)
			var m message
			if m, err = parseMessage(payload); err == nil {
				var raw int
				raw, err = f(m, img[at:])
				at += raw
			}
		}
		if err != nil {
			return fmt.Errorf("%s: entry %d: %w", k.name, i, err)
		}
	}
	return nil
}

// next is the payload of the entry that b begins with.
func next(b []byte) ([]byte, error) {
	if len(b) < 4 {
		return nil, malformed("its length is cut off")
	}
	size := binary.LittleEndian.Uint32(b)
	if uint64(size) > uint64(len(b)-4) {
		return nil, malformed("it has %d bytes of %d", len(b)-4, size)
	}
	return b[4 : 4+size], nil
}

// each is entries for images that hold nothing but entries.
func (k kind) each(img []byte, f func(entry message) error) error {
	return k.entries(img, func(m message, _ []byte) (int, error) { return 0, f(m) })
}

// only is the first entry of an image that holds one.
func (k kind) only(img []byte) (message, error) {
	at, err := k.body(img)
	if err != nil {
		return nil, err
	}
	payload, err := next(img[at:])
	if err != nil {
		return nil, fmt.Errorf("%s: %w", k.name, err)
	}
	m, err := parseMessage(payload)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", k.name, err)
	}
	return m, nil
}

// verdict is what becomes of an entry.
type verdict int

const (
	keep    verdict = iota // as it is
	replace                // by the message returned
	remove
)

// rewrite is img with f's changes, or img itself if there are none.
func (k kind) rewrite(img []byte, f func(entry message) (message, verdict, error)) (out []byte, changed bool, err error) {
	at, err := k.body(img)
	if err != nil {
		return nil, false, err
	}
	out = append(make([]byte, 0, len(img)), img[:at]...)
	err = k.each(img, func(m message) error {
		m, what, err := f(m)
		if err != nil || what == remove {
			changed = true
			return err
		}
		if what == replace {
			changed = true
		}
		payload := m.encode()
		out = binary.LittleEndian.AppendUint32(out, uint32(len(payload)))
		out = append(out, payload...)
		return nil
	})
	if err != nil {
		return nil, false, err
	}
	if !changed {
		return img, false, nil
	}
	return out, true, nil
}
