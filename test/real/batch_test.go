//go:build real

package real

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"blcr-cli/test/harness"
)

// steps writes a line for each step into a file of its own, and ends with 7. It makes as
// many steps as the file limit says.
const steps = `exec 5>steps
for i in $(seq 60); do
	until read limit <limit && [ $limit -ge $i ]; do sleep 0.02; done
	echo $i >&5
	echo $i >now
	sleep 0.02
done
exit 7
`

// batch starts cr_batch with the job of steps.
func (j *job) batch(args ...string) *process {
	j.t.Helper()
	args = append([]string{"cr_batch", "-d", "gen", "-i", "1", "-k", "3", "-l", "log"}, args...)
	return j.run(append(args, "--", "/bin/bash", "steps.sh")...)
}

// step waits until the job has made at least n steps since it was started or restarted.
func (j *job) step(n int) {
	j.t.Helper()
	defer func() {
		if j.t.Failed() {
			j.t.Log(j.former("log"))
		}
	}()
	j.until(fmt.Sprintf("step %d", n), func() bool {
		var now int
		fmt.Sscan(j.former("now"), &now)
		return now >= n
	})
}

// generations returns the contexts, the oldest first.
func (j *job) generations() []string {
	names, _ := filepath.Glob(filepath.Join(j.dir, "gen", "context.??????"))
	return names
}

// age makes what killed commands have left in TMPDIR as old as what the next request
// removes there.
func (j *job) age() {
	j.t.Helper()
	names, _ := filepath.Glob(filepath.Join(j.tmp, "*"))
	for _, name := range names {
		then := time.Now().Add(-time.Hour)
		// One that is in use goes away by itself.
		if err := os.Chtimes(name, then, then); err != nil && !errors.Is(err, fs.ErrNotExist) {
			j.t.Error(err)
		}
	}
}

var batchRounds = flag.Int("batch-rounds", 0, "how often TestBatch runs its job; 0: once, or three times for all tests")

// TestBatch runs a job of 60 steps through interruptions of six kinds, each twice, in
// some order. Each step is made once, and the status is the job's.
func TestBatch(t *testing.T) {
	rounds := *batchRounds
	if rounds == 0 && harness.All() {
		rounds = 3
	}
	rounds = max(rounds, 1)
	for round := range rounds {
		t.Run(fmt.Sprint(round), func(t *testing.T) {
			j := newCaller(t)
			j.write("steps.sh", steps)
			defer func() {
				if t.Failed() {
					t.Log(j.former("log"))
				}
			}()
			kinds := []string{"USR1", "TERM", "batch killed", "all killed", "newest cut", "operator"}
			kinds = append(kinds, kinds...)
			rand.New(rand.NewPCG(uint64(round), 1)).Shuffle(len(kinds), func(a, b int) { kinds[a], kinds[b] = kinds[b], kinds[a] })
			t.Logf("interruptions: %q", kinds)
			requeued := 0
			for i, kind := range kinds {
				j.write("now", "0\n")
				j.write("limit", fmt.Sprintln(4*(i+1)+2))
				logged := len(j.read("log"))
				p := j.batch("--requeue-command", "echo again >>requeued")
				// A job that still runs goes on meanwhile; signals are for a cr_batch that has begun.
				j.until("cr_batch to begin", func() bool { return len(j.read("log")) > logged })
				j.step(4 * (i + 1))
				end, sig := 0, syscall.SIGKILL
				switch kind {
				case "USR1":
					end, sig = 85, syscall.SIGUSR1
				case "TERM":
					end, sig = 85, syscall.SIGTERM
				default:
					// Nothing is lost that was saved before.
					j.until("a checkpoint", func() bool { return len(j.generations()) > 0 })
				}
				if kind == "operator" {
					sig = syscall.SIGTERM // to all of the job, of which it dies unless it is saved before
				}
				all := tree(p.pid)
				unix.Kill(p.pid, sig)
				if kind == "all killed" || kind == "newest cut" || kind == "operator" {
					// The job before the criu that is at work in it, which it would notice.
					for _, pid := range all {
						unix.Kill(pid, sig)
					}
				}
				got := j.wait(p)
				if got.ExitStatus() == 85 {
					requeued++
				}
				if sig == syscall.SIGKILL && kind != "batch killed" {
					// What these processes have started meanwhile.
					j.until("no process", func() bool {
						left := j.helpers()
						for _, pid := range left {
							unix.Kill(pid, sig)
						}
						return len(left) == 0
					})
				}
				if sig == syscall.SIGKILL {
					j.age()
				}
				if kind == "operator" {
					end = got.ExitStatus()
					if end != 85 && got.Signal() != sig {
						t.Fatalf("%s: %s", kind, describe(got))
					}
				} else if sig != syscall.SIGKILL && status(got) != end || sig == syscall.SIGKILL && got.Signal() != sig {
					t.Fatalf("%s: %s", kind, describe(got))
				}
				if g := j.generations(); kind == "newest cut" && len(g) > 1 {
					if err := os.Truncate(g[len(g)-1], 50000); err != nil {
						t.Fatal(err)
					}
				}
			}
			j.write("limit", "60\n")
			j.ends(j.batch(), 7, "", "")
			var want strings.Builder
			for i := range 60 {
				fmt.Fprintln(&want, i+1)
			}
			if got := j.read("steps"); got != want.String() {
				t.Errorf("the steps were %q", strings.Fields(got))
			}
			if got := j.read("requeued"); got != strings.Repeat("again\n", requeued) || requeued < 4 {
				t.Errorf("requeued: %q", got)
			}
			j.nothing()
		})
	}
}

