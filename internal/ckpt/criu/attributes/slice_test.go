package attributes

import (
	"os"
	"testing"
)

// TestSlice: how long a thread runs at a time is noted where it is not as usual, and set.
func TestSlice(t *testing.T) {
	pid, usual := sleeper(t), sliceOf(os.Getpid())
	if usual == 0 {
		t.Skip("this kernel does not say it, or the test has another scheduling policy")
	}
	noted := ""
	note := func(_, value string) { noted = value }
	if saveSlice(pid, usual, note); noted != "" {
		t.Errorf("noted %q", noted)
	}
	setSlice(pid, "5000000")
	if sliceOf(pid) == usual {
		t.Skip("this kernel does not let it be set")
	}
	if saveSlice(pid, usual, note); noted != "5000000" {
		t.Errorf("noted %q", noted)
	}
	for _, text := range []string{"", "x", "-1"} {
		if setSlice(pid, text); sliceOf(pid) != 5000000 {
			t.Errorf("after %q: %d", text, sliceOf(pid))
		}
	}
}
