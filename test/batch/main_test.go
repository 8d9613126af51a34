//go:build batch

// Package batch runs jobs that are saved and restarted in real batch systems, and real
// MPI programs: SLURM, Grid Engine, MPICH and Open MPI, as Debian has them. The job scripts are those
// of docs/examples, unchanged.
//
// The tests take root, for the daemons; the jobs are those of an ordinary user, with a
// criu that has the capability cap_checkpoint_restore. Everything runs in namespaces of
// its own for processes and mounts, and ends with them. What a program is
// missing for is skipped, or fails with CI=true.
//
//	make check-batch
//	go test -tags batch ./test/batch -run 'TestSlurm/^array$' -v
//
// CR_BIN and CR_CRIU are those of test/real, which has what needs no batch system.
package batch

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"blcr-cli/test/harness"
)

// inside is set in the process that runs the tests, in its own namespaces.
const inside = "BLCR_CLI_TEST_BATCH"

var (
	// bin has the commands, criu is the users'; scratch has everything of these tests.
	bin, criu, scratch string
	// user is the owner of the jobs: nobody.
	user = syscall.Credential{Uid: 65534, Gid: 65534}
)

func TestMain(m *testing.M) {
	flag.Parse()
	if scratch = os.Getenv(inside); scratch == "" {
		os.Exit(ownNamespaces())
	}
	bin, criu = filepath.Join(scratch, "bin"), filepath.Join(scratch, "criu/criu")
	if dir := os.Getenv("CR_BIN"); dir != "" {
		bin = dir
	}
	harness.Start()
	os.Exit(m.Run())
}

// ownNamespaces runs the tests once more: below a shell that is the first process of a
// pid namespace and waits for all orphans, as a node's init does. What needs the
// surroundings is made before.
func ownNamespaces() int {
	if os.Geteuid() != 0 {
		return complain("it takes root: the daemons of batch systems are root's")
	}
	var err error
	// Not in /tmp, of which jobs can have one of their own.
	if scratch, err = os.MkdirTemp("/var/tmp", "batchtest"); err != nil {
		return complain("%v", err)
	}
	defer os.RemoveAll(scratch)
	defer removeGroups()
	if err := prepare(); err != nil {
		return complain("%v", err)
	}
	self, err := os.Executable()
	if err != nil {
		return complain("%v", err)
	}
	cmd := exec.Command("unshare", append([]string{"--pid", "--fork", "--kill-child", "--mount-proc", "--ipc",
		"setsid", "-w", "sh", "-c", `"$0" "$@"; exit`, self}, os.Args[1:]...)...)
	cmd.Env = append(os.Environ(), inside+"="+scratch)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread() // the parent of Pdeathsig is this thread
	err = cmd.Run()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return max(exit.ExitCode(), 1)
	} else if err != nil {
		return complain("%v", err)
	}
	return 0
}

// prepare builds the commands, and copies the criu of "make criu" with what
// "make criu-for-users" gives it. It may not be had: then the jobs find none.
func prepare() error {
	if err := os.Chmod(scratch, 0o755); err != nil {
		return err
	}
	if os.Getenv("CR_BIN") == "" {
		dir := filepath.Join(scratch, "bin")
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
		if err := harness.Commands(dir); err != nil {
			return err
		}
	}
	from := os.Getenv("CR_CRIU")
	if from == "" {
		from = "../../.criu/criu"
	}
	dir := filepath.Join(scratch, "criu")
	if out, err := exec.Command("cp", "-RP", filepath.Dir(from)+"/.", dir).CombinedOutput(); err != nil {
		return fmt.Errorf("the copy of %s (make criu): %v\n%s", from, err, out)
	}
	get := exec.Command("../../packaging/criu/get-criu", "--for-users", dir)
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "CR_CRIU=") {
			get.Env = append(get.Env, v)
		}
	}
	if out, err := get.CombinedOutput(); err != nil {
		return fmt.Errorf("get-criu --for-users: %v\n%s", err, out)
	}
	return nil
}

func complain(format string, args ...any) int {
	fmt.Fprintf(os.Stderr, "test/batch: "+format+"\n", args...)
	return 1
}

// example is the path of a job script in docs/examples.
func example(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("../../docs/examples", name))
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// environment is that of the user: the commands first in PATH, and its criu.
func environment(more ...string) []string {
	return append([]string{
		"PATH=" + bin + ":/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "HOME=" + scratch, "USER=nobody", "LOGNAME=nobody",
		"CR_CRIU=" + criu, "CR_FTB=off", "LC_ALL=C",
	}, more...)
}
