package main

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"blcr-cli/test/getopttest"
)

// The usage text, the manual page and the completions have the command's options.
func TestDocuments(t *testing.T) {
	getopttest.Documents(t, getopttest.Command{
		Name: name, Table: getopttest.Flags(flags()), Usage: usage, First: "Usage: cr_batch [options] -- COMMAND [ARG...]",
	})
}

func TestParseInterval(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"900": 15 * time.Minute, "0": 0, "1.5": 1500 * time.Millisecond, "15m": 15 * time.Minute, "1h30m": 90 * time.Minute,
		"": -1, "-1": -1, "soon": -1, "1d": -1, "1e99": -1, "NaN": -1,
	} {
		if got, err := parseInterval(text); want < 0 && err == nil || want >= 0 && (got != want || err != nil) {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
}

func TestParseSignals(t *testing.T) {
	list, err := parseSignals("USR1,sigterm,24")
	if err != nil || len(list) != 3 || list[0] != unix.SIGUSR1 || list[1] != unix.SIGTERM || list[2] != unix.SIGXCPU {
		t.Errorf("%v, %v", list, err)
	}
	for _, text := range []string{"", "KILL", "9", "STOP", "64", "0", "-1", "NOSUCH", "USR1,", "SEGV"} {
		if list, err := parseSignals(text); err == nil {
			t.Errorf("%q: %v", text, list)
		}
	}
}
