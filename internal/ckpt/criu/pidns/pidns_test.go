package pidns

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/proc"
	"blcr-cli/internal/reexec"
)

// limited is the variable that names a limit of namespaces, in a test process that has a
// user namespace of its own and sets the limit to 0.
const limited = "PIDNS_TEST_LIMITED"

func init() {
	reexec.Register(reexec.Role{Name: "limited", Asked: func() bool { return os.Getenv(limited) != "" }, Run: func([]int, []string) int {
		name := os.Getenv(limited)
		os.Unsetenv(limited) // what New starts is no such process
		if err := os.WriteFile("/proc/sys/user/"+name, []byte("0"), 0); err != nil {
			fmt.Println(err)
			return 2
		}
		_, err := New(0, time.Minute, time.Minute)
		fmt.Printf("%v %q", ckpt.ErrnoOf(err), ckpt.DetailOf(err))
		return 1
	}})
}

// TestForbidden: a user who may not make one of the namespaces is told which setting
// forbids it.
func TestForbidden(t *testing.T) {
	for _, name := range []string{"max_user_namespaces", "max_pid_namespaces", "max_mnt_namespaces", "max_time_namespaces"} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command(proc.Self())
			cmd.Env = append(os.Environ(), limited+"="+name)
			cmd.SysProcAttr = &syscall.SysProcAttr{
				Cloneflags:  unix.CLONE_NEWUSER,
				UidMappings: []syscall.SysProcIDMap{{ContainerID: 1000, HostID: os.Geteuid(), Size: 1}},
				GidMappings: []syscall.SysProcIDMap{{ContainerID: 1000, HostID: os.Getegid(), Size: 1}},
				AmbientCaps: []uintptr{unix.CAP_SYS_RESOURCE},
			}
			out, err := cmd.CombinedOutput()
			switch {
			case cmd.ProcessState == nil || cmd.ProcessState.ExitCode() == 2:
				t.Skipf("no user namespace, or no limit can be set here: %v %s", err, out)
			case !strings.Contains(string(out), "'sysctl user."+name+"=10000'"):
				t.Errorf("%v, %s", err, out)
			}
		})
	}
}

func TestMain(m *testing.M) {
	if status, inner := reexec.Main(); inner {
		os.Exit(status)
	}
	os.Exit(m.Run())
}

func make1(t *testing.T) *Namespace {
	t.Helper()
	n, err := New(0, 0, 0)
	if errors.Is(err, unix.EPERM) {
		t.Skipf("it takes a privilege: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		n.End()
		waitEnd(t, n)
	})
	return n
}

func waitEnd(t *testing.T, n *Namespace) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !proc.Ended(n.Init); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("its init does not end")
		}
	}
}

// TestNamespace: the init is process 1 of another namespace and no child of this
// process, and ends with End.
func TestNamespace(t *testing.T) {
	n := make1(t)
	pids, err := proc.InnerPids(n.Init)
	if err != nil || pids[len(pids)-1] != 1 {
		t.Errorf("the init has the pids %v, %v", pids, err)
	}
	for _, kind := range []string{"pid", "mnt"} {
		theirs, err := proc.Namespace(n.Init, kind)
		ours, _ := proc.Namespace(os.Getpid(), kind)
		if err != nil || theirs == ours {
			t.Errorf("%s namespace: %v, %v", kind, theirs == ours, err)
		}
	}
	if p, err := proc.Read(n.Init); err != nil || p.PPid == os.Getpid() || p.Comm != "cr_restart-init" {
		t.Errorf("%+v, %v", p, err)
	}
	if pid := n.Outer(1); pid != 0 {
		t.Errorf("process %d is a child of this one", pid)
	}
	n.End()
	waitEnd(t, n)
	n.End()
}

// TestRun: with a job that has ended the init has nothing to wait for.
func TestRun(t *testing.T) {
	n := make1(t)
	n.Run(1 << 22) // there is no such process
	waitEnd(t, n)
}
