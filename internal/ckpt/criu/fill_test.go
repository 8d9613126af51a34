package criu

import (
	"slices"
	"testing"

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
