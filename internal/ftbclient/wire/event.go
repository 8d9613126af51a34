package wire

import "encoding/binary"

// EventType says whether an event refers to another one.
type EventType uint8

const (
	// Normal is an event that refers to no other.
	Normal EventType = 1
	// Response is an event that refers to another one. Its payload begins with the
	// Handle of that.
	Response EventType = 2
)

// Event is the event in a NOTIFY, and the mask of a subscription (section 3.4).
type Event struct {
	Region, CompCat, Comp string // the event space
	Name                  string // event_name, with the publisher's spelling
	Severity              string
	JobID                 string // client_jobid
	ClientName            string
	Hostname              string // the host name of the publisher's Location
	Seq                   uint16 // seqnum: 1 is a client's first event
	Type                  EventType
	Payload               [PayloadSize]byte // has no length
}

// Encode appends the EventSize bytes of ev.
func (ev *Event) Encode(dst []byte) ([]byte, error) {
	e := encoder{b: dst}
	e.event(ev)
	return e.done(dst)
}

// Decode reads the EventSize bytes at the start of src.
func (ev *Event) Decode(src []byte) error {
	if err := short(src, EventSize); err != nil {
		return err
	}
	d := decoder{b: src}
	v := d.event()
	if d.err == nil {
		*ev = v
	}
	return d.err
}

func (e *encoder) event(ev *Event) {
	e.space(ev.Region, ev.CompCat, ev.Comp)
	e.text("event_name", ev.Name, MaxName+1)
	e.text("severity", ev.Severity, MaxSeverity+1)
	e.text("client_jobid", ev.JobID, MaxJobID+1)
	e.text("client_name", ev.ClientName, MaxClient+1)
	e.text("hostname", ev.Hostname, MaxHostname+1)
	e.uint16(ev.Seq)
	e.byte(uint8(ev.Type))
	e.b = append(e.b, ev.Payload[:]...)
	e.zeros(1)
}

func (d *decoder) event() Event {
	var ev Event
	ev.Region, ev.CompCat, ev.Comp = d.space()
	ev.Name = d.text("event_name", MaxName+1)
	ev.Severity = d.text("severity", MaxSeverity+1)
	ev.JobID = d.text("client_jobid", MaxJobID+1)
	ev.ClientName = d.text("client_name", MaxClient+1)
	ev.Hostname = d.text("hostname", MaxHostname+1)
	ev.Seq = d.uint16()
	ev.Type = EventType(d.byte())
	copy(ev.Payload[:], d.bytes(PayloadSize))
	d.bytes(1)
	return ev
}

// ErrnoOffset is where the payload of BLCR's *_ERROR events has the error number, behind
// the Handle of the *_BEGIN: an int32.
const ErrnoOffset = HandleSize

// AppendErrno appends an error number to a payload.
func AppendErrno(payload []byte, errno int32) []byte {
	return binary.LittleEndian.AppendUint32(payload, uint32(errno))
}

// Errno returns the number at ErrnoOffset.
func (ev *Event) Errno() int32 {
	return int32(binary.LittleEndian.Uint32(ev.Payload[ErrnoOffset:]))
}
