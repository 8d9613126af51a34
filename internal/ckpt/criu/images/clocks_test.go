package images

import (
	"testing"
	"time"

	"github.com/checkpoint-restore/go-criu/v8/crit/images/criu-core"
	"github.com/checkpoint-restore/go-criu/v8/crit/images/timens"
)

func TestClocks(t *testing.T) {
	img := read(t, "timens-0")
	got := must[Clocks](t)(ReadClocks(img))
	want := entries(t, img, func() *timens.TimensEntry { return new(timens.TimensEntry) })[0]
	monotonic := time.Duration(want.Monotonic.GetTvSec())*time.Second + time.Duration(want.Monotonic.GetTvNsec())
	boottime := time.Duration(want.Boottime.GetTvSec())*time.Second + time.Duration(want.Boottime.GetTvNsec())
	if got.Monotonic != monotonic || got.Boottime != boottime || monotonic == 0 {
		t.Errorf("%+v, want %v and %v", got, monotonic, boottime)
	}
	if _, err := ReadClocks(image(kindTimens, message{})); err == nil {
		t.Error("an image without clocks is read")
	}
}

func TestSetTimeNamespace(t *testing.T) {
	ids := read(t, "ids-root")
	before := must[IDs](t)(TaskIDs(ids))
	out := must[[]byte](t)(SetTimeNamespace(ids, 4711))
	after := must[IDs](t)(TaskIDs(out))
	want := before
	want.Time = 4711
	if after != want {
		t.Errorf("%+v, want %+v", after, want)
	}
	// It is still what criu reads.
	entries(t, out, func() *criu_core.TaskKobjIdsEntry { return new(criu_core.TaskKobjIdsEntry) })
}
