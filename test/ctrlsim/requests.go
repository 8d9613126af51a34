package ctrlsim

import "strings"

// Requests is the transcript without what a program does so as to be asked when it
// is in the scope of a checkpoint itself: HAND_PHASE1, with the opening of the
// descriptor for it right before, and HAND_SUSP, which comes at any time.
func (r *Result) Requests() []string {
	var lines []string
	last := func(n int, prefix string) bool {
		return len(lines) >= n && strings.HasPrefix(lines[len(lines)-n], prefix) && strings.HasSuffix(lines[len(lines)-n], " = 0")
	}
	again := false // the same registration, once more
	for _, line := range r.Transcript {
		switch name, _, _ := strings.Cut(line, " "); name {
		case "HAND_PHASE1":
			if !again && last(1, "VERSION ") && last(2, "open ") {
				lines = lines[:len(lines)-2]
			}
			again = !strings.HasSuffix(line, " = 0")
		case "HAND_SUSP":
		default:
			lines = append(lines, line)
		}
	}
	return lines
}
