package wire

import "fmt"

// MessageType is the type of a Message (section 3.6).
type MessageType int32

// Types of messages. Clients send all of them to agents, and agents to one another; a
// client receives only Notify. There are no answers.
const (
	Notify             MessageType = 0x01 // an event, in Event
	ClientReg          MessageType = 0x11 // Src registers
	ClientDereg        MessageType = 0x12 // Src deregisters
	RegSubscription    MessageType = 0x22 // Src subscribes to the events that Event, a mask, matches
	SubscriptionCancel MessageType = 0x24 // Src cancels that subscription, with the same mask
)

func (t MessageType) String() string {
	switch t {
	case Notify:
		return "NOTIFY"
	case ClientReg:
		return "CLIENT_REG"
	case ClientDereg:
		return "CLIENT_DEREG"
	case RegSubscription:
		return "REG_SUBSCRIPTION"
	case SubscriptionCancel:
		return "SUBSCRIPTION_CANCEL"
	}
	return fmt.Sprintf("message type %#x", int32(t))
}

// Message is the one format of everything after the handshake, in both
// directions (section 3.5).
type Message struct {
	Type  MessageType // any value: an agent ignores unknown ones
	Src   ID
	Dst   ID    // to an agent: its Location, without a Client
	Event Event // zero if Type does not use it
}

// Encode appends the MessageSize bytes of m.
func (m *Message) Encode(dst []byte) ([]byte, error) {
	e := encoder{b: dst}
	e.message(m)
	return e.done(dst)
}

// Decode reads the MessageSize bytes at the start of src. Fields that Type does not use
// are unspecified on the wire: Event is then zero, and so is Dst if its string is not
// terminated.
func (m *Message) Decode(src []byte) error {
	if err := short(src, MessageSize); err != nil {
		return err
	}
	d := decoder{b: src}
	v := d.message()
	if d.err == nil {
		*m = v
	}
	return d.err
}

// Handle returns the handle of the event in m, a Notify that is sent or received.
func (m *Message) Handle() Handle {
	return Handle{
		EventName: m.Event.Name,
		Severity:  m.Event.Severity,
		Client: ClientID{
			Region: m.Event.Region, CompCat: m.Event.CompCat, Comp: m.Event.Comp,
			Name: m.Event.ClientName, Ext: m.Src.Client.Ext,
		},
		Seq:      m.Event.Seq,
		Location: m.Src.Location,
	}
}

func (e *encoder) message(m *Message) {
	e.uint32(uint32(m.Type))
	e.id(&m.Src)
	e.id(&m.Dst)
	e.event(&m.Event)
}

func (d *decoder) message() Message {
	m := Message{Type: MessageType(d.uint32()), Src: d.id()}
	// Clients in C leave parts of it unset, and agents ignore it.
	dst := decoder{b: d.bytes(IDSize)}
	if id := dst.id(); dst.err == nil {
		m.Dst = id
	}
	switch m.Type {
	case Notify, RegSubscription, SubscriptionCancel:
		m.Event = d.event()
	default:
		d.bytes(EventSize)
	}
	return m
}
