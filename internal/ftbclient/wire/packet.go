package wire

import "fmt"

// Sizes in bytes of a Packet.
const (
	PacketSize      = 144 // FTB 0.6.2 and later
	ShortPacketSize = 76  // FTB 0.6 and 0.6.1
)

// PacketType says what a Packet is about (section 8).
type PacketType uint8

// Types of packets. A client sends AddrReq, which is answered by AddrRep, and
// ConnFail, which is not answered; the others are for agents.
const (
	AddrReq    PacketType = 1  // who is to be my parent?
	AddrRep    PacketType = 2  // Packet.Agent is; with port 0 nobody is
	RegReq     PacketType = 3  // here is an agent
	RegRep     PacketType = 4  // answer to RegReq
	DeregReq   PacketType = 5  // an agent goes
	DeregRep   PacketType = 6  // answer to DeregReq
	ConnFail   PacketType = 7  // no connection to Addr
	RegInvalid PacketType = 10 // answer to RegReq: there is a root
)

// LeafLevel is the Level of a process that is no agent.
const LeafLevel = 0xffff

// Addr is where an agent listens.
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

// NewAddrReq asks for an agent other than avoid, which is zero at first. self
// is the sender's address and its agent port, which will not be proposed
// either; a short packet has no place for it.
func NewAddrReq(short bool, self, avoid Addr) Packet {
	if short {
		return Packet{Short: true, Type: AddrReq, Addr: avoid, Level: LeafLevel}
	}
	return Packet{Type: AddrReq, Addr: self, Parent: avoid, Level: LeafLevel}
}

// Agent is the agent that an AddrRep proposes; its port is 0 if there is none.
func (p *Packet) Agent() Addr {
	if p.Short {
		return p.Addr
	}
	return p.Parent
}

// Size is PacketSize or ShortPacketSize.
func (p *Packet) Size() int {
	if p.Short {
		return ShortPacketSize
	}
	return PacketSize
}

// PacketSizeError is the size in bytes of a datagram that is no Packet.
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

// Decode reads a datagram, whose size says which format it has. Unlike others
// it wants src to have just that size: other sizes are a PacketSizeError.
// A ConnFail's Parent is left zero if it has no end.
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
		case v.Type != ConnFail && d.err == nil: // C's clients leave it unset in a ConnFail
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
