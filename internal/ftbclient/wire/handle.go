package wire

// Handle identifies a published event (section 3.7). The payload of a Response begins
// with a Handle.
type Handle struct {
	EventName string
	Severity  string
	Client    ClientID // of the publisher
	Seq       uint16   // seqnum
	Location  Location // of the publisher
}

// Encode appends the HandleSize bytes of h.
func (h *Handle) Encode(dst []byte) ([]byte, error) {
	e := encoder{b: dst}
	e.text("event_name", h.EventName, MaxName+1)
	e.text("severity", h.Severity, MaxSeverity+1)
	e.client(&h.Client)
	e.zeros(1)
	e.uint16(h.Seq)
	e.location(&h.Location)
	return e.done(dst)
}

// Decode reads the HandleSize bytes at the start of src, which may be a
// payload.
func (h *Handle) Decode(src []byte) error {
	if err := short(src, HandleSize); err != nil {
		return err
	}
	d := decoder{b: src}
	var v Handle
	v.EventName = d.text("event_name", MaxName+1)
	v.Severity = d.text("severity", MaxSeverity+1)
	v.Client = d.client()
	d.bytes(1)
	v.Seq = d.uint16()
	v.Location = d.location()
	if d.err == nil {
		*h = v
	}
	return d.err
}

// Equal reports whether h and o identify the same event. Every field is compared,
// including the region.
func (h *Handle) Equal(o *Handle) bool {
	return EqualFold(h.EventName, o.EventName) && EqualFold(h.Severity, o.Severity) &&
		EqualFold(h.Client.Region, o.Client.Region) && h.Client.Equal(&o.Client) &&
		h.Seq == o.Seq && h.Location.Equal(&o.Location)
}
