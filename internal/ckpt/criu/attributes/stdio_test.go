package attributes

import (
	"maps"
	"testing"
)

// TestStdio: what is not as it should be is left out.
func TestStdio(t *testing.T) {
	for text, want := range map[string]map[uint32]uint32{
		"7 stdio=0:10,1:11":                   {0: 10, 1: 11},
		"7 oom_score_adj=0\n7 stdio=2:255\n":  {2: 255},
		"8 stdio=0:10":                        {},
		"7 stdio=3:10,1:-1,1,:,x:y,1:2:3,0:9": {0: 9},
		"7 stdio=":                            {},
	} {
		if got := Parse([]byte(text)).Stdio(7); !maps.Equal(got, want) {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
}
