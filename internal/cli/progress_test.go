package cli

import (
	"strings"
	"testing"
	"time"
)

func TestParts(t *testing.T) {
	const mib = 1 << 20
	for _, c := range []struct {
		done, all int64
		elapsed   time.Duration
		columns   int
		want      string
	}{
		{0, 0, 0, 80, "saving 4185"},
		{0, 100, time.Second, 80, "saving 4185"},
		{512, 0, time.Second, 80, "saving 4185, 512 B, 512 B/s"},
		{100 * mib, 400 * mib, 2 * time.Second, 80, "saving 4185 25%, 100 MiB of 400 MiB, 50 MiB/s, 6 s left"},
		{100 * mib, 400 * mib, 2 * time.Second, 55, "saving 4185 25%, 100 MiB of 400 MiB, 50 MiB/s, 6 s left"},
		{100 * mib, 400 * mib, 2 * time.Second, 54, "saving 4185 25%, 100 MiB of 400 MiB, 50 MiB/s"},
		{100 * mib, 400 * mib, 2 * time.Second, 40, "saving 4185 25%, 100 MiB of 400 MiB"},
		{100 * mib, 400 * mib, 2 * time.Second, 20, "saving 4185 25%"},
		{100 * mib, 400 * mib, 2 * time.Second, 14, ""},
		// More than was estimated.
		{1500 * mib, 1400 * mib, 10 * time.Second, 80, "saving 4185, 1.5 GiB, 150 MiB/s"},
		{mib, 7201 * mib, time.Second, 80, "saving 4185 0%, 1.0 MiB of 7.0 GiB, 1.0 MiB/s, 2:00 h left"},
		{mib, 100 * mib, time.Second, 80, "saving 4185 1%, 1.0 MiB of 100 MiB, 1.0 MiB/s, 1:39 min left"},
	} {
		if got := fit(parts("saving 4185", c.done, c.all, c.elapsed), c.columns); got != c.want {
			t.Errorf("%d of %d in %d columns: %q, want %q", c.done, c.all, c.columns, got, c.want)
		}
	}
}

// TestErasure: a line that occupies several lines of a narrower terminal is erased
// completely.
func TestErasure(t *testing.T) {
	for _, c := range []struct {
		drawn, columns int
		want           string
	}{
		{0, 80, "\r\x1b[K"},
		{79, 80, "\r\x1b[K"},
		{80, 80, "\r\x1b[K"},
		{79, 40, "\r\x1b[1A\x1b[J"},
		{81, 40, "\r\x1b[2A\x1b[J"},
		{79, 0, "\r\x1b[K"},
	} {
		if got := (&ProgressLine{drawn: c.drawn}).erasure(c.columns); got != c.want {
			t.Errorf("%d columns drawn, %d now: %q, want %q", c.drawn, c.columns, got, c.want)
		}
	}
}

// TestNoTerminal: nothing is printed without a terminal.
func TestNoTerminal(t *testing.T) {
	l := startProgress(-1, strings.Repeat("x", 10), nil)
	if l != nil {
		t.Fatal("a line on a closed descriptor")
	}
	l.Stop()
}
