//go:build real

package real

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// freezer is a control group that can be frozen.
type freezer struct {
	t             *testing.T
	dir           string
	file, yes, no string // the file, and what is written to it
}

// groups makes one for each version of control groups that can be used here.
func groups(t *testing.T) map[string]*freezer {
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	found := make(map[string]*freezer)
	for line := range strings.Lines(string(mounts)) {
		before, after, _ := strings.Cut(line, " - ")
		fields := strings.Fields(before)
		var g *freezer
		var version string
		switch f := strings.Fields(after); {
		case len(f) == 0 || len(fields) < 5:
		case f[0] == "cgroup2":
			version, g = "v2", &freezer{file: "cgroup.freeze", yes: "1", no: "0"}
		case f[0] == "cgroup" && strings.Contains(after, "freezer"):
			version, g = "v1", &freezer{file: "freezer.state", yes: "FROZEN", no: "THAWED"}
		}
		if g == nil || found[version] != nil {
			continue
		}
		g.t, g.dir = t, filepath.Join(fields[4], fmt.Sprintf("realtest-%d-%s", os.Getpid(), strings.ReplaceAll(t.Name(), "/", "_")))
		if os.Mkdir(g.dir, 0o755) != nil {
			continue
		}
		t.Cleanup(func() {
			g.thaw()
			for deadline := time.Now().Add(patience); os.Remove(g.dir) != nil && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
			}
		})
		if _, err := os.Stat(filepath.Join(g.dir, g.file)); err == nil {
			found[version] = g
		}
	}
	return found
}

func (g *freezer) set(file, text string) {
	if err := os.WriteFile(filepath.Join(g.dir, file), []byte(text), 0); err != nil {
		g.t.Error(err)
	}
}

func (g *freezer) add(pid int) { g.set("cgroup.procs", strconv.Itoa(pid)) }
func (g *freezer) freeze()     { g.set(g.file, g.yes) }
func (g *freezer) thaw()       { g.set(g.file, g.no) }

// TestFrozenMeanwhile: a control group is frozen while criu is at work in the process,
// between two pages. The request can be given up at once all the same, by a signal or by
// its limit; and the process goes on, unharmed, when the group is thawed.
func TestFrozenMeanwhile(t *testing.T) {
	v := newVictim(t)
	all := groups(t)
	if len(all) == 0 {
		t.Skip("there is no control group that could be frozen")
	}
	for version, g := range all {
		g.add(v.pid)
		for _, how := range []string{"TERM", "INT", "--time", "-d", "thawed in time"} {
			args, status := "-F 4", ""
			switch how {
			case "--time":
				args = "--time 2 " + args
				status = "Checkpoint failed: Timer expired\n"
			case "-d":
				args = "-d dir"
			}
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			p := v.start("cr_checkpoint", append([]string{filepath.Join(bin, "cr_checkpoint")}, append(strings.Fields(args), strconv.Itoa(v.pid))...), nil, w.Fd(), w.Fd())
			w.Close()
			v.until("criu to trace the program", func() bool { return v.tracer() != 0 })
			if how != "-d" {
				// It has begun with the pages, and waits for a reader.
				v.until("the pipe to be full", func() bool {
					fds := []unix.PollFd{{Fd: int32(r.Fd()), Events: unix.POLLIN}}
					n, err := unix.Poll(fds, 0)
					return err == nil && n == 1
				})
			}
			g.freeze()
			begin := time.Now()
			switch how {
			case "TERM", "-d":
				_ = syscall.Kill(p.pid, unix.SIGTERM)
			case "INT":
				_ = syscall.Kill(-p.pid, unix.SIGINT)
			case "thawed in time":
				time.Sleep(10 * time.Millisecond)
				g.thaw()
				_ = syscall.Kill(p.pid, unix.SIGTERM)
			}
			end := v.wait(p)
			took := time.Since(begin)
			if how == "--time" {
				took -= 2 * time.Second
			}
			stderr, _ := os.ReadFile(p.stderr)
			// Two seconds, and what a busy machine adds.
			if took > 2*time.Second+patience/10 {
				t.Errorf("%s, %s: it takes %v", version, how, took)
			}
			switch {
			case how == "--time":
				if !end.Exited() || end.ExitStatus() != 62 {
					t.Errorf("%s, %s: %s", version, how, describe(end))
				}
			case how == "-d" && end == 0: // it was complete
			case !end.Signaled():
				t.Errorf("%s, %s: %s", version, how, describe(end))
			}
			said := strings.TrimPrefix(string(stderr), status)
			if said != "" && !strings.HasPrefix(said, fmt.Sprintf("- process %d (big) has been frozen meanwhile, by its control group ", v.pid)) {
				t.Errorf("%s, %s: it says %q", version, how, said)
			}
			t.Logf("%s, %s: after %v: %s", version, how, took.Round(time.Millisecond), said)
			r.Close()
			g.thaw()
			v.until("criu to let go", func() bool { return v.tracer() == 0 && len(v.helpers()) == 0 })
			v.unharmed()
			os.RemoveAll(filepath.Join(v.dir, "dir"))
		}
	}
	for _, g := range all {
		_ = os.WriteFile(filepath.Join(filepath.Dir(g.dir), "cgroup.procs"), []byte(strconv.Itoa(v.pid)), 0)
	}
	v.checkpoint(v.ctx, strconv.Itoa(v.pid))
	v.note()
	v.intact()
	v.finish()
}
