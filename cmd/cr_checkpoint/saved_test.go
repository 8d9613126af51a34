package main

import (
	"testing"
	"time"
)

func TestSeconds(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0:                        "0 ms",
		1700 * time.Microsecond:  "1 ms",
		99 * time.Millisecond:    "99 ms",
		100 * time.Millisecond:   "0.1 s",
		1349 * time.Millisecond:  "1.3 s",
		90*time.Second + 1000000: "90.0 s",
	} {
		if got := seconds(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
}
