package hints

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// machine is what the advice where to get a criu depends on.
type machine struct {
	release string // the text of /etc/os-release
	kernel  string // as uname -r has it
}

func thisMachine() machine {
	var m machine
	for _, name := range []string{"/etc/os-release", "/usr/lib/os-release"} {
		if text, err := os.ReadFile(name); err == nil {
			m.release = string(text)
			break
		}
	}
	m.kernel = Kernel()
	return m
}

// Kernel is the release of the running kernel.
func Kernel() string {
	var u unix.Utsname
	_ = unix.Uname(&u)
	return unix.ByteSliceToString(u.Release[:])
}

// GetCriu says how to get a criu that works on this machine.
func GetCriu() string { return thisMachine().getCriu() }

// installers are the commands of the systems that have a package of criu's, by what
// ID or ID_LIKE call the system.
var installers = map[string]string{
	"debian": "apt install criu",
	"ubuntu": "apt install criu",
	"fedora": "dnf install criu",
	"rhel":   "dnf install criu",
	"centos": "dnf install criu",
	"suse":   "zypper install criu",
	"arch":   "pacman -S criu",
	"alpine": "apk add criu",
	"gentoo": "emerge sys-process/criu",
}

// makeCriu is the way that needs no package.
const makeCriu = "run 'make criu' in the source of this program"

func (m machine) getCriu() string {
	id, major := m.value("ID"), m.major()
	if id == "debian" && major != 0 && major <= 12 && m.kernelSince(6, 13) {
		return fmt.Sprintf("to get one, %s: the package of Debian %d is too old for Linux %s", makeCriu, major, m.kernel)
	}
	for _, name := range append([]string{id}, strings.Fields(m.value("ID_LIKE"))...) {
		command := installers[name]
		switch {
		case command == "":
			continue
		case name == "rhel" || name == "centos":
			if major != 0 && major < 8 {
				command = "yum install criu"
			}
		}
		if strings.HasPrefix(command, "apt ") {
			// Which is all that get-criu knows.
			return fmt.Sprintf("to get one, '%s', or %s", command, makeCriu)
		}
		return fmt.Sprintf("to get one, '%s'", command)
	}
	return "to get one, install the criu package or " + makeCriu
}

// value is that of a variable of os-release.
func (m machine) value(name string) string {
	for line := range strings.Lines(m.release) {
		if v, ok := strings.CutPrefix(line, name+"="); ok {
			return strings.Trim(strings.TrimSpace(v), `"'`)
		}
	}
	return ""
}

// major is the number of the system's release, 0 for none.
func (m machine) major() int {
	text, _, _ := strings.Cut(m.value("VERSION_ID"), ".")
	n, _ := strconv.Atoi(text)
	return n
}

func (m machine) kernelSince(major, minor int) bool {
	var a, b int
	if n, _ := fmt.Sscanf(m.kernel, "%d.%d", &a, &b); n < 2 {
		return false
	}
	return a > major || a == major && b >= minor
}
