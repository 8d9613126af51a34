// Package images reads CRIU's images and changes the few that a restart changes
// while they are served to criu: sessions and process groups, names of files,
// controlling terminals, descriptors that are inherited from cr_restart.
//
// It also has the names of images, and the two members of a context that are not
// CRIU's: the list of files that were saved with the processes, and the list of
// external pipes.
//
// The package turns bytes into bytes and knows no file, socket or process: where
// images are stored belongs to ctxfile and to imagedir, which of them a restart
// changes to the engine. Images come from a context, which anyone may have made.
// Whatever they hold, the answer is an image or an error that wraps
// [ErrMalformed]. Fields and entries that the package does not know come out byte
// for byte as they went in, so that the images of a newer criu pass.
//
// Numbers of fields and magics are those of images/*.proto and
// criu/include/magic.h of CRIU 4.2. The comments name the message of these files
// that a type mirrors.
package images

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// ErrMalformed is wrapped by every error about bytes that are no image of the
// kind asked for.
var ErrMalformed = errors.New("malformed image")

// ErrTruncated is wrapped besides by those about an image whose end is missing.
var ErrTruncated = fmt.Errorf("%w: truncated", ErrMalformed)

// malformed returns an ErrMalformed that says what is wrong.
func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
}

// kind is a kind of image: its name for messages, and its magic number.
type kind struct {
	name  string
	magic uint32
}

// The kinds of images (criu/include/magic.h).
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
	kindTimens    = kind{"timens", 0x43114433}
	kindInventory = kind{"inventory", 0x58313116}
	kindPagemap   = kind{"pagemap", 0x56084025}
	kindMemFD     = kind{"memfd", 0x48453499}
	kindGhost     = kind{"ghost-file", 0x52583605}
	kindTCP       = kind{"tcp-stream", 0x51465506}
	kindFileLocks = kind{"filelocks", 0x54323616}
)

// commonMagic precedes the magic of the kind (IMG_COMMON_MAGIC). Only
// inventory.img lacks it.
const commonMagic = 0x54564319

// body checks the magics of img and returns what follows them: the entries.
func (k kind) body(img []byte) ([]byte, error) {
	magics := []uint32{commonMagic, k.magic}
	if k == kindInventory {
		magics = magics[1:]
	}
	for _, want := range magics {
		if len(img) < 4 {
			return nil, fmt.Errorf("%s: %w", k.name, fmt.Errorf("%w: it ends in its magic number", ErrTruncated))
		}
		if got := binary.LittleEndian.Uint32(img); got != want {
			return nil, fmt.Errorf("%s: %w", k.name, malformed("magic number is %#x, not %#x", got, want))
		}
		img = img[4:]
	}
	return img, nil
}

// payload returns the message of the entry that b begins with. An entry is the
// length of its message, 4 bytes in little endian, and the message.
func payload(b []byte) ([]byte, error) {
	if len(b) < 4 {
		return nil, fmt.Errorf("%w: its length is cut off", ErrTruncated)
	}
	size := binary.LittleEndian.Uint32(b)
	if uint64(size) > uint64(len(b)-4) {
		return nil, fmt.Errorf("%w: it has %d bytes of %d", ErrTruncated, len(b)-4, size)
	}
	return b[4 : 4+size], nil
}

// appendEntry appends an entry to an image.
func appendEntry(img []byte, m message) []byte {
	start := len(img)
	img = m.append(append(img, 0, 0, 0, 0))
	binary.LittleEndian.PutUint32(img[start:], uint32(len(img)-start-4))
	return img
}

// each calls f with every entry of img. All calls share the memory of entry: f
// must not keep it, but may keep what its fields refer to, which is img.
func (k kind) each(img []byte, f func(i int, entry message) error) error {
	b, err := k.body(img)
	if err != nil {
		return err
	}
	var m message
	for i := 0; len(b) > 0; i++ {
		p, err := payload(b)
		if err == nil {
			b = b[4+len(p):]
			if m, err = appendMessage(m[:0], p); err == nil {
				err = f(i, m)
			}
		}
		if err != nil {
			return fmt.Errorf("%s: entry %d: %w", k.name, i, err)
		}
	}
	return nil
}

// all returns what parse makes of every entry of img.
func all[T any](k kind, img []byte, parse func(entry message) (T, error)) ([]T, error) {
	var parsed []T
	err := k.each(img, func(_ int, m message) error {
		t, err := parse(m)
		parsed = append(parsed, t)
		return err
	})
	if err != nil {
		return nil, err
	}
	return parsed, nil
}

// only returns the first entry of an image that has one.
func (k kind) only(img []byte) (message, error) {
	b, err := k.body(img)
	if err != nil {
		return nil, err
	}
	p, err := payload(b)
	if err == nil {
		var m message
		if m, err = parseMessage(p); err == nil {
			return m, nil
		}
	}
	return nil, fmt.Errorf("%s: %w", k.name, err)
}

// rewrite returns a copy of img in which each entry is what f makes of it; nil
// removes the entry.
func (k kind) rewrite(img []byte, f func(i int, entry message) (message, error)) ([]byte, error) {
	b, err := k.body(img)
	if err != nil {
		return nil, err
	}
	out := append(make([]byte, 0, len(img)), img[:len(img)-len(b)]...)
	err = k.each(img, func(i int, m message) error {
		m, err := f(i, m)
		if m != nil {
			out = appendEntry(out, m)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}
