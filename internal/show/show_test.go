package show

import (
	"testing"

	"golang.org/x/sys/unix"
)

func TestName(t *testing.T) {
	for name, want := range map[string]string{
		"plain": "plain", "with blank": "with blank", "é": "é", "/a/b-c.d": "/a/b-c.d", "'": "'",
		"": `""`, " x": `" x"`, "x ": `"x "`, `"`: `"\""`, `\`: `"\\"`, "a\nb": `"a\nb"`, "\x1b[2J": `"\x1b[2J"`,
		"\xff": `"\xff"`, "\ufffd": "\"\ufffd\"", "\u202e": `"\u202e"`,
	} {
		if got := Name(name); got != want {
			t.Errorf("%q: %s, want %s", name, got, want)
		}
	}
}

func TestText(t *testing.T) {
	for s, want := range map[string]string{
		"": "", "a \"b\" \\ é": "a \"b\" \\ é", "a\nb\t": `a\nb\t`, "\x1b[2J\x07": `\x1b[2J\a`, "\xff\x01": `\xff\x01`,
		"\ufffd": "\ufffd", "\u009b31m": `\u009b31m`, "\U000e0001": `\U000e0001`,
	} {
		if got := Text(s); got != want {
			t.Errorf("%q: %s, want %s", s, got, want)
		}
	}
}

func TestSize(t *testing.T) {
	for n, want := range map[int64]string{
		-1: "-1 B", 0: "0 B", 1: "1 B", 1023: "1023 B", 1024: "1.0 KiB", 1536: "1.5 KiB", 10188: "9.9 KiB", 10189: "10 KiB",
		999 << 10: "999 KiB", 1000 << 10: "1.0 MiB", 1<<20 - 1: "1.0 MiB", 1 << 20: "1.0 MiB", 20 << 20: "20 MiB",
		10<<30 + 1<<29: "10 GiB", 999<<30 + 1<<29: "1.0 TiB", 1<<63 - 1: "8.0 EiB",
	} {
		if got := Size(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
	if got := Size(uint64(1<<64 - 1)); got != "16 EiB" {
		t.Errorf("the largest: %q", got)
	}
}

func TestSignal(t *testing.T) {
	for signal, want := range map[unix.Signal]string{unix.SIGTERM: "SIGTERM", 34: "signal 34", 0: "signal 0"} {
		if got := Signal(signal); got != want {
			t.Errorf("%d: %q, want %q", int(signal), got, want)
		}
	}
}
