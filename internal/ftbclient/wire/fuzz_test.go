package wire

import (
	"bytes"
	"fmt"
	"io"
	"testing"
)

// fuzz checks that any input is either refused without a change, or decodes to the same
// value again after it has been encoded.
func fuzz(f *testing.F, name string) {
	k := kinds(f)[name]
	f.Add(k.capture)
	f.Add(k.capture[:len(k.capture)-1])
	f.Add(bytes.Repeat([]byte{0xff}, len(k.capture)))
	if name == "message" || name == "hello" {
		f.Add(capture(f, "09-oneconn.c2a.bin"))
		f.Add(capture(f, "10-subscriber.a2c.bin")[LocationSize:])
		f.Add(capture(f, "10-subscriber.c2a.bin")[HelloSize+MessageSize:])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		v := k.new()
		err := v.Decode(b)
		if (len(b) < len(k.capture)) != (err == io.ErrUnexpectedEOF) {
			t.Fatalf("%d bytes: %v", len(b), err)
		}
		roundTrip(t, v, k.new, err, len(k.capture))
	})
}

func roundTrip(t *testing.T, v coder, empty func() coder, err error, size int) {
	if err != nil {
		if fmt.Sprint(v) != fmt.Sprint(empty()) {
			t.Fatalf("%v, but decoded %+v", err, v)
		}
		return
	}
	b := encode(t, v, nil)
	if len(b) != size {
		t.Fatalf("%d bytes", len(b))
	}
	again := empty()
	decode(t, again, b)
	if fmt.Sprint(again) != fmt.Sprint(v) || !bytes.Equal(encode(t, again, nil), b) {
		t.Fatalf("%+v is %+v after encoding", v, again)
	}
}

func FuzzLocation(f *testing.F) { fuzz(f, "location") }
func FuzzClientID(f *testing.F) { fuzz(f, "client") }
func FuzzID(f *testing.F)       { fuzz(f, "id") }
func FuzzEvent(f *testing.F)    { fuzz(f, "event") }
func FuzzMessage(f *testing.F)  { fuzz(f, "message") }
func FuzzHello(f *testing.F)    { fuzz(f, "hello") }
func FuzzHandle(f *testing.F)   { fuzz(f, "handle") }

func FuzzPacket(f *testing.F) {
	for _, name := range []string{"addr-req", "addr-rep", "addr-req-avoid", "conn-fail", "short-addr-req", "short-addr-rep"} {
		f.Add(capture(f, "packet-"+name+".bin"))
	}
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		var p Packet
		err := p.Decode(b)
		if ok := len(b) == PacketSize || len(b) == ShortPacketSize; !ok && err != PacketSizeError(len(b)) {
			t.Fatalf("%d bytes: %v", len(b), err)
		}
		roundTrip(t, &p, func() coder { return new(Packet) }, err, len(b))
	})
}
