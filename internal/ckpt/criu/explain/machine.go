package explain

import (
	"strings"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/hints"
)

// What CRIU finds out about the machine, by 'criu check' or before it begins.
var (
	tooOld = rule{has: "rt vDSO area", expr: pattern(`^vdso: Unexpected rt vDSO area`),
		say: func(s *situation, _ []string) string {
			s.hint = hints.GetCriu()
			return "this criu is too old for Linux " + hints.Kernel()
		}}
	noLoopback = rule{has: "Unable to connect a socket", expr: pattern(`^Unable to connect a socket: Network is unreachable`), errno: unix.ENETUNREACH,
		hint: "set it up first: ip link set lo up", say: says("criu needs the loopback device lo, which is down in this network namespace")}
	noRootMount = rule{has: "No parent found for mountpoint", expr: pattern(`^mnt: No parent found for mountpoint`),
		hint: "mount that directory on itself before the chroot: mount --bind DIR DIR", say: says("this is a chroot whose / is no mount point, where criu does not work")}
)

// Check explains a line that 'criu check' has written: what is wrong with the
// machine, and what to do. ok is false for a line that it does not know.
func Check(line string) (sentence, hint string, ok bool) {
	// "Error (criu/file.c:123): what: why"
	_, text, found := strings.Cut(line, "): ")
	if !found {
		return "", "", false
	}
	_, sentence, hint = new(situation).match([]rule{tooOld, noLoopback, noRootMount}, strings.TrimSpace(text))
	return sentence, hint, sentence != ""
}
