package cpu

import (
	"reflect"
	"slices"
	"testing"
)

func TestText(t *testing.T) {
	for _, f := range []Features{{}, {Names: []string{"avx"}}, {[]string{"avx", "avx2"}, 832}} {
		if got := Parse(f.Text()); !reflect.DeepEqual(got, f) {
			t.Errorf("%v: %v", f, got)
		}
	}
	if got := Parse([]byte("other 1\n\nregisters x\nfeatures avx\n")); !reflect.DeepEqual(got, Features{Names: []string{"avx"}}) {
		t.Errorf("%v", got)
	}
}

func TestMissing(t *testing.T) {
	old, later := Features{[]string{"pni", "avx"}, 832}, Features{[]string{"pni", "avx", "avx2", "avx512f"}, 2688}
	if got := later.Missing(old); !slices.Equal(got, []string{"avx2", "avx512f"}) {
		t.Errorf("%v", got)
	}
	if got := old.Missing(later); len(got) != 0 {
		t.Errorf("%v", got)
	}
	if !old.Overflows(later) || later.Overflows(old) || (Features{}).Overflows(later) || later.Overflows(later) {
		t.Error("of a smaller room")
	}
	old.Names = append(old.Names, "xsavec")
	if old.Overflows(later) {
		t.Error("XSAVEC does not write what is not in use")
	}
}
