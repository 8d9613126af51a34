package wire

import "fmt"

// Sizes in bytes of a Packet.
const (
	PacketSize      = 144 // FTB 0.6.2 and later
	ShortPacketSize = 76  // FTB 0.6 and 0.6.1
)

// PacketType is the type of a Packet (section 8).
type PacketType uint8

// Types of packets. A client sends AddrReq, which is answered by AddrRep, and
// ConnFail, which is not answered; the others are for agents.
const (
	AddrReq    PacketType = 1  // asks for a parent
	AddrRep    PacketType = 2  // the answer: Packet.Agent; port 0 for none
	RegReq     PacketType = 3  // registers an agent
	RegRep     PacketType = 4  // answer to RegReq
	DeregReq   PacketType = 5  // deregisters an agent
	DeregRep   PacketType = 6  // answer to DeregReq
	ConnFail   PacketType = 7  // Addr cannot be reached
	RegInvalid PacketType = 10 // answer to RegReq: there is a root already
)

// LeafLevel is the Level of a process that is not an agent.
const LeafLevel = 0xffff

// Addr is the address at which an agent listens.
type Addr struct {
	Name string // an IPv4 address; at most MaxHostname bytes
	Port int32
}

// Packet is a datagram to or from the bootstrap server (section 8).
type Packet struct {
	// Short is the format of ShortPacketSize bytes, which has no Parent.
	Short  bool
	Type   PacketType
	Addr   Addr
	Parent Addr
	Level  uint16 // distance from the root of the agents' tree
}

// NewAddrReq returns a request for an agent other than avoid, which is zero in the
// first request. self is the sender's address and its agent port, which are not
// proposed, either; a short packet does not contain it.
func NewAddrReq(short bool, self, avoid Addr) Packet {
	if short {
		return Packet{Short: true, Type: AddrReq, Addr: avoid, Level: LeafLevel}
	}
	return Packet{Type: AddrReq, Addr: self, Parent: avoid, Level: LeafLevel}
}

// Agent returns the agent that an AddrRep proposes; its port is 0 if there is none.
func (p *Packet) Agent() Addr {
	if p.Short {
		return p.Addr
	}
	return p.Parent
}

// Size returns PacketSize or ShortPacketSize.
func (p *Packet) Size() int {
	if p.Short {
		return ShortPacketSize
	}
	return PacketSize
}

// PacketSizeError is the error for a datagram that is not a Packet: its size in bytes.
type PacketSizeError int

func (e PacketSizeError) Error() string {
	return fmt.Sprintf("datagram of %d bytes instead of %d or %d", int(e), PacketSize, ShortPacketSize)
}

// Encode appends the Size bytes of p.
func (p *Packet) Encode(dst []byte) ([]byte, error) {
	e := encoder{b: dst}
	e.byte(uint8(p.Type))
	e.zeros(3)
	e.addr("addr.name", p.Addr)
	if !p.Short {
		e.addr("parent_addr.name", p.Parent)
	}
	e.uint16(p.Level)
	e.zeros(2)
	return e.done(dst)
}

// Decode reads a datagram. Its format depends on its size. Unlike the other Decode
// methods it requires src to have exactly that size; otherwise it returns a
// PacketSizeError. The Parent of a ConnFail is zero if its string is not terminated.
func (p *Packet) Decode(src []byte) error {
	if len(src) != PacketSize && len(src) != ShortPacketSize {
		return PacketSizeError(len(src))
	}
	d := decoder{b: src}
	v := Packet{Short: len(src) == ShortPacketSize}
	v.Type = PacketType(d.byte())
	d.bytes(3)
	v.Addr = d.addr("addr.name")
	if !v.Short {
		parent := decoder{b: d.bytes(addrSize)}
		a := parent.addr("parent_addr.name")
		switch {
		case parent.err == nil:
			v.Parent = a
		case v.Type != ConnFail && d.err == nil: // clients in C leave it unset in a ConnFail
			d.err = parent.err
		}
	}
	v.Level = d.uint16()
	d.bytes(2)
	if d.err == nil {
		*p = v
	}
	return d.err
}

const addrSize = MaxHostname + 1 + 4

func (e *encoder) addr(field string, a Addr) {
	e.text(field, a.Name, MaxHostname+1)
	e.uint32(uint32(a.Port))
}

func (d *decoder) addr(field string) Addr {
	return Addr{d.text(field, MaxHostname+1), int32(d.uint32())}
}
