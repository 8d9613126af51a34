//go:build batch

package batch

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"blcr-cli/test/harness"
)

// mpi is an implementation, and how docs/batch.md says that it is run so that it can be
// saved.
type mpi struct {
	name, compiler string
	env            []string
	mpirun         []string
	nodes          []string // its options for two nodes, and an agent, whose path follows
	rank           string   // the variable with the rank
	tcp            bool     // between mpirun and its ranks, which takes root
	// Open MPI's jobs have removed files of the same name in /dev/shm, which CRIU makes
	// again for a moment.
	alone sync.Mutex
}

var mpis = []*mpi{
	{name: "mpich", compiler: "mpicc.mpich", env: []string{"UCX_TLS=posix,self"}, mpirun: []string{"mpirun.mpich", "-launcher", "fork", "-rmk", "user"}, rank: "PMI_RANK",
		nodes: []string{"mpirun.mpich", "-rmk", "user", "-hosts", "127.0.0.1,127.0.0.2", "-launcher", "ssh", "-launcher-exec"}},
	{name: "openmpi", compiler: "mpicc.openmpi", env: []string{"UCX_TLS=posix,self", "OMPI_ALLOW_RUN_AS_ROOT=1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1"},
		mpirun: []string{"mpirun.openmpi", "--oversubscribe"}, rank: "OMPI_COMM_WORLD_RANK", tcp: true,
		nodes: []string{"mpirun.openmpi", "--host", "127.0.0.1:1,127.0.0.2:2", "--mca", "plm_rsh_agent"}},
}

// work makes a directory with the program.
func (m *mpi) work(t *testing.T) string {
	t.Helper()
	compiler := harness.Tool(t, m.compiler)
	harness.Tool(t, m.mpirun[0])
	dir := newWork(t)
	if out, err := exec.Command(compiler, "-Wall", "-Wextra", "-o", filepath.Join(dir, "ring"), "testdata/ring.c").CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", compiler, err, out)
	}
	return dir
}

