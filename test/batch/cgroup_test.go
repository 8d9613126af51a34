//go:build batch

package batch

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// hierarchies are those of control groups, version 1, that SLURM's plugins use here.
var hierarchies = []string{"freezer", "memory", "cpuset", "cpuacct"}

const groups = "/sys/fs/cgroup"

// groupsMissing says why SLURM could not track the jobs by control groups, "" if it can.
func groupsMissing() string {
	var fs unix.Statfs_t
	if unix.Statfs(groups, &fs) != nil {
		return "there are no control groups in " + groups
	}
	if fs.Type == unix.CGROUP2_SUPER_MAGIC {
		return "control groups have version 2 only, for which SLURM wants to be a service of systemd's"
	}
	for _, name := range hierarchies {
		probe := filepath.Join(groups, name, fmt.Sprintf("batchtest.%d", os.Getpid()))
		if err := os.Mkdir(probe, 0o755); err != nil {
			return err.Error()
		}
		if err := os.Remove(probe); err != nil {
			return err.Error()
		}
	}
	return ""
}

// removeGroups removes those that the nodes have left: they end by SIGKILL.
func removeGroups() {
	for _, name := range hierarchies {
		var dirs []string
		for _, node := range []string{"slurm_n1", "slurm_n2"} {
			_ = filepath.WalkDir(filepath.Join(groups, name, node), func(path string, d os.DirEntry, err error) error {
				if err == nil && d.IsDir() {
					dirs = append(dirs, path)
				}
				return nil
			})
		}
		for i := len(dirs) - 1; i >= 0; i-- {
			_ = unix.Rmdir(dirs[i])
		}
	}
}

var inGroups = sync.OnceValues(func() (*cluster, error) {
	return start("groups", "ProctrackType=proctrack/cgroup\nTaskPlugin=task/cgroup\nJobAcctGatherType=jobacct_gather/cgroup\n")
})

// TestSlurmGroups: jobs that SLURM tracks by control groups, whose memory is limited and
// accounted for by them, and which are suspended by the freezer. A job that is back is in
// the groups of the job that has restarted it.
func TestSlurmGroups(t *testing.T) {
	t.Parallel()
	slurm(t) // the programs are there
	if why := groupsMissing(); why != "" {
		t.Skip(why)
	}
	c, err := inGroups()
	if err != nil {
		t.Fatal(err)
	}
	for _, script := range scripts {
		t.Run(script, func(t *testing.T) {
			t.Parallel()
			j := submit(t, c, script)
			goesOn(t, j.steps())
			j.frozen()
			j.saved()
			j.frozen()
			poll(t, "memory of the job that is back", func() bool {
				rss := strings.TrimSpace(j.user("sstat", "-n", "-P", "-o", "MaxRSS", "-j", j.id+".batch"))
				return rss != "" && rss[0] != '0'
			})
			j.saved()
			j.ends()
		})
	}
}

// frozen has the operator suspend the job for a moment.
func (j *job) frozen() {
	j.t.Helper()
	pid := j.task()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%s/cgroup", pid))
	if err != nil {
		j.t.Fatal(err)
	}
	of := map[string]string{}
	for line := range strings.Lines(string(text)) {
		if part := strings.SplitN(strings.TrimSpace(line), ":", 3); len(part) == 3 {
			of[part[1]] = part[2]
		}
	}
	for _, name := range []string{"freezer", "memory"} {
		if !strings.Contains(of[name], "/job_"+j.field("JobId")+"/") {
			j.t.Errorf("the program is in the %s group %q", name, of[name])
		}
	}
	state := func() string {
		text, _ := os.ReadFile(filepath.Join(groups, "freezer", of["freezer"], "freezer.state"))
		return strings.TrimSpace(string(text))
	}
	j.operator("scontrol", "suspend", j.id)
	poll(j.t, "the job is frozen", func() bool { return state() == "FROZEN" })
	before := steps(j.t, j.steps())
	j.operator("scontrol", "resume", j.id)
	poll(j.t, "the job is thawed", func() bool { return state() == "THAWED" })
	poll(j.t, "steps of the job that is thawed", func() bool { return steps(j.t, j.steps()) > before+3 })
}
