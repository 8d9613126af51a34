//go:build real

package real

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

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
			kinds := []string{"USR1", "TERM", "batch killed", "all killed", "newest cut", "operator"}
			kinds = append(kinds, kinds...)
			rand.New(rand.NewPCG(uint64(round), 1)).Shuffle(len(kinds), func(a, b int) { kinds[a], kinds[b] = kinds[b], kinds[a] })
			t.Logf("interruptions: %q", kinds)
			requeued := 0
			for i, kind := range kinds {
				j.write("now", "0\n")
				j.write("limit", fmt.Sprintln(4*(i+1)+2))
				p := j.batch("--requeue-command", "echo again >>requeued")
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
				if kind == "operator" {
					end = got.ExitStatus()
					if end != 85 && got.Signal() != sig {
						t.Fatalf("%s: %s\n%s", kind, describe(got), j.read("log"))
					}
				} else if sig != syscall.SIGKILL && status(got) != end || sig == syscall.SIGKILL && got.Signal() != sig {
					t.Fatalf("%s: %s\n%s", kind, describe(got), j.read("log"))
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
				t.Errorf("the steps were %q\n%s", strings.Fields(got), j.read("log"))
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
