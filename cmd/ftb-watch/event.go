package main

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"time"

	"blcr-cli/internal/blcrevents"
	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/ftbclient/wire"
	"blcr-cli/internal/show"
)

// event is an event that was received.
type event struct {
	wire.Event
	at     time.Time // when it was received; events have no time
	source wire.Location
	handle wire.Handle

	about *wire.Handle // of the event that it is a response to; nil for none
	errno int32        // 0 for none
	rest  []byte       // the payload behind the handle, without the zeros at its end
	begin *event       // with --pair: the event that it is a response to, if it was seen
}

func newEvent(m wire.Message, at time.Time) *event {
	e := &event{Event: m.Event, at: at, source: m.Src.Location, handle: m.Handle()}
	payload := e.Payload[:]
	var about wire.Handle
	if e.Type == wire.Response && about.Decode(payload) == nil {
		e.about = &about
		payload = payload[wire.HandleSize:]
	}
	e.rest = bytes.TrimRight(payload, "\x00")
	switch {
	case e.about != nil && hasSuffix(e.Name, "_ERROR") && len(e.rest) <= 4:
		e.errno = e.Errno()
		e.rest = nil
	case wire.EqualFold(e.space(), blcrevents.Space) && hasSuffix(e.Name, "_BEGIN"):
		// BLCR's library sends what happens to be in its memory.
		e.rest = nil
	}
	return e
}

func hasSuffix(name, suffix string) bool {
	return len(name) >= len(suffix) && wire.EqualFold(name[len(name)-len(suffix):], suffix)
}

func (e *event) space() string { return e.Region + "." + e.CompCat + "." + e.Comp }

// begins reports whether a response to the event is to be expected.
func (e *event) begins() bool { return e.Type == wire.Normal && hasSuffix(e.Name, "_BEGIN") }

// line returns the event as a line for people.
func (e *event) line() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s %s %s host=%s pid=%d", e.at.Format("2006-01-02 15:04:05.000"),
		show.Name(e.Name), show.Name(e.Severity), show.Text(e.space()), show.Name(e.Hostname), e.source.PID)
	text := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&b, " %s=%s", name, word(value))
		}
	}
	text("job", e.JobID)
	text("client", e.ClientName)
	if e.errno != 0 {
		fmt.Fprintf(&b, " errno=%d", e.errno)
		if name := e.errnoName(); name != "" {
			b.WriteString(" " + name)
		}
	}
	switch {
	case e.begin != nil:
		fmt.Fprintf(&b, " began=%s took=%.3fs", e.begin.at.Format("15:04:05.000"), e.at.Sub(e.begin.at).Seconds())
	case e.about != nil:
		fmt.Fprintf(&b, " answers=%s,seq=%d,pid=%d", show.Name(e.about.EventName), e.about.Seq, e.about.Location.PID)
	}
	if len(e.rest) > 0 {
		fmt.Fprintf(&b, " payload=%s", strconv.Quote(string(e.rest)))
	}
	b.WriteString("\n")
	return b.String()
}

// word is show.Name for a value that no blank may be in.
func word(value string) string {
	if strings.Contains(value, " ") {
		return strconv.Quote(value)
	}
	return show.Name(value)
}

func (e *event) errnoName() string { return ckpt.ErrnoName(syscall.Errno(e.errno)) }

// object is the event in JSON. The names are documented in ftb-watch(1).
type object struct {
	Time       time.Time `json:"time"`
	Event      string    `json:"event"`
	Severity   string    `json:"severity"`
	Space      string    `json:"space"`
	Host       string    `json:"host"`
	PID        int32     `json:"pid"`
	StartTime  string    `json:"pid_starttime"`
	ClientName string    `json:"client_name"`
	JobID      string    `json:"jobid"`
	Seq        uint16    `json:"seqnum"`
	Type       string    `json:"type"`
	Payload    string    `json:"payload"`
	Handle     string    `json:"handle"`
	ReplyTo    string    `json:"reply_to,omitempty"`
	Errno      int32     `json:"errno,omitempty"`
	ErrnoName  string    `json:"errno_name,omitempty"`
	Begin      *object   `json:"begin,omitempty"`
	Duration   *float64  `json:"duration,omitempty"`
}

func (e *event) object() *object {
	o := &object{
		Time: e.at, Event: e.Name, Severity: e.Severity, Space: e.space(), Host: e.Hostname,
		PID: e.source.PID, StartTime: e.source.StartTime, ClientName: e.ClientName, JobID: e.JobID,
		Seq: e.Seq, Type: strconv.Itoa(int(e.Event.Type)),
		Payload: hex.EncodeToString(bytes.TrimRight(e.Payload[:], "\x00")), Handle: digits(&e.handle),
	}
	switch e.Type {
	case wire.Normal:
		o.Type = "normal"
	case wire.Response:
		o.Type = "response"
	}
	if e.about != nil {
		o.ReplyTo = digits(e.about)
	}
	if e.errno != 0 {
		o.Errno, o.ErrnoName = e.errno, e.errnoName()
	}
	if e.begin != nil {
		o.Begin = e.begin.object()
		duration := e.at.Sub(e.begin.at).Seconds()
		o.Duration = &duration
	}
	return o
}

// json returns the event as a line of JSON.
func (e *event) json() string {
	// All of its types can be encoded.
	b, _ := json.Marshal(e.object())
	return string(b) + "\n"
}

// digits returns a handle as ftb-publish prints it.
func digits(h *wire.Handle) string {
	// It has been decoded, or is of a message that has.
	b, _ := h.Encode(nil)
	return hex.EncodeToString(b)
}
