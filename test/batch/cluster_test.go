//go:build batch

package batch

import (
	"crypto/rand"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"blcr-cli/test/harness"
)

// cluster is a SLURM of our own on this machine, with two nodes that are one.
type cluster struct {
	dir string
	env string // SLURM_CONF
}

// configuration is slurm.conf; %[1]s: the directory, %[2]s: the machine, %[3]s: more lines.
// A requeued job starts as soon as the credential of the old one has expired. The nodes
// have as many processors as there are tests; what the low partition's jobs are preempted
// from is a slot.
const configuration = `ClusterName=test
SlurmctldHost=%[2]s(127.0.0.1)
SlurmUser=root
SlurmctldPort=%[4]d
AuthType=auth/munge
AuthInfo=socket=%[1]s/munge.socket,cred_expire=5
CredType=cred/munge
StateSaveLocation=%[1]s/state
SlurmdSpoolDir=%[1]s/%%n
SlurmctldPidFile=%[1]s/ctld.pid
SlurmdPidFile=%[1]s/%%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU=100
KillWait=30
MinJobAge=3600
MpiDefault=none
ReturnToService=2
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=1,sched_min_interval=0,batch_sched_delay=0,bf_interval=1
GresTypes=slot
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
NodeName=n1 NodeHostname=%[2]s NodeAddr=127.0.0.1 Port=%[5]d CPUs=64 RealMemory=64000 Gres=slot:1
NodeName=n2 NodeHostname=%[2]s NodeAddr=127.0.0.1 Port=%[6]d CPUs=64 RealMemory=64000
PartitionName=main Nodes=n1,n2 Default=YES PriorityTier=10
PartitionName=low Nodes=n1 PriorityTier=1 GraceTime=120
%[3]s`

// slurm is the cluster of the tests that need nothing special of it.
func slurm(t *testing.T) *cluster {
	t.Helper()
	for _, name := range []string{"munged", "slurmctld", "slurmd", "sbatch"} {
		harness.Tool(t, name)
	}
	c, err := usual()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

var usual = sync.OnceValues(func() (*cluster, error) { return start("slurm", "") })

// privateTmp is one whose jobs have a /tmp of their own, each in a mount namespace that its
// slurmd binds to a file. The kernel refuses that for a namespace with a smaller number than
// slurmd's own. Linux 6.18 gives numbers out by processor: all are made on one.
var privateTmp = sync.OnceValues(func() (*cluster, error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return nil, os.NewSyscallError("sched_getaffinity", err)
	}
	first := 0
	for !set.IsSet(first) {
		first++
	}
	return start("private", "JobContainerType=job_container/tmpfs\nPrologFlags=contain\n",
		"taskset", "-c", strconv.Itoa(first), "unshare", "--mount")
})

// start starts the daemons by a command, if there is one. They end with the pid namespace.
func start(name, more string, by ...string) (*cluster, error) {
	dir := filepath.Join(scratch, name)
	c := &cluster{dir: dir, env: "SLURM_CONF=" + filepath.Join(dir, "slurm.conf")}
	for _, d := range []string{"", "state", "n1", "n2"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			return nil, err
		}
	}
	machine, err := os.Hostname()
	if err != nil {
		return nil, err
	}
	machine, _, _ = strings.Cut(machine, ".")
	key := make([]byte, 128)
	_, _ = rand.Read(key)
	port, err := freePorts(3)
	if err != nil {
		return nil, err
	}
	for file, content := range map[string][]byte{
		"munge.key": key,
		// Used where JobContainerType says so.
		"cgroup.conf":        []byte("CgroupPlugin=cgroup/v1\nConstrainRAMSpace=yes\nConstrainCores=no\n"),
		"job_container.conf": fmt.Appendf(nil, "AutoBasePath=true\nBasePath=%s/tmp\n", dir),
		"slurm.conf":         fmt.Appendf(nil, configuration, dir, machine, more, port[0], port[1], port[2]),
	} {
		mode := os.FileMode(0o644)
		if file == "munge.key" {
			mode = 0o600
		}
		if err := os.WriteFile(filepath.Join(dir, file), content, mode); err != nil {
			return nil, err
		}
	}
	at := func(file string) string { return filepath.Join(dir, file) }
	for i, daemon := range [][]string{
		{"munged", "--foreground", "--force", "--num-threads=2", "--socket=" + at("munge.socket"), "--key-file=" + at("munge.key"),
			"--pid-file=" + at("munge.pid"), "--seed-file=" + at("munge.seed")},
		{"slurmctld", "-D", "-c", "-f", at("slurm.conf")},
		{"slurmd", "-D", "-f", at("slurm.conf"), "-N", "n1"},
		{"slurmd", "-D", "-f", at("slurm.conf"), "-N", "n2"},
	} {
		log, err := os.Create(at(fmt.Sprintf("%d.%s.log", i, daemon[0])))
		if err != nil {
			return nil, err
		}
		cmd := exec.Command("setsid", append(slices.Clone(by), daemon...)...)
		cmd.Env = append(os.Environ(), c.env)
		cmd.Stdout, cmd.Stderr = log, log
		err = cmd.Start()
		log.Close()
		if err != nil {
			return nil, err
		}
		go func() { _ = cmd.Wait() }()
		if daemon[0] == "munged" {
			if err := c.until("munged listens", func() bool { _, err := os.Stat(at("munge.socket")); return err == nil }); err != nil {
				return nil, err
			}
		}
	}
	return c, c.until("both nodes are idle", func() bool {
		out, _ := c.root("timeout", "10", "sinfo", "-h", "-N", "-p", "main", "-o", "%t").Output()
		return string(out) == "idle\nidle\n"
	})
}

// until waits for a state of the daemons, whose logs are in the error if it does not come.
func (c *cluster) until(what string, holds func() bool) error {
	for end := time.Now().Add(harness.Patience); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if holds() {
			return nil
		}
	}
	err := fmt.Errorf("does not come: %s", what)
	logs, _ := filepath.Glob(filepath.Join(c.dir, "*.log"))
	for _, name := range logs {
		text, _ := os.ReadFile(name)
		err = fmt.Errorf("%w\n%s:\n%s", err, filepath.Base(name), text)
	}
	return err
}

// root is a command of the operator.
func (c *cluster) root(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), c.env)
	return cmd
}

// freePorts are ports on which nothing listens.
func freePorts(n int) ([]int, error) {
	ports := make([]int, n)
	for i := range ports {
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		ports[i] = l.Addr().(*net.TCPAddr).Port
	}
	return ports, nil
}
