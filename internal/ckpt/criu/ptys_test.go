package criu

import (
	"maps"
	"testing"
)

// TestOtherPTYs: a number is kept where criu can have it; else the terminal gets one that
// criu can have, and that nobody else has or gets.
func TestOtherPTYs(t *testing.T) {
	set := func(numbers ...uint32) map[uint32]bool {
		s := make(map[uint32]bool)
		for _, n := range numbers {
			s[n] = true
		}
		return s
	}
	many, shifted := set(), make(map[uint32]uint32)
	for n := range uint32(ptysTried + 1) {
		many[n], shifted[n] = true, n+1
	}
	for _, test := range []struct {
		own, inUse map[uint32]bool
		want       map[uint32]uint32
	}{
		{set(0, 3), set(), map[uint32]uint32{}},
		{set(0, 3, 4), set(0, 1), map[uint32]uint32{0: 2}},
		{set(0, 2, 3), set(0), map[uint32]uint32{0: 1}},
		{set(0, 1), set(0, 1), map[uint32]uint32{0: 2, 1: 3}},
		{set(1, 2), set(1), map[uint32]uint32{1: 0}},
		{set(31, 32), set(), map[uint32]uint32{32: 0}},
		{set(34, 35), set(0, 1, 2), map[uint32]uint32{35: 3}},
		{set(0, 700), set(5), map[uint32]uint32{700: 1}},
		{many, set(), map[uint32]uint32{}},
		{many, set(0), shifted},
	} {
		if got := otherPTYs(test.own, test.inUse); !maps.Equal(got, test.want) {
			t.Errorf("own %v, in use %v: got %v, want %v", test.own, test.inUse, got, test.want)
		}
	}
}
