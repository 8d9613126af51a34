package cpu

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// TestHere compares with the kernel, which knows the names of later processors as well,
// and which of them it does not allow.
func TestHere(t *testing.T) {
	here := Here()
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		t.Skip(err)
	}
	var kernel []string
	for line := range strings.Lines(string(text)) {
		if name, flags, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "flags" {
			kernel = strings.Fields(flags)
			break
		}
	}
	if !slices.Contains(kernel, "sse2") {
		t.Skip("/proc/cpuinfo has no flags")
	}
	var known []string
	for _, g := range groups {
		words := strings.Fields(g.features)
		for i := 1; i < len(words); i += 2 {
			known = append(known, words[i])
		}
	}
	for _, name := range kernel {
		if slices.Contains(known, name) && !slices.Contains(here.Names, name) {
			t.Errorf("%s is in /proc/cpuinfo only", name)
		}
	}
	for _, name := range []string{"pni", "ssse3", "sse4_2", "popcnt", "avx", "avx2", "avx512f", "fma", "bmi2", "rtm", "xsave"} {
		if slices.Contains(here.Names, name) != slices.Contains(kernel, name) {
			t.Errorf("%s: here %v, in /proc/cpuinfo %v", name, slices.Contains(here.Names, name), slices.Contains(kernel, name))
		}
	}
	if slices.Contains(here.Names, "avx512f") != (here.Registers > 2000) || slices.Contains(here.Names, "avx") != (here.Registers >= 832) {
		t.Errorf("%d bytes of registers with %v", here.Registers, here.Names)
	}
}
