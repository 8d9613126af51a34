package ftbsim

import (
	"bytes"
	"fmt"
	"strings"

	"blcr-cli/internal/ftbclient/wire"
)

// Event is an event that an [Agent] was given.
type Event struct {
	// Message is the NOTIFY, and Raw its bytes.
	Message wire.Message
	Raw     []byte
	// Number counts the agent's events, Connection its connections, from 1.
	Number, Connection int
	// Answers is the Number of the event whose handle a response starts with, 0
	// if the agent has had none with it.
	Answers int
}

// Handle is the event's own handle.
func (e *Event) Handle() wire.Handle { return e.Message.Handle() }

// Payload is what the event carries, behind the handle if it is a response.
func (e *Event) Payload() []byte {
	payload := e.Message.Event.Payload[:]
	if e.Message.Event.Type == wire.Response {
		payload = payload[wire.HandleSize:]
	}
	return payload
}

// String is the event in one line. The same tools run again give the same line:
// what tells one run from another, such as the location, is left out.
//
//	1 CHKPT_BEGIN INFO FTB.checkpoint_sw.blcr connection=1 seq=1 type=1
//	2 CHKPT_ERROR ERROR FTB.checkpoint_sw.blcr connection=1 seq=2 type=2 answers=1 errno=28
//
// Client and job are only there if they have a name, and errno only in a
// response that has nothing but one, below 4096, where BLCR puts it. Any other
// payload is there as a Go string, without the zeros at its end, unless it is all
// zeros.
func (e *Event) String() string {
	ev := &e.Message.Event
	var s strings.Builder
	fmt.Fprintf(&s, "%d %s %s %s.%s.%s connection=%d seq=%d type=%d",
		e.Number, ev.Name, ev.Severity, ev.Region, ev.CompCat, ev.Comp, e.Connection, ev.Seq, ev.Type)
	if ev.ClientName != "" {
		fmt.Fprintf(&s, " client=%q", ev.ClientName)
	}
	if ev.JobID != "" {
		fmt.Fprintf(&s, " job=%q", ev.JobID)
	}
	payload := bytes.TrimRight(e.Payload(), "\x00")
	if ev.Type == wire.Response {
		fmt.Fprintf(&s, " answers=%d", e.Answers)
		if errno := ev.Errno(); 0 < errno && errno < 4096 && len(payload) <= 4 {
			fmt.Fprintf(&s, " errno=%d", errno)
			payload = nil
		}
	}
	if len(payload) > 0 {
		fmt.Fprintf(&s, " payload=%q", payload)
	}
	return s.String()
}

// Who a NOTIFY comes from and goes to, as offsets in it (sections 3.5 and 3.7).
const (
	srcOffset      = 4
	dstOffset      = srcOffset + wire.IDSize
	eventOffset    = dstOffset + wire.IDSize
	hostnameOffset = eventOffset + 272
	payloadOffset  = eventOffset + 339
	aboutOffset    = payloadOffset + wire.HandleSize - wire.LocationSize
)

// SameAs compares the event, byte for byte, with the one of the same name in a
// capture of all that a client has sent on a connection. Locations may differ,
// those of the client, of the agent, and of the event that is replied to.
func (e *Event) SameAs(capture []byte) error {
	for at := wire.HelloSize; at+wire.MessageSize <= len(capture); at += wire.MessageSize {
		want := capture[at : at+wire.MessageSize]
		var m wire.Message
		if err := m.Decode(want); err != nil {
			return err
		}
		if m.Type != wire.Notify || m.Event.Name != e.Message.Event.Name {
			continue
		}
		got := bytes.Clone(e.Raw)
		same := func(offset, size int) { copy(got[offset:], want[offset:offset+size]) }
		same(srcOffset, wire.LocationSize)
		same(dstOffset, wire.LocationSize)
		same(hostnameOffset, wire.MaxHostname+1)
		if m.Event.Type == wire.Response {
			same(aboutOffset, wire.LocationSize)
		}
		for i := range got {
			if got[i] != want[i] {
				return fmt.Errorf("event %d: byte %d is %#02x, in the capture %#02x", e.Number, i, got[i], want[i])
			}
		}
		return nil
	}
	return fmt.Errorf("event %d: there is no %s in the capture", e.Number, e.Message.Event.Name)
}