// TestBatchEnds: a job that ends well leaves nothing, and one that a signal kills has
// cr_batch die of it. What waits for a signal is saved and comes back.
func TestBatchEnds(t *testing.T) {
	j := newCaller(t)
	j.write("steps.sh", "echo begun >&2; echo x >now; while ! [ -e go ]; do sleep 0.05; done; echo output; read line <go; eval $line\n")
	p := j.batch()
	j.until("the job", func() bool { return j.exists("now") })
	unix.Kill(p.pid, unix.SIGUSR1)
	j.ends(p, 85, "", "begun\n")
	j.write("go", "kill -ALRM $$")
	j.ends(j.batch(), 128+int(unix.SIGALRM), "output\n", "")
	j.write("go", "exit 0")
	j.ends(j.batch(), 0, "output\n", "")
	if j.exists("gen") {
		t.Error("the directory is still there")
	}
	j.nothing()
}

// TestBatchStage: files are as they were when the job was saved.
func TestBatchStage(t *testing.T) {
	j := newCaller(t)
	if err := os.MkdirAll(filepath.Join(j.dir, "scratch", "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	j.write("steps.sh", `i=0
echo x >now
while ! [ -e go ]; do
	i=$((i + 1))
	echo $i >scratch/sub/count
	[ "$(cat scratch/sub/count)" = $i ] || exit 1
	sleep 0.01
	[ "$(cat scratch/sub/count)" = $i ] || exit 2
done
`)
	for range 2 {
		p := j.batch("--stage", "scratch")
		j.until("a checkpoint", func() bool { return len(j.generations()) > 1 })
		all := tree(p.pid)
		unix.Kill(p.pid, unix.SIGKILL)
		for _, pid := range slices.Backward(all) {
			unix.Kill(pid, unix.SIGKILL)
		}
		j.wait(p)
		j.age()
		if err := os.RemoveAll(filepath.Join(j.dir, "scratch", "sub")); err != nil {
			t.Fatal(err)
		}
	}
	p := j.batch("--stage", "scratch")
	j.until("the files", func() bool { return j.exists("scratch/sub/count") })
	j.write("go", "")
	j.ends(p, 0, "", "")
	j.nothing()
}

// killAll kills cr_batch, the job, and what they have started meanwhile, and waits.
func (j *job) killAll(p *process) {
	j.t.Helper()
	for _, pid := range tree(p.pid) {
		unix.Kill(pid, unix.SIGKILL)
	}
	j.wait(p)
	j.until("no process", func() bool {
		left := j.helpers()
		for _, pid := range left {
			unix.Kill(pid, unix.SIGKILL)
		}
		return len(left) == 0
	})
}

// logged waits until the log has a text so many times.
func (j *job) logged(text string, times int) {
	j.t.Helper()
	defer func() {
		if j.t.Failed() {
			j.t.Log(j.former("log"))
		}
	}()
	j.until(fmt.Sprintf("%q in the log, %d times", text, times), func() bool { return strings.Count(j.former("log"), text) >= times })
}

// made checks that each of the job's 60 steps was made once.
func (j *job) made() {
	j.t.Helper()
	var want strings.Builder
	for i := range 60 {
		fmt.Fprintln(&want, i+1)
	}
	if got := j.read("steps"); got != want.String() {
		j.t.Errorf("the steps were %q", strings.Fields(got))
	}
}

// fill makes a file that takes all that a file system has left.
func fill(t *testing.T, name string) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 20; size > 0; {
		if _, err := f.Write(make([]byte, size)); err != nil {
			size /= 2
		}
	}
}

// small mounts a file system of some bytes at the directory of the generations.
func (j *job) small(size string) (gen string) {
	j.t.Helper()
	gen = filepath.Join(j.dir, "gen")
	if err := os.Mkdir(gen, 0o700); err != nil {
		j.t.Fatal(err)
	}
	if err := unix.Mount("small", gen, "tmpfs", 0, "mode=700,size="+size); err != nil {
		j.t.Skip(err)
	}
	j.t.Cleanup(func() { unix.Unmount(gen, unix.MNT_DETACH) })
	return gen
}

// TestBatchFullDisk: a checkpoint for which there is no room lets the job run on, and the
// ones before stay. A restart that cannot be recorded is not made. With room all goes on.
func TestBatchFullDisk(t *testing.T) {
	j := newCaller(t)
	j.write("steps.sh", steps)
	gen := j.small("64m")
	filler := filepath.Join(gen, "filler")
	j.write("limit", "6\n")
	p := j.batch("-i", "0.3")
	j.step(6)
	j.until("two checkpoints", func() bool { return len(j.generations()) > 1 })
	fill(t, filler)
	j.logged("No space left on device", 1)
	j.logged("the job runs on", 1)
	unix.Kill(p.pid, unix.SIGUSR1)
	j.logged("SIGUSR1: the job is saved and ended", 1)
	j.logged("the job runs on", strings.Count(j.former("log"), "the job runs on")+2)
	before := j.generations()
	if len(before) < 2 {
		t.Errorf("left: %q", before)
	}
	j.killAll(p)
	unfinished, _ := filepath.Glob(filepath.Join(gen, ".*"))
	for _, name := range unfinished {
		os.Remove(name)
	}
	fill(t, filler)
	j.ends(j.batch(), 75, "", "")
	if log := j.read("log"); !strings.Contains(log, "cannot start cr_restart: ") || !slices.Equal(j.generations(), before) {
		t.Errorf("left: %q, before: %q\n%s", j.generations(), before, log)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	j.write("limit", "60\n")
	j.ends(j.batch(), 7, "", "")
	j.made()
	j.nothing()
}

// TestBatchFullStage: where the files of a generation have no room nothing of it is left,
// and the job, which was stopped for them, runs on.
func TestBatchFullStage(t *testing.T) {
	j := newCaller(t)
	j.write("steps.sh", steps)
	gen := j.small("24m")
	if err := os.Mkdir(filepath.Join(j.dir, "scratch"), 0o700); err != nil {
		t.Fatal(err)
	}
	j.write("scratch/large", strings.Repeat("x", 24<<20))
	j.write("limit", "6\n")
	p := j.batch("-i", "0.1", "--stage", "scratch")
	j.step(6)
	j.logged("no space left on device", 3)
	j.write("limit", "12\n")
	j.step(12)
	unix.Kill(p.pid, unix.SIGUSR1)
	j.logged("SIGUSR1: the job is saved and ended", 1)
	j.logged("the job runs on", strings.Count(j.former("log"), "the job runs on")+2)
	if names, _ := filepath.Glob(filepath.Join(gen, "*.damaged")); len(names) > 0 {
		t.Errorf("left: %q", names)
	}
	j.write("scratch/large", "x")
	j.until("a checkpoint", func() bool { return len(j.generations()) > 0 })
	j.write("limit", "60\n")
	j.ends(p, 7, "", "")
	j.made()
	j.nothing()
}

// TestBatchStorm: however many signals come, while the job is started, saved and
// restarted, none that has it saved is lost, and it is saved once.
func TestBatchStorm(t *testing.T) {
	j := newCaller(t)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(j.former("log"))
		}
	})
	const ignored = "HUP INT QUIT USR2 ALRM VTALRM PROF IO PWR XCPU TSTP TTIN TTOU"
	j.write("steps.sh", "trap '' "+ignored+"\n"+steps)
	harmless := []syscall.Signal{unix.SIGCHLD, unix.SIGWINCH, unix.SIGCONT, unix.SIGURG}
	forJob := []syscall.Signal{unix.SIGUSR2, unix.SIGALRM, unix.SIGVTALRM, unix.SIGPROF, unix.SIGIO, unix.SIGPWR, unix.SIGXCPU}
	for round := range 3 {
		j.write("now", "0\n")
		j.write("limit", fmt.Sprintln(5*(round+1)))
		p := j.batch("-i", "0.1", "--requeue-command", "echo again >>requeued")
		over := make(chan bool)
		go func() {
			defer close(over)
			for {
				list := harmless
				// Cr_batch catches signals when it has the lock, and the job ignores them from
				// its first step on.
				if strings.TrimSpace(j.former("gen/lock")) == fmt.Sprint(p.pid) && (round > 0 || j.former("now") != "0\n") {
					list = append(slices.Clone(list), forJob...)
				}
				for _, sig := range list {
					if unix.Kill(p.pid, sig) != nil {
						return
					}
				}
				time.Sleep(time.Millisecond)
			}
		}()
		j.step(5*(round+1) - 1)
		for range 20 {
			unix.Kill(p.pid, unix.SIGUSR1)
			unix.Kill(p.pid, unix.SIGTERM)
		}
		if end := j.wait(p); status(end) != 85 {
			t.Fatalf("%s\n%s", describe(end), j.read("log"))
		}
		<-over
		if n := strings.Count(j.read("requeued"), "again"); n != round+1 {
			t.Errorf("requeued %d times after %d rounds", n, round+1)
		}
	}
	j.write("limit", "60\n")
	j.ends(j.batch(), 7, "", "")
	j.made()
	j.nothing()
}

// TestBatchSpared: no signal of cr_batch's own reaches a job that runs: not when a restart is
// given up just when it has succeeded, and not when cr_batch is killed, then or later.
func TestBatchSpared(t *testing.T) {
	const again = "the job of an earlier cr_batch still runs"
	for _, v := range []struct {
		name   string
		stop   bool // cr_batch does not learn that the job runs
		signal syscall.Signal
		log    string
	}{
		{"given up", true, unix.SIGUSR1, "SIGUSR1: the "}, // restart, or job
		{"killed early", true, unix.SIGKILL, again},
		{"killed", false, unix.SIGKILL, again},
	} {
		t.Run(v.name, func(t *testing.T) {
			j := newCaller(t)
			j.write("steps.sh", "trap 'echo TERM >>got' TERM\n"+steps)
			j.write("limit", "4\n")
			j.write("now", "0\n")
			p := j.batch("-i", "0")
			j.step(4)
			unix.Kill(p.pid, unix.SIGUSR1)
			j.ends(p, 85, "", "")
			j.write("now", "0\n")
			p = j.batch("-i", "0")
			if v.stop {
				j.until("the restart", func() bool {
					return slices.ContainsFunc(tree(p.pid), func(pid int) bool { return comm(pid) == "cr_restart" })
				})
				unix.Kill(p.pid, unix.SIGSTOP)
			} else {
				j.logged("restarted generation 1", 1)
			}
			j.write("limit", "8\n")
			j.step(8)
			unix.Kill(p.pid, v.signal)
			unix.Kill(p.pid, unix.SIGCONT)
			if v.signal == unix.SIGKILL {
				j.wait(p)
				j.write("limit", "12\n")
				j.step(12)
				j.age()
			} else {
				j.ends(p, 85, "", "")
			}
			j.write("limit", "60\n")
			j.ends(j.batch(), 7, "", "")
			j.made()
			j.logged(v.log, 1)
			if got := j.former("got"); j.exists("got") {
				t.Errorf("the job has got %q\n%s", got, j.read("log"))
			}
			j.nothing()
		})
	}
}

// TestBatchEndsDuringSave: a job that ends while it is saved has its own status, and what
// has forked and gone leaves the others alone.
func TestBatchEndsDuringSave(t *testing.T) {
	j := newCaller(t)
	j.write("steps.sh", "sleep 0.$(($RANDOM % 3 + 1)); exit 9\n")
	for range 12 {
		j.ends(j.batch("-i", "0.02"), 9, "", "")
		if err := os.RemoveAll(filepath.Join(j.dir, "gen")); err != nil {
			t.Fatal(err)
		}
	}
	j.write("steps.sh", "(until [ -e go ]; do sleep 0.02; done; echo gone >gone) & exit 9\n")
	j.ends(j.batch(), 9, "", "")
	if log := j.read("log"); !strings.Contains(log, "others of its session still run: [") {
		t.Error(log)
	}
	j.write("go", "")
	j.until("the one that was left", func() bool { return j.former("gone") == "gone\n" })
	j.nothing()
}

// TestBatchNumbers: in a pid namespace that has just been made the job does not get a number
// that cr_batch, or a thread of it, has in the next one.
func TestBatchNumbers(t *testing.T) {
	for _, user := range []string{"", "setpriv --reuid 65534 --regid 65534 --clear-groups --inh-caps=-all "} {
		dir := t.TempDir()
		for _, d := range []string{dir, filepath.Dir(dir)} { // both are the test's own
			if err := os.Chmod(d, 0o777); err != nil {
				t.Fatal(err)
			}
		}
		c := exec.Command("unshare", "-p", "-f", "--mount-proc", "/bin/sh", "-c", user+"$0 -q -i 0 -d $1/gen -- /bin/sh -c 'echo $$'; :", filepath.Join(bin, "cr_batch"), dir)
		c.Env = os.Environ()
		out, err := c.CombinedOutput()
		if pid, bad := strconv.Atoi(strings.TrimSpace(string(out))); err != nil || bad != nil || pid <= 300 {
			t.Errorf("%q: the job is %q, %v", user, out, err)
		}
	}
}
