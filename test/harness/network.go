package harness

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// networkVar is set in a process that has been started by [OwnNetwork].
const networkVar = "BLCR_CLI_TEST_OWN_NETWORK"

// directory is where "go test" has started the tests; TestMain may go elsewhere. It is
// set by [Start] and not here, since a test binary that is started as another program
// must make no system calls of its own.
var directory string

// InOwnNetwork says whether this process has been started by [OwnNetwork].
func InOwnNetwork() bool { return os.Getenv(networkVar) != "" }

// OwnNetwork is for a test that needs a well-known port. It returns true in a
// process that has a network namespace of its own, in which only the loopback
// interface is up and every port is free. In any other process it runs the test
// once more in such a process, reports what comes of it, and returns false: the
// test has to return then. TestMain has to use [Start] or [Main].
//
// Without run it is the calling test that is run there, otherwise those that match
// its elements, as those of go test's -run; one at a time.
//
// An ordinary user's test is root in a user namespace of its own there. Where that
// is not allowed the test is ended as [Missing] does.
func OwnNetwork(t *testing.T, run ...string) bool {
	t.Helper()
	if InOwnNetwork() {
		return true
	}
	pattern := strings.Join(run, "/")
	if pattern == "" {
		var parts []string
		for _, part := range strings.Split(t.Name(), "/") {
			parts = append(parts, "^"+regexp.QuoteMeta(part)+"$")
		}
		pattern = strings.Join(parts, "/")
	}
	cmd := exec.Command("/proc/self/exe", "-test.v", "-test.parallel=1", "-test.run="+pattern)
	cmd.Dir = directory
	cmd.Env = append(os.Environ(), networkVar+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if os.Geteuid() != 0 {
		// Where there may be no user namespace, a clone with mappings leaves package
		// syscall's pipe open, which would count as a leak. Without mappings it has none.
		probe := exec.Command("true")
		probe.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER}
		if err := probe.Run(); err != nil {
			Missing(t, "no user namespace: %v", err)
		}
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	switch {
	case err != nil && !errors.As(err, &exit):
		Missing(t, "no network namespace: %v", err)
	case err != nil:
		t.Errorf("in a network namespace: %v\n%s", err, out)
	case !strings.Contains(string(out), "--- PASS: "):
		t.Errorf("in a network namespace no test has passed:\n%s", out)
	}
	return false
}

// loopbackUp does "ip link set lo up".
func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	req.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req); err != nil {
		return fmt.Errorf("lo up: %w", err)
	}
	return nil
}
