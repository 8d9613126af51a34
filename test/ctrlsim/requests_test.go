package ctrlsim

import (
	"slices"
	"strings"
	"testing"
)

// TestRequests pins that of two openings the one is left out that a registration
// follows, and nothing else.
func TestRequests(t *testing.T) {
	const open, version, request = "open {} = 0", "VERSION 0xa = 0", "CHKPT_REQ {} = 0"
	for _, c := range []struct{ transcript, want []string }{
		{[]string{open, version, request}, []string{open, version, request}},
		{[]string{open, version, open, version, "HAND_PHASE1 5 = 0", request, "HAND_SUSP NULL"}, []string{open, version, request}},
		{[]string{open, version, "HAND_PHASE2 3 = 0", "HAND_PHASE1 3 = 0", "HAND_SUSP NULL", open, version, request}, []string{open, version, request}},
		{
			[]string{open, version, open, version, "HAND_PHASE1 5 = -EAGAIN", "HAND_PHASE1 5 = -EAGAIN", "HAND_PHASE1 5 = 0", request},
			[]string{open, version, request},
		},
		{[]string{open, version, "open {} = -EMFILE", request}, []string{open, version, "open {} = -EMFILE", request}},
		{[]string{"HAND_PHASE1 5 = 0", "HAND_ABORT 0x4 = 0"}, []string{"HAND_ABORT 0x4 = 0"}},
	} {
		if got := (&Result{Transcript: c.transcript}).Requests(); !slices.Equal(got, c.want) {
			t.Errorf("of\n%s\nthere is\n%s", strings.Join(c.transcript, "\n"), strings.Join(got, "\n"))
		}
	}
}
