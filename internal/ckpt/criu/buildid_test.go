package criu

import (
	"bytes"
	"encoding/binary"
	"testing"
)

// TestBuildIDNote: where CRIU finds a build ID.
func TestBuildIDNote(t *testing.T) {
	note := func(name string, kind uint32, desc string) []byte {
		b := binary.LittleEndian.AppendUint32(nil, uint32(len(name)))
		b = binary.LittleEndian.AppendUint32(b, uint32(len(desc)))
		b = binary.LittleEndian.AppendUint32(b, kind)
		b = append(b, name...)
		b = append(b, make([]byte, -len(b)&3)...)
		b = append(b, desc...)
		return append(b, make([]byte, -len(b)&3)...)
	}
	abi, id := note("GNU\x00", 1, "sixteen bytes are"), note("GNU\x00", 3, "identity")
	for name, c := range map[string]struct {
		notes []byte
		size  int
		want  string
	}{
		"first":         {id, len(id), "identity"},
		"second":        {append(abi[:len(abi):len(abi)], id...), len(abi) + len(id), "identity"},
		"behind":        {append(abi[:len(abi):len(abi)], id...), len(abi), "identity"},
		"further":       {append(append(abi[:len(abi):len(abi)], abi...), id...), len(abi) - 1, ""},
		"none":          {abi, len(abi), ""},
		"cut":           {id[:len(id)-1], len(id), ""},
		"empty":         {nil, 0, ""},
		"without bytes": {note("GNU\x00", 3, ""), 16, ""},
		"endless":       {bytes.Repeat([]byte{255}, 64), 64, ""},
	} {
		if got := string(buildIDNote(c.notes, uint64(c.size))); got != c.want {
			t.Errorf("%s: %q", name, got)
		}
	}
}
