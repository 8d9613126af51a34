package hints

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestGetCriu(t *testing.T) {
	const make = "run 'make criu' in the source of blcr-cli, and name what it makes by CR_CRIU"
	for _, c := range []struct{ release, kernel, want string }{
		{"ID=debian\nVERSION_ID=\"12\"\n", "6.13.0-x", "to get one, " + make + ": the package of Debian 12 is too old"},
		{"ID=debian\nVERSION_ID=\"12\"\n", "6.1.0-44-amd64", "to get one, 'apt install criu', or " + make},
		{"ID=debian\nVERSION_ID=\"13\"\n", "6.18.4", "to get one, 'apt install criu', or " + make},
		{"ID=debian\n", "7.0", "to get one, 'apt install criu', or " + make},
		{"NAME=x\nID=linuxmint\nID_LIKE=\"ubuntu debian\"\nVERSION_ID=\"22\"\n", "6.8.0", "to get one, 'apt install criu', or " + make},
		{"ID=fedora\nVERSION_ID=42\n", "6.14", "to get one, 'dnf install criu'"},
		{"ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\nVERSION_ID=\"9.4\"\n", "5.14", "to get one, 'dnf install criu'"},
		{"ID=\"centos\"\nID_LIKE=\"rhel fedora\"\nVERSION_ID=\"7\"\n", "3.10.0", "to get one, 'yum install criu'"},
		{"ID=\"opensuse-leap\"\nID_LIKE=\"suse opensuse\"\n", "6.4", "to get one, 'zypper install criu'"},
		{"", "", "to get one, install the criu package or " + make},
	} {
		if got := (machine{release: c.release, kernel: c.kernel}).getCriu(); got != c.want {
			t.Errorf("%q on %s: %q, want %q", c.release, c.kernel, got, c.want)
		}
	}
	if got, want := (machine{source: "/src/blcr cli"}).getCriu(), "to get one, install the criu package or run 'make criu' in /src/blcr cli"; got != want {
		t.Errorf("with the source: %q, want %q", got, want)
	}
}

func TestCriuForUsers(t *testing.T) {
	const front = "run this as root, or allow it to all users: sudo "
	for _, c := range []struct {
		m       machine
		program bool
		want    string
	}{
		{machine{source: "/src", getter: "/src/sbin/x"}, true, front + "make -C /src criu-for-users"},
		{machine{getter: "/usr/sbin/blcr-cli-criu"}, false, front + "/usr/sbin/blcr-cli-criu --for-users"},
		{machine{}, true, front + "setcap cap_checkpoint_restore=ep /a/criu"},
		{machine{}, false, "run this as root"},
	} {
		if got := c.m.criuForUsers("/a/criu", c.program); got != c.want {
			t.Errorf("%+v, program %v: %q, want %q", c.m, c.program, got, c.want)
		}
	}
	if got, want := (machine{getter: "/usr/sbin/x", release: "ID=debian\nVERSION_ID=13\n"}).getCriu(), "to get one, run '/usr/sbin/x' as root; or 'apt install criu'"; got != want {
		t.Errorf("installed: %q, want %q", got, want)
	}
}

func TestUser(t *testing.T) {
	for uid, want := range map[int]string{0: "root", 1999999999: "user 1999999999"} {
		if got := User(uid); got != want {
			t.Errorf("%d is %q", uid, got)
		}
	}
}

func TestOpen(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		path  string
		errno syscall.Errno
		want  []string
	}{
		{dir + "/none/ctx", unix.ENOENT, []string{"there is no directory " + dir + "/none"}},
		{dir + "/none/such/ctx", unix.ENOENT, []string{"there is no directory " + dir + "/none"}},
		{dir + "/ctx", unix.ENOENT, nil},
		{dir + "/file/ctx", unix.ENOTDIR, []string{dir + "/file is no directory"}},
		{dir + "/ctx", unix.EEXIST, nil},
	} {
		if got := Open(c.path, c.errno); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", c.path, got, c.want)
		}
	}
}

// TestSpace: if there is room for the file, the free space is named.
func TestSpace(t *testing.T) {
	file, err := os.Create(filepath.Join(t.TempDir(), "ctx"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	got := Space(int(file.Fd()), unix.ENOSPC, 66<<20)
	if len(got) != 1 || !strings.HasPrefix(got[0], "the file system") || !strings.HasSuffix(got[0], ", and the context takes some 66 MiB") || !strings.Contains(got[0], " free, of ") {
		t.Errorf("%q", got)
	}
	null, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	if got := Space(int(null.Fd()), unix.ENOSPC, 0); got != nil {
		t.Errorf("a device: %q", got)
	}
}

// TestMachineMemory: the machine's memory is mentioned only if little is left.
func TestMachineMemory(t *testing.T) {
	const gib = 1 << 30
	for _, c := range []struct {
		m      map[string]uint64
		strict bool
		want   string
	}{
		{map[string]uint64{"MemTotal": 24 * gib, "MemAvailable": 23 * gib}, false, "[]"},
		{map[string]uint64{"MemTotal": 24 * gib, "MemAvailable": 1 * gib}, false, "[this machine has 1.0 GiB of memory left, of 24 GiB]"},
		{map[string]uint64{"MemTotal": 24 * gib, "MemAvailable": 20 * gib, "CommitLimit": 12 * gib, "Committed_AS": 11 * gib}, true,
			"[the processes of this machine have asked for 11 GiB of memory, of 12 GiB that they may have: see sysctl vm.overcommit_memory]"},
		{map[string]uint64{"MemTotal": 24 * gib, "MemAvailable": 20 * gib, "CommitLimit": 12 * gib, "Committed_AS": 11 * gib}, false, "[]"},
		{nil, false, "[]"},
	} {
		if got := fmt.Sprint(machineMemory(c.m, c.strict)); got != c.want {
			t.Errorf("%v: %s, want %s", c.m, got, c.want)
		}
	}
}

func TestLimits(t *testing.T) {
	if got := Limits(unix.EMFILE); len(got) != 1 || !strings.Contains(got[0], "(ulimit -n)") {
		t.Errorf("%q", got)
	}
	if got := Limits(unix.ENFILE); len(got) != 1 || !strings.Contains(got[0], "sysctl fs.file-max") {
		t.Errorf("%q", got)
	}
	if got := Limits(unix.EIO); got != nil {
		t.Errorf("%q", got)
	}
}
