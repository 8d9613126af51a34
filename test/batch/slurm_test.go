//go:build batch

package batch

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// job is one of the user's in a cluster.
type job struct {
	t   *testing.T
	c   *cluster
	dir string
	id  string // with the task, of an array
}

// submit has a script of docs/examples started in a new directory.
func submit(t *testing.T, c *cluster, script string, options ...string) *job {
	t.Helper()
	j := &job{t: t, c: c, dir: newWork(t)}
	j.sbatch(append(options, example(t, script))...)
	return j
}

// sbatch starts another job in the same directory.
func (j *job) sbatch(args ...string) {
	j.t.Helper()
	j.id = strings.TrimSpace(j.user("sbatch", append([]string{"--parsable"}, args...)...))
	c, id := j.c, j.id
	j.t.Cleanup(func() { _ = c.root("scancel", id).Run() })
}

// user runs a command of the user's and returns its output.
func (j *job) user(name string, args ...string) string {
	j.t.Helper()
	out, err := command(j.dir, []string{j.c.env}, name, args...).CombinedOutput()
	if err != nil {
		j.t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// operator runs one of root's.
func (j *job) operator(name string, args ...string) {
	j.t.Helper()
	if out, err := j.c.root(name, args...).CombinedOutput(); err != nil {
		j.t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
}

// field is one of those that "scontrol show job" has.
func (j *job) field(name string) string {
	j.t.Helper()
	for _, word := range strings.Fields(j.user("scontrol", "-o", "show", "job", j.id)) {
		if value, found := strings.CutPrefix(word, name+"="); found {
			return value
		}
	}
	j.t.Fatalf("job %s has no %s", j.id, name)
	return ""
}

func (j *job) state(want string) {
	j.t.Helper()
	poll(j.t, "job "+j.id+" is "+want, func() bool { return j.field("JobState") == want })
}

// steps is the file of the program.
func (j *job) steps() string { return filepath.Join(j.dir, "steps") }

// again waits until the job has been requeued once more than before and goes on.
func (j *job) again(before string) {
	j.t.Helper()
	n, _ := strconv.Atoi(before)
	want := strconv.Itoa(n + 1)
	poll(j.t, "job "+j.id+" is started again", func() bool { return j.field("Restarts") == want && j.field("JobState") == "RUNNING" })
	goesOn(j.t, j.steps())
}

// saved has the script save and requeue the job, and waits until it goes on.
func (j *job) saved() {
	j.t.Helper()
	before := j.field("Restarts")
	j.user("scancel", "--batch", "--signal=USR1", j.id)
	j.again(before)
}

// ends has the program end, and waits until its status is the job's.
func (j *job) ends() {
	j.t.Helper()
	finish(j.t, j.dir)
	j.state("FAILED")
	if status := j.field("ExitCode"); status != "7:0" {
		j.t.Errorf("job %s has ended with %s, want 7:0", j.id, status)
	}
}

// task is the process of the program, which SLURM has to know as one of the job's. What
// the program has just forked looks like it, until it calls exec.
func (j *job) task() (pid string) {
	j.t.Helper()
	poll(j.t, "the program among the job's processes", func() bool {
		// It may end with an error where steps have just ended.
		out, _ := command(j.dir, []string{j.c.env}, "scontrol", "listpids", j.id, j.field("NodeList")).Output()
		for line := range strings.Lines(string(out)) {
			pid = strings.Fields(line)[0]
			if simulates(pid) {
				stat, _ := os.ReadFile(fmt.Sprintf("/proc/%s/stat", pid))
				_, after, _ := strings.Cut(string(stat), ") ")
				if fields := strings.Fields(after); len(fields) > 1 && !simulates(fields[1]) {
					return true
				}
			}
		}
		return false
	})
	return pid
}

// simulates reports whether a process runs the program.
func simulates(pid string) bool {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%s/cmdline", pid))
	args := strings.Split(string(text), "\x00")
	return args[0] == "/bin/sh" && filepath.Base(args[1]) == "simulate"
}

// scripts are the job scripts for SLURM, all of which have to do the same.
var scripts = []string{"slurm.sh", "slurm-plain.sh"}

// TestSlurm: each scenario with each script, and every step is done once.
func TestSlurm(t *testing.T) {
	t.Parallel()
	c := slurm(t)
	for name, scenario := range map[string]func(*testing.T, *cluster, string){
		"limit": limit, "signal": bySignal, "requeue": byOperator, "array": array, "cancel": cancel, "preempt": preempt, "suspend": suspend,
	} {
		for _, script := range scripts {
			t.Run(name+"/"+script, func(t *testing.T) {
				t.Parallel()
				scenario(t, c, script)
			})
		}
	}
}

// limit: shortly before its time limit the job is saved, requeued, and goes on.
func limit(t *testing.T, c *cluster, script string) {
	j := submit(t, c, script, "--time=1", "--signal=B:USR1@30")
	j.again("0")
	j.ends()
}

// bySignal: the same several times, by the user's own signal. A job that is back is one
// whose processes and memory SLURM sees.
func bySignal(t *testing.T, c *cluster, script string) {
	j := submit(t, c, script)
	goesOn(t, j.steps())
	j.saved()
	j.task()
	poll(t, "memory of the job that is back", func() bool {
		rss := strings.TrimSpace(j.user("sstat", "-n", "-P", "-o", "MaxRSS", "-j", j.id+".batch"))
		return rss != "" && rss[0] != '0'
	})
	j.saved()
	j.ends()
}

// byOperator: the operator's requeue kills the job, which goes on from its context, or
// has started anew where there was none.
func byOperator(t *testing.T, c *cluster, script string) {
	j := submit(t, c, script)
	goesOn(t, j.steps())
	j.saved()
	kept := filepath.Join(j.dir, "kept")
	j.operator("scontrol", "requeue", j.id)
	poll(t, "job "+j.id+" is started again", func() bool { return j.field("Restarts") == "2" && j.field("JobState") == "RUNNING" })
	goesOn(t, kept)
	j.ends()
	steps(t, kept)
}

// array: each task has a context of its own, and one that is requeued leaves the others.
func array(t *testing.T, c *cluster, script string) {
	j := submit(t, c, script, "--array=1-2")
	one, two := *j, *j
	one.id, two.id = j.id+"_1", j.id+"_2"
	oneSteps, twoSteps := j.steps()+".1", j.steps()+".2"
	goesOn(t, oneSteps)
	goesOn(t, twoSteps)
	j.user("scancel", "--batch", "--signal=USR1", one.id)
	poll(t, "task 1 is started again", func() bool { return one.field("Restarts") == "1" && one.field("JobState") == "RUNNING" })
	goesOn(t, oneSteps)
	goesOn(t, twoSteps)
	if n := two.field("Restarts"); n != "0" {
		t.Errorf("task 2 has been restarted %s times", n)
	}
	one.ends()
	two.ends()
}

// cancel: nothing is left of a cancelled job, which is not requeued.
func cancel(t *testing.T, c *cluster, script string) {
	j := submit(t, c, script)
	goesOn(t, j.steps())
	j.saved()
	j.user("scancel", j.id)
	j.state("CANCELLED")
	poll(t, "no process of the job", func() bool {
		names, _ := filepath.Glob("/proc/[0-9]*/cwd")
		for _, name := range names {
			if to, _ := os.Readlink(name); to == j.dir {
				return false
			}
		}
		return true
	})
	if n := j.field("Restarts"); n != "1" {
		t.Errorf("%s restarts", n)
	}
}

// preempt: a job gives way to one of a better partition when it has been saved, and goes
// on when that one has ended. SLURM sends the job's own signal where SlurmctldParameters
// has preempt_send_user_signal, and leaves it GraceTime.
func preempt(t *testing.T, c *cluster, script string) {
	j := submit(t, c, script, "--partition=low", "--gres=slot:1")
	goesOn(t, j.steps())
	better := *j
	better.sbatch("--gres=slot:1", "--output=better.out", "--wrap", "until [ -e enough ]; do sleep 1; done")
	better.state("RUNNING")
	steps(t, j.steps())
	if err := os.WriteFile(filepath.Join(j.dir, "enough"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	better.state("COMPLETED")
	j.again("0")
	j.ends()
}

// suspend: a job that has been suspended for a while goes on, and can be saved.
func suspend(t *testing.T, c *cluster, script string) {
	j := submit(t, c, script)
	goesOn(t, j.steps())
	j.suspended()
	j.saved()
	j.suspended()
	j.ends()
}

// suspended has the operator suspend the job for a moment. SLURM loses signals that come
// before it has stopped the processes.
func (j *job) suspended() {
	j.t.Helper()
	pid := j.task()
	j.operator("scontrol", "suspend", j.id)
	poll(j.t, "the program is stopped", func() bool {
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%s/stat", pid))
		_, after, _ := strings.Cut(string(text), ") ")
		return strings.HasPrefix(after, "T")
	})
	j.operator("scontrol", "resume", j.id)
	goesOn(j.t, j.steps())
}

// TestSlurmSteps: a task of a step is saved by a step beside it, and goes on in a step of
// another job, on the other node. Its output is that job's.
func TestSlurmSteps(t *testing.T) {
	t.Parallel()
	byStep(t, &job{t: t, c: slurm(t), dir: newWork(t)})
}

// TestSlurmPrivateTmp: the same where each job has a /tmp of its own.
func TestSlurmPrivateTmp(t *testing.T) {
	t.Parallel()
	slurm(t) // the programs are there
	c, err := privateTmp()
	if err != nil {
		t.Fatal(err)
	}
	byStep(t, &job{t: t, c: c, dir: newWork(t)})
}

func byStep(t *testing.T, j *job) {
	j.begins("first.out", "-w", "n1", "--wrap", "srun ./simulate input")
	refused(t, j, "srun")
	j.user("srun", "--jobid="+j.id, "--overlap", "cr_checkpoint", "-f", "ctx", "--kill", j.task())
	j.state("FAILED")
	if status := j.field("ExitCode"); status != "137:0" && status != "0:9" {
		t.Errorf("the first job has ended with %s", status)
	}
	j.begins("second.out", "-w", "n2", "--wrap", "srun cr_restart --keep-stdio ctx")
	j.ends()
	if out, _ := os.ReadFile(filepath.Join(j.dir, "second.out")); !strings.Contains(string(out), "finished\n") {
		t.Errorf("the second job's output is %q", out)
	}
}

// begins submits a job and waits until it has done some steps.
func (j *job) begins(output string, args ...string) {
	j.t.Helper()
	from := steps(j.t, j.steps())
	j.sbatch(append([]string{"--output=" + output}, args...)...)
	poll(j.t, fmt.Sprintf("steps in %s beyond %d", j.steps(), from+3), func() bool { return steps(j.t, j.steps()) > from+3 })
}

// refused: a program of the job that stands for processes elsewhere cannot be saved.
func refused(t *testing.T, j *job, program string) {
	t.Helper()
	names, _ := filepath.Glob("/proc/[0-9]*/exe")
	for _, name := range names {
		to, _ := os.Readlink(name)
		cwd, _ := os.Readlink(filepath.Join(filepath.Dir(name), "cwd"))
		if filepath.Base(to) != program || cwd != j.dir {
			continue
		}
		cmd := command(j.dir, nil, "cr_checkpoint", "-f", "refused", "--kill", filepath.Base(filepath.Dir(name)))
		out, err := cmd.CombinedOutput()
		if err == nil || cmd.ProcessState.ExitCode() != int(syscall.EOPNOTSUPP) || !strings.Contains(string(out), "("+program+")") {
			t.Errorf("cr_checkpoint of %s: %v\n%s", program, err, out)
		}
		return
	}
	t.Errorf("there is no %s", program)
}
