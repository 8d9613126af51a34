package wire

// Location identifies a process while it is connected (section 3.1). An agent treats
// two connections with equal locations as one, and loses events.
type Location struct {
	Hostname  string // the machine's IPv4 address; informative
	StartTime string // pid_starttime: when the connection was made; it is never parsed
	PID       int32
}

// Encode appends the LocationSize bytes of l.
func (l *Location) Encode(dst []byte) ([]byte, error) {
	e := encoder{b: dst}
	e.location(l)
	return e.done(dst)
}

// Decode reads the LocationSize bytes at the start of src.
func (l *Location) Decode(src []byte) error {
	if err := short(src, LocationSize); err != nil {
		return err
	}
	d := decoder{b: src}
	v := d.location()
	if d.err == nil {
		*l = v
	}
	return d.err
}

// Equal reports whether an agent considers l and o the same process.
func (l *Location) Equal(o *Location) bool {
	return EqualFold(l.Hostname, o.Hostname) && EqualFold(l.StartTime, o.StartTime) && l.PID == o.PID
}

func (e *encoder) location(l *Location) {
	e.text("hostname", l.Hostname, MaxHostname+1)
	e.text("pid_starttime", l.StartTime, MaxStartTime+1)
	e.uint32(uint32(l.PID))
}

func (d *decoder) location() Location {
	return Location{
		Hostname:  d.text("hostname", MaxHostname+1),
		StartTime: d.text("pid_starttime", MaxStartTime+1),
		PID:       int32(d.uint32()),
	}
}
