package images

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
)

// oracle is a field as protowire reads it.
type oracle struct {
	num   protowire.Number
	typ   protowire.Type
	value uint64
	data  []byte
	raw   []byte
}

// split splits b. ok is false for what is no message, or has groups, which images
// never have.
func split(b []byte) (fields []oracle, ok bool) {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeField(b)
		if n < 0 || !num.IsValid() || typ == protowire.StartGroupType {
			return nil, false
		}
		f := oracle{num: num, typ: typ, raw: b[:n]}
		_, _, tag := protowire.ConsumeTag(b)
		switch typ {
		case protowire.VarintType:
			f.value, _ = protowire.ConsumeVarint(b[tag:])
		case protowire.BytesType:
			f.data, _ = protowire.ConsumeBytes(b[tag:])
		}
		fields = append(fields, f)
		b = b[n:]
	}
	return fields, true
}

// FuzzWire compares parseMessage with protowire.
func FuzzWire(f *testing.F) {
	names, _ := filepath.Glob("testdata/*.img")
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		for b = b[min(8, len(b)):]; len(b) > 0; {
			p, err := payload(b)
			if err != nil {
				break // inventory.img has but one magic
			}
			f.Add(p)
			b = b[4+len(p):]
		}
	}
	f.Add([]byte{0x91, 0x38, 1, 2, 3, 4, 5, 6, 7, 8, 0x95, 0x38, 1, 2, 3, 4, 0xa0, 0x38, 0x81, 0x80, 0x80, 0x80, 0x0})
	f.Fuzz(func(t *testing.T, b []byte) {
		want, ok := split(b)
		got, err := parseMessage(b)
		if ok != (err == nil) || ok && len(got) != len(want) {
			t.Fatalf("%v, %d fields; protowire has %d: %t", err, len(got), len(want), ok)
		}
		for i, g := range got {
			w := want[i]
			same := g.num == uint32(w.num) && g.wire == byte(w.typ) && bytes.Equal(g.raw, w.raw)
			if w.typ == protowire.VarintType {
				same = same && g.value() == w.value
			}
			if w.typ == protowire.BytesType {
				same = same && bytes.Equal(g.data(), w.data)
			}
			if !same {
				t.Errorf("field %d: %+v, protowire has %+v", i, g, w)
			}
		}
		if err == nil && !bytes.Equal(got.append(nil), b) {
			t.Error("written it is another message")
		}
	})
}
