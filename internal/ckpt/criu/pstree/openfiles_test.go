package pstree

import "testing"

// TestFewFiles: CRIU takes 32 descriptors above those of a process, below a multiple of 128.
func TestFewFiles(t *testing.T) {
	for _, c := range []struct {
		highest int
		most    uint64
		few     bool
	}{
		{2, 127, true}, {2, 128, false}, {96, 128, false}, {97, 128, true}, {97, 255, true}, {97, 256, false},
		{991, 1023, true}, {991, 1024, false}, {992, 1024, false}, {993, 1024, true}, {-1, 128, false},
		{1 << 30, 1 << 20, true},
	} {
		if said, hint := FewFiles(c.highest, c.most); (said != "") != c.few || (hint != "") != c.few {
			t.Errorf("descriptor %d, limit %d: %q, %q", c.highest, c.most, said, hint)
		}
	}
}
