package wire

import "fmt"

// SystemID starts every connection, in all versions. An agent resets a
// connection that starts with anything else.
const SystemID uint32 = 1

// Hello is a client's part of the handshake (section 4): SystemID, a Location
// and a Message. The agent answers with its own Location.
type Hello struct {
	Location Location
	// Message is, from a client, a ClientReg whose Src is the Manager of Location
	// and whose Dst is zero.
	Message Message
}

// NewHello returns the handshake of a client at the location.
func NewHello(at Location) Hello {
	return Hello{at, Message{Type: ClientReg, Src: Manager(at)}}
}

// SystemIDError is the error for a connection that does not start with SystemID.
type SystemIDError uint32

func (e SystemIDError) Error() string {
	return fmt.Sprintf("system id %#x instead of %d", uint32(e), SystemID)
}

// Encode appends the HelloSize bytes of h.
func (h *Hello) Encode(dst []byte) ([]byte, error) {
	e := encoder{b: dst}
	e.uint32(SystemID)
	e.location(&h.Location)
	e.message(&h.Message)
	return e.done(dst)
}

// Decode reads the HelloSize bytes at the start of src. It may also return a
// SystemIDError.
func (h *Hello) Decode(src []byte) error {
	if err := short(src, HelloSize); err != nil {
		return err
	}
	d := decoder{b: src}
	if id := d.uint32(); id != SystemID {
		return SystemIDError(id)
	}
	v := Hello{d.location(), d.message()}
	if d.err == nil {
		*h = v
	}
	return d.err
}
