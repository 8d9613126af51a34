package ftbsim

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Fault is what an [Agent] does instead of its duty. The zero value is none.
type Fault struct {
	Kind FaultKind
	// Events is how many NOTIFYs come before it, of Die in all and of Drop on
	// each connection.
	Events int
	// Delay is Slow's, in all.
	Delay time.Duration
}

// FaultKind is a kind of [Fault].
type FaultKind string

// The faults. All but Die and Drop happen on every connection.
const (
	None FaultKind = ""
	// Refuse: there is no agent, and its port refuses connections.
	Refuse FaultKind = "refuse"
	// Starting: connections succeed and nobody ever looks at them, as with an
	// agent that is still starting, or stopped by SIGSTOP.
	Starting FaultKind = "starting"
	// Stall: the handshake is read and never answered.
	Stall FaultKind = "stall"
	// Close: the connection is closed when the handshake has been read.
	Close FaultKind = "close"
	// Reset: it is reset then.
	Reset FaultKind = "reset"
	// Short: the answer is cut in half, and the connection closed.
	Short FaultKind = "short"
	// Part: only half of the answer comes, ever.
	Part FaultKind = "part"
	// Garbage: the answer is 100 bytes that are no location.
	Garbage FaultKind = "garbage"
	// Slow: the answer comes byte by byte, in the time Delay.
	Slow FaultKind = "slow"
	// Deaf: the handshake is answered, and nothing read any more.
	Deaf FaultKind = "deaf"
	// Drop: connections are closed after so many events. New ones can be made.
	Drop FaultKind = "drop"
	// Die: the agent dies after so many events. Its port then refuses connections.
	Die FaultKind = "die"
)

var kinds = []FaultKind{Refuse, Starting, Stall, Close, Reset, Short, Part, Garbage, Slow, Deaf, Drop, Die}

// Faults are the forms that [ParseFault] understands, for messages.
const Faults = "refuse, starting, stall, close, reset, short, part, garbage, slow=TIME, deaf, drop=EVENTS, die=EVENTS"

// ParseFault reads the name of a fault, with its number or time behind a "=":
// "stall", "die=1", "slow=300ms". "" is none.
func ParseFault(s string) (Fault, error) {
	name, value, has := strings.Cut(s, "=")
	f := Fault{Kind: FaultKind(name)}
	err := error(nil)
	switch {
	case f.Kind == Slow && has:
		f.Delay, err = time.ParseDuration(value)
	case (f.Kind == Die || f.Kind == Drop) && has:
		f.Events, err = strconv.Atoi(value)
	case f.Kind == Slow, f.Kind == Die, f.Kind == Drop:
		return Fault{}, fmt.Errorf("fault %s wants a value", s)
	case has, f.Kind != None && !slices.Contains(kinds, f.Kind):
		return Fault{}, fmt.Errorf("no such fault: %s; there are %s", s, Faults)
	}
	if err != nil || f.Delay < 0 || f.Events < 0 {
		return Fault{}, fmt.Errorf("fault %s: not a value for it", s)
	}
	return f, nil
}
