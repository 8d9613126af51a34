package hints

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/proc"
	"blcr-cli/internal/show"
)

// machine is what the advice on how to get a criu depends on.
type machine struct {
	release string // the text of /etc/os-release
	kernel  string // the release of the kernel, as of uname(2)
	source  string // the directory of this program's source; "" if it is not available
	getter  string // the installed blcr-cli-criu; "" if there is none
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
	// 'make' puts the programs into bin.
	if exe := proc.Executable(os.Getpid()); exe != "" {
		source := filepath.Dir(filepath.Dir(exe))
		if exists(filepath.Join(source, "packaging/criu/get-criu")) {
			m.source = source
		}
		if getter := filepath.Join(source, "sbin/blcr-cli-criu"); exists(getter) {
			m.getter = getter
		}
	}
	return m
}

// Kernel returns the release of the running kernel.
func Kernel() string {
	var u unix.Utsname
	_ = unix.Uname(&u)
	return unix.ByteSliceToString(u.Release[:])
}

// GetCriu returns a line that says how to get a criu that works on this machine.
func GetCriu() string { return thisMachine().getCriu() }

// installers are the commands that install criu's package, by ID or ID_LIKE of
// os-release(5).
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

// makeCriu is the advice that needs no package of this system.
func (m machine) makeCriu() string {
	if m.source != "" {
		return "run 'make criu' in " + show.Name(m.source)
	}
	if m.getter != "" {
		return "run '" + show.Name(m.getter) + "' as root"
	}
	return "run 'make criu' in the source of blcr-cli, and name what it makes by CR_CRIU"
}

// CriuForUsers returns a line that says how root allows all users to save and restore
// processes of their own. path is a criu that may not do that for the caller, and
// program says whether it is one to which the system gives capabilities, and no script.
func CriuForUsers(path string, program bool) string {
	return thisMachine().criuForUsers(path, program)
}

func (m machine) criuForUsers(path string, program bool) string {
	var command string
	switch {
	case m.source != "":
		command = "make -C " + show.Name(m.source) + " criu-for-users"
	case m.getter != "":
		command = show.Name(m.getter) + " --for-users"
	case program:
		command = "setcap cap_checkpoint_restore=ep " + show.Name(path)
	default:
		return "run this as root"
	}
	return "run this as root, or allow it to all users: sudo " + command
}

func (m machine) getCriu() string {
	id, major := m.value("ID"), m.major()
	if id == "debian" && major != 0 && major <= 12 && m.kernelSince(6, 13) {
		return fmt.Sprintf("to get one, %s: the package of Debian %d is too old", m.makeCriu(), major)
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
			// get-criu supports only these systems. It comes first where it is at hand:
			// some releases of Ubuntu have no package.
			if m.source == "" && m.getter == "" {
				return fmt.Sprintf("to get one, '%s', or %s", command, m.makeCriu())
			}
			return fmt.Sprintf("to get one, %s; or '%s'", m.makeCriu(), command)
		}
		return fmt.Sprintf("to get one, '%s'", command)
	}
	return "to get one, install the criu package or " + m.makeCriu()
}

// value returns the value of a variable of os-release.
func (m machine) value(name string) string {
	for line := range strings.Lines(m.release) {
		if v, ok := strings.CutPrefix(line, name+"="); ok {
			return strings.Trim(strings.TrimSpace(v), `"'`)
		}
	}
	return ""
}

// major returns the major number of the system's release, 0 if it has none.
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

// IsProgram tells whether a file is a program by itself, to which the system gives
// capabilities, and no script.
func IsProgram(path string) bool {
	file, err := os.Open(path)
	if err != nil {
		return false
	}
	defer file.Close()
	magic := make([]byte, 4)
	_, err = io.ReadFull(file, magic)
	return err == nil && string(magic) == "\x7fELF"
}
