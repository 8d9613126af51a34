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
	readOnlySys = rule{has: "ns_last_pid", expr: pattern(`ns_last_pid sysctl is inaccessible: Read-only file system`),
		hint: "allow clone3, as by 'docker run --security-opt seccomp=unconfined', or mount /proc/sys for writing",
		say:  says("pids cannot be chosen in this container: /proc/sys is read-only, and clone3(2) is forbidden")}
	noPower = rule{expr: pattern(`^(Can't turn TCP repair mode ON|/proc/sys/kernel/\w+ is inaccessible): (Operation not permitted|Permission denied)`),
		hint: "run the commands outside of it, or make it by 'unshare --user --map-current-user' and use a criu for ordinary users",
		say: func(*situation, []string) string {
			if unix.Geteuid() != 0 {
				return ""
			}
			return "root is that of a user namespace here, and criu needs the power of the machine's root"
		}}
)

// Check explains a line that 'criu check' has written: what is wrong with the
// machine, and what to do. ok is false for a line that it does not know.
func Check(line string) (sentence, hint string, ok bool) {
	// "Error (criu/file.c:123): what: why"
	_, text, found := strings.Cut(line, "): ")
	if !found {
		return "", "", false
	}
	_, sentence, hint = new(situation).match([]rule{tooOld, noLoopback, noRootMount, readOnlySys, noPower}, strings.TrimSpace(text))
	return sentence, hint, sentence != ""
}