// begin runs a command of a user in the background; what it prints is in the file name.
// The function waits for its end and returns the status, or minus the signal.
func begin(t *testing.T, dir, name string, cred *syscall.Credential, env []string, args ...string) (*exec.Cmd, func() int) {
	t.Helper()
	cmd := command(dir, env, args[0], args[1:]...)
	cmd.SysProcAttr.Credential = cred
	out, err := os.Create(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if cred != nil {
		_ = out.Chown(int(cred.Uid), int(cred.Gid))
	}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan int, 1)
	go func() {
		_ = cmd.Wait()
		status := cmd.ProcessState.Sys().(syscall.WaitStatus)
		if status.Signaled() {
			ended <- -int(status.Signal())
		} else {
			ended <- status.ExitStatus()
		}
	}()
	t.Cleanup(func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
	return cmd, func() int { return <-ended }
}

// eachMPI runs a test with each implementation, as root and as a user, in a directory with
// the program. One implementation has one job at a time.
func eachMPI(t *testing.T, test func(t *testing.T, m *mpi, cred *syscall.Credential, dir string)) {
	for _, m := range mpis {
		for name, cred := range map[string]*syscall.Credential{"root": nil, "user": &user} {
			t.Run(m.name+"/"+name, func(t *testing.T) {
				t.Parallel()
				m.alone.Lock()
				defer m.alone.Unlock()
				test(t, m, cred, m.work(t))
			})
		}
	}
}

// TestMPI: the whole tree of mpirun is saved and restarted, as root and as a user, and
// every round of the ring is done once. Open MPI's takes root; a user's runs on unharmed.
func TestMPI(t *testing.T) {
	t.Parallel()
	eachMPI(t, func(t *testing.T, m *mpi, cred *syscall.Credential, dir string) {
		env := m.env
		args := append(append([]string{}, m.mpirun...), "-np", "3", "./ring")
		cmd, end := begin(t, dir, "out", cred, env, args...)
		file := filepath.Join(dir, "steps")
		goesOn(t, file)
		for range 2 {
			save := command(dir, env, "cr_checkpoint", "-f", "ctx", "--clobber", "--kill", fmt.Sprint(cmd.Process.Pid))
			save.SysProcAttr.Credential = cred
			if m.tcp && cred != nil {
				out, err := save.CombinedOutput()
				if err == nil || !bytes.Contains(out, []byte("as root")) {
					t.Errorf("cr_checkpoint of a user's job with TCP: %v\n%s", err, out)
				}
				break
			}
			if out, err := save.CombinedOutput(); err != nil {
				t.Fatalf("cr_checkpoint: %v\n%s", err, out)
			}
			if status := end(); status != -int(syscall.SIGKILL) && status != 128+int(syscall.SIGKILL) {
				t.Errorf("it has ended with %d, want SIGKILL", status)
			}
			cmd, end = restarted(t, dir, cred, env)
			goesOn(t, file)
		}
		finish(t, dir)
		if status := end(); status != 0 {
			t.Errorf("it has ended with %d, want 0", status)
		}
		steps(t, file)
	})
}

// agent stands for ssh and a daemon on the other node: what it starts is no child of
// mpirun, which waits for the agent.
const agent = `#!/bin/sh
while [ "${1#-}" != "$1" ]; do shift; done
shift
setsid -f sh -c "$*; : >'$0.$$'"
until [ -e "$0.$$" ]; do sleep 0.1; done
`

// TestMPINodes: a job with ranks on another node is refused, and runs on unharmed.
func TestMPINodes(t *testing.T) {
	t.Parallel()
	eachMPI(t, func(t *testing.T, m *mpi, cred *syscall.Credential, dir string) {
		write(t, filepath.Join(dir, "agent"), agent)
		args := append(append([]string{}, m.nodes...), filepath.Join(dir, "agent"), "-np", "3", "./ring")
		cmd, end := begin(t, dir, "out", cred, m.env, args...)
		file := filepath.Join(dir, "steps")
		goesOn(t, file)
		save := command(dir, m.env, "cr_checkpoint", "-f", "ctx", "--kill", fmt.Sprint(cmd.Process.Pid))
		save.SysProcAttr.Credential = cred
		out, err := save.CombinedOutput()
		if save.ProcessState.ExitCode() != int(syscall.EOPNOTSUPP) || !bytes.Contains(out, []byte(" has a TCP connection to ")) ||
			!bytes.Contains(out, []byte(" is not among those to be saved")) {
			t.Errorf("cr_checkpoint: %v\n%s", err, out)
		}
		goesOn(t, file)
		finish(t, dir)
		if status := end(); status != 0 {
			t.Errorf("it has ended with %d, want 0", status)
		}
		steps(t, file)
	})
}

// restarted starts cr_restart, again while addresses of the job are in TIME_WAIT, which is
// for a minute, and cr_restart says so.
func restarted(t *testing.T, dir string, cred *syscall.Credential, env []string) (cmd *exec.Cmd, end func() int) {
	t.Helper()
	file := filepath.Join(dir, "steps")
	from := steps(t, file)
	poll(t, "a restart", func() bool {
		cmd, end = begin(t, dir, "restart.out", cred, env, "cr_restart", "ctx")
		var status int
		over := make(chan int, 1)
		go func(end func() int) { over <- end() }(end)
		poll(t, "the restarted job's steps, or its end", func() bool {
			select {
			case status = <-over:
				return true
			default:
				return steps(t, file) > from
			}
		})
		if steps(t, file) > from {
			end = func() int { return <-over }
			return true
		}
		text, _ := os.ReadFile(filepath.Join(dir, "restart.out"))
		if status != int(syscall.EADDRINUSE) || !bytes.Contains(text, []byte("try again when a minute is over")) {
			t.Fatalf("cr_restart: %d\n%s", status, text)
		}
		// What CRIU has made again of the removed files, and a restart that fails leaves.
		left, _ := filepath.Glob("/dev/shm/open_mpi.*")
		for _, name := range left {
			_ = os.Remove(name)
		}
		return false
	})
	return cmd, end
}

// TestMPIStarts: mpirun starts cr_run, and cr_restart with the context of each rank, and
// ends as they end.
func TestMPIStarts(t *testing.T) {
	t.Parallel()
	for _, m := range mpis {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			dir := m.work(t)
			file := filepath.Join(dir, "steps")
			_, end := begin(t, dir, "out", &user, m.env, append(append([]string{}, m.mpirun...), "-np", "2", "cr_run", "./ring")...)
			goesOn(t, file)
			finish(t, dir)
			if status := end(); status != 0 {
				t.Errorf("mpirun cr_run has ended with %d, want 0", status)
			}
			for _, name := range []string{"finish", "steps"} {
				if err := os.Remove(filepath.Join(dir, name)); err != nil {
					t.Fatal(err)
				}
			}
			for rank := range 2 {
				cmd, end := begin(t, dir, fmt.Sprintf("out.%d", rank), &user, []string{fmt.Sprintf("TASK=%d", rank)}, "./simulate", "input")
				goesOn(t, fmt.Sprintf("%s.%d", file, rank))
				save := command(dir, nil, "cr_checkpoint", "-f", fmt.Sprintf("ctx.%d", rank), "--kill", fmt.Sprint(cmd.Process.Pid))
				if out, err := save.CombinedOutput(); err != nil {
					t.Fatalf("cr_checkpoint: %v\n%s", err, out)
				}
				end()
			}
			_, end = begin(t, dir, "out", &user, m.env, append(append([]string{}, m.mpirun...), "-np", "2", "sh", "-c", "exec cr_restart ctx.$"+m.rank)...)
			for rank := range 2 {
				goesOn(t, fmt.Sprintf("%s.%d", file, rank))
			}
			finish(t, dir)
			if status := end(); status != 7 {
				t.Errorf("mpirun cr_restart has ended with %d, want 7", status)
			}
			out, _ := os.ReadFile(filepath.Join(dir, "out"))
			if strings.Contains(string(out), "Restart failed") {
				t.Errorf("%s", out)
			}
		})
	}
}
