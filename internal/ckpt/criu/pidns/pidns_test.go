package pidns

import (
	"errors"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/proc"
	"blcr-cli/internal/reexec"
)

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
