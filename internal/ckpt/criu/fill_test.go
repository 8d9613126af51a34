package criu

import (
	"encoding/binary"
	"slices"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"blcr-cli/internal/ckpt/criu/images"
)

func TestInBoth(t *testing.T) {
	parent := []images.Range{{Start: 1, End: 3}, {Start: 4, End: 6}, {Start: 8, End: 9}, {Start: 12, End: 20}}
	child := []images.Range{{Start: 0, End: 1}, {Start: 1, End: 3}, {Start: 4, End: 7}, {Start: 12, End: 20}, {Start: 30, End: 31}}
	want := []images.Range{{Start: 1, End: 3}, {Start: 12, End: 20}}
	if got := inBoth(parent, child); !slices.Equal(got, want) {
		t.Errorf("%v", got)
	}
	if got := inBoth(child, parent); !slices.Equal(got, want) {
		t.Errorf("%v", got)
	}
	if got := inBoth(nil, parent); got != nil {
		t.Errorf("%v", got)
	}
}

// TestSharing: a process shares memory with its parent after a fork, and not after an exec,
// which gives it another stack, even if both have mappings at the same addresses.
func TestSharing(t *testing.T) {
	c := example(t)
	magics := c[images.Name("mm", int32(exampleRoot))][:8]
	number := func(b []byte, field protowire.Number, n uint64) []byte {
		return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.VarintType), n)
	}
	save := func(pid int32, exe, stack uint64) {
		mapping := number(number(nil, 1, 0x1000), 2, 0x9000)
		mm := number(number(nil, 5, stack), 12, exe)
		mm = protowire.AppendBytes(protowire.AppendTag(mm, 14, protowire.BytesType), mapping)
		img := binary.LittleEndian.AppendUint32(slices.Clone(magics), uint32(len(mm)))
		c[images.Name("mm", pid)] = append(img, mm...)
	}
	save(1, 7, 0x7ffd1000)
	save(2, 7, 0x7ffd1000) // forked
	save(3, 7, 0x7ffe2000) // has run the same program
	save(4, 8, 0x7ffd1000) // has run another one
	save(5, 7, 0x7ffe2000) // forked
	shared := sharing(c, []images.Task{{PID: 1}, {PID: 2, PPID: 1}, {PID: 3, PPID: 1}, {PID: 4, PPID: 1}, {PID: 5, PPID: 3}, {PID: 6, PPID: 5}})
	want := []images.Range{{Start: 0x1000, End: 0x9000}}
	for pid, is := range map[int32]bool{1: true, 2: true, 3: true, 4: false, 5: true, 6: false} {
		if got := shared[pid]; is && !slices.Equal(got, want) || !is && got != nil {
			t.Errorf("process %d: %v", pid, got)
		}
	}
}
