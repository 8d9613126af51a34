package images

import (
	"errors"
	"slices"
	"testing"

	criupagemap "github.com/checkpoint-restore/go-criu/v8/crit/images/pagemap"
)

func TestPages(t *testing.T) {
	img := encode(t, kindPagemap,
		&criupagemap.PagemapHead{PagesId: new(uint32(7))},
		&criupagemap.PagemapEntry{Vaddr: new(uint64(0x1000)), CompatNrPages: new(uint32(3))},
		&criupagemap.PagemapEntry{Vaddr: new(uint64(0x4000)), CompatNrPages: new(uint32(2)), Flags: new(uint32(4))},
		&criupagemap.PagemapEntry{Vaddr: new(uint64(0x6000)), CompatNrPages: new(uint32(9)), Flags: new(uint32(1))},
		&criupagemap.PagemapEntry{Vaddr: new(uint64(0x10000)), CompatNrPages: new(uint32(4)), Flags: new(uint32(6))},
		&criupagemap.PagemapEntry{Vaddr: new(uint64(0x14000)), CompatNrPages: new(uint32(1)), Flags: new(uint32(4))},
	)
	p, err := ReadPages(img, 4096)
	want := []PageRun{{0x1000, 0, 5, false}, {0x10000, 5, 4, true}, {0x14000, 9, 1, false}}
	if err != nil || p.ID != 7 || !slices.Equal(p.Runs, want) {
		t.Errorf("%+v, %v", p, err)
	}
	for _, in := range [][]Range{nil, {{0, 0x10000}}, {{0x14000, 0x20000}}, {{0, 0x1000}, {0x14000, 0x15000}}} {
		if p, err := ReadPages(must[[]byte](t)(NotLazy(img, 4096, in)), 4096); err != nil || !slices.Equal(p.Runs, want) {
			t.Errorf("%x: %+v, %v", in, p, err)
		}
	}
	for _, in := range [][]Range{{{0, 0x1000}, {0xf000, 0x11000}}, {{0x13000, 0x14000}}} {
		if p := must[Pages](t)(ReadPages(must[[]byte](t)(NotLazy(img, 4096, in)), 4096)); len(p.Runs) != 2 || p.Runs[1].Lazy {
			t.Errorf("%x: %+v", in, p)
		}
	}
	out, err := NotLazy(img, 4096, Everywhere)
	if err != nil {
		t.Fatal(err)
	}
	want = []PageRun{{0x1000, 0, 5, false}, {0x10000, 5, 5, false}}
	if p, err = ReadPages(out, 4096); err != nil || !slices.Equal(p.Runs, want) {
		t.Errorf("%+v, %v", p, err)
	}
	if sum := must[Pagemap](t)(ReadPagemap(out)); sum != must[Pagemap](t)(ReadPagemap(img)) {
		t.Errorf("%+v", sum)
	}
	for _, bad := range []*criupagemap.PagemapEntry{
		{Vaddr: new(uint64(0x1001)), CompatNrPages: new(uint32(3))},
		{Vaddr: new(uint64(1 << 63)), CompatNrPages: new(uint32(3))},
	} {
		img := encode(t, kindPagemap, &criupagemap.PagemapHead{PagesId: new(uint32(7))}, bad)
		if _, err := ReadPages(img, 4096); !errors.Is(err, ErrMalformed) {
			t.Errorf("%v: %v", bad, err)
		}
	}
}
