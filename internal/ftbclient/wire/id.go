package wire

// ClientID identifies a client within a process (section 3.2).
type ClientID struct {
	Region, CompCat, Comp string // the event space
	Name                  string // client_name
	Ext                   uint8  // 0, or ExtLeaf in a manager's id
}

// ExtLeaf is the Ext of a process that is not an agent, in the id of its manager. If it
// is 0, an agent treats the process as another agent.
const ExtLeaf = 1

// Encode appends the ClientIDSize bytes of c.
func (c *ClientID) Encode(dst []byte) ([]byte, error) {
	e := encoder{b: dst}
	e.client(c)
	return e.done(dst)
}

// Decode reads the ClientIDSize bytes at the start of src.
func (c *ClientID) Decode(src []byte) error {
	if err := short(src, ClientIDSize); err != nil {
		return err
	}
	d := decoder{b: src}
	v := d.client()
	if d.err == nil {
		*c = v
	}
	return d.err
}

// Equal reports whether agents consider c and o the same client. They do not compare
// the region.
func (c *ClientID) Equal(o *ClientID) bool {
	return EqualFold(c.CompCat, o.CompCat) && EqualFold(c.Comp, o.Comp) && EqualFold(c.Name, o.Name) && c.Ext == o.Ext
}

func (e *encoder) client(c *ClientID) {
	e.space(c.Region, c.CompCat, c.Comp)
	e.text("client_name", c.Name, MaxClient+1)
	e.byte(c.Ext)
}

func (d *decoder) client() ClientID {
	region, compCat, comp := d.space()
	return ClientID{
		Region: region, CompCat: compCat, Comp: comp,
		Name: d.text("client_name", MaxClient+1),
		Ext:  d.byte(),
	}
}

func (e *encoder) space(region, compCat, comp string) {
	e.text("region", region, MaxSpacePart+1)
	e.text("comp_cat", compCat, MaxSpacePart+1)
	e.text("comp", comp, MaxSpacePart+1)
}

func (d *decoder) space() (region, compCat, comp string) {
	region = d.text("region", MaxSpacePart+1)
	compCat = d.text("comp_cat", MaxSpacePart+1)
	comp = d.text("comp", MaxSpacePart+1)
	return
}

// ID is the complete id of a client (section 3.3).
type ID struct {
	Location Location
	Client   ClientID
}

// Manager returns the id of the part of a process that represents the whole process. It
// is in the Hello and in the last CLIENT_DEREG (section 4).
func Manager(at Location) ID {
	return ID{at, ClientID{CompCat: "FTB_COMP_CAT_BACKPLANE", Comp: "FTB_COMP_MANAGER", Ext: ExtLeaf}}
}

// Encode appends the IDSize bytes of id.
func (id *ID) Encode(dst []byte) ([]byte, error) {
	e := encoder{b: dst}
	e.id(id)
	return e.done(dst)
}

// Decode reads the IDSize bytes at the start of src.
func (id *ID) Decode(src []byte) error {
	if err := short(src, IDSize); err != nil {
		return err
	}
	d := decoder{b: src}
	v := d.id()
	if d.err == nil {
		*id = v
	}
	return d.err
}

// Equal reports whether agents consider id and o the same client of the same process.
func (id *ID) Equal(o *ID) bool {
	return id.Location.Equal(&o.Location) && id.Client.Equal(&o.Client)
}

func (e *encoder) id(id *ID) {
	e.location(&id.Location)
	e.client(&id.Client)
	e.zeros(IDSize - LocationSize - ClientIDSize)
}

func (d *decoder) id() ID {
	id := ID{d.location(), d.client()}
	d.bytes(IDSize - LocationSize - ClientIDSize)
	return id
}
