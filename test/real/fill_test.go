//go:build real

package real

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt/criu/tempdir"
	"blcr-cli/test/harness"
)

// criuThat makes a criu that notes its arguments in a file and does something before
// it is criu.
func (j *job) criuThat(does string) (args string) {
	j.t.Helper()
	args = filepath.Join(j.dir, "args")
	_ = os.Remove(args)
	path := filepath.Join(j.dir, "criu")
	_ = os.Remove(path)
	script := "#!/bin/sh\n" + does + "\n[ \"$1\" != restore ] || echo \"$*\" >>" + args + "\nexec " + os.Getenv("CR_CRIU") + " \"$@\"\n"
	if err := harness.WriteProgram(path, []byte(script), 0o755); err != nil {
		j.t.Fatal(err)
	}
	j.t.Setenv("CR_CRIU", path)
	return args
}

// TestFillFallback: memory is filled where that is possible, and comes by the pipes
// where not.
func TestFillFallback(t *testing.T) {
	engine(t)
	for _, test := range []struct {
		name, does string
		attempts   []bool // whether criu is told of lazy pages
	}{
		{"usual", "", []bool{true}},
		{"old", `[ "$1" != --version ] || { echo Version: 3.19; exit; }`, []bool{false}},
		{"refused", `case $* in *--lazy-pages*) echo "$*" >>args; echo "Error (criu/uffd.c:1): uffd: no such thing" >&2; exit 1;; esac`, []bool{true, false}},
	} {
		t.Run(test.name, func(t *testing.T) {
			j := newJob(t, "filled")
			j.launch()
			all := tree(j.pid)
			ctx := filepath.Join(j.dir, "ctx")
			j.checkpoint(ctx, "--kill", strconv.Itoa(j.pid))
			j.killed(all)
			args := j.criuThat(test.does)
			j.restart(ctx)
			text, err := os.ReadFile(args)
			if err != nil {
				t.Fatal(err)
			}
			var attempts []bool
			for line := range strings.Lines(string(text)) {
				lazy := strings.Contains(line, " --lazy-pages ")
				attempts = append(attempts, lazy)
				if dir, err := tempdir.Unnamed(); err == nil { // else images are always streamed
					unix.Close(dir)
					if lazy == strings.Contains(line, " --stream ") {
						t.Errorf("images come by a stream and not in files, or the other way round: %s", line)
					}
				}
			}
			if !slices.Equal(attempts, test.attempts) {
				t.Errorf("criu was run with lazy pages or not: %v, want %v", attempts, test.attempts)
			}
			j.finish()
		})
	}
}

// TestFillDamaged: a page that is not as it was saved is no page of the job's. It ends
// the restart.
func TestFillDamaged(t *testing.T) {
	engine(t)
	j := newJob(t, "big")
	j.launch()
	ctx := filepath.Join(j.dir, "ctx")
	j.checkpoint(ctx, "--compress", "--kill", strconv.Itoa(j.pid))
	j.killed([]int{j.pid})
	good, err := os.ReadFile(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []int{len(good) / 3, len(good) / 2, len(good) * 2 / 3} {
		bad := bytes.Clone(good)
		bad[at] ^= 4
		j.write("bad", string(bad))
		keepClear(j.pid)
		j.fails(j.command("cr_restart", filepath.Join(j.dir, "bad")), 22, "Restart failed: Invalid argument\n- context: pages-...")
		j.nothing()
	}
	j.restart(ctx)
	j.finish()
}

// TestFillShared: memory that is shared since a fork is shared after a restart, too.
func TestFillShared(t *testing.T) {
	engine(t)
	for _, options := range [][]string{nil, {"--lazy"}} {
		t.Run(strings.Join(options, ""), func(t *testing.T) {
			j := newJob(t, "family")
			j.launch()
			all := tree(j.pid)
			// Two thirds of 3000 pages, of which a fifth was never written to.
			const least = 3000 * 4 * 2 / 3 * 4 / 5 * 9 / 10
			check := func(when string) {
				t.Helper()
				for _, pid := range all {
					pid := pid
					j.until("memory to be shared "+when, func() bool { return sharedDirty(t, pid) >= least })
				}
			}
			check("from the beginning")
			ctx := filepath.Join(j.dir, "ctx")
			j.checkpoint(ctx, "--kill", strconv.Itoa(j.pid))
			j.killed(all)
			j.restart(ctx, options...)
			check("again")
			j.finish()
		})
	}
}

// sharedDirty is how many KiB of a process's memory others have as well, but for what is
// of files.
func sharedDirty(t *testing.T, pid int) (n int) {
	t.Helper()
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/smaps")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); f[0] == "Shared_Dirty:" {
			k, _ := strconv.Atoi(f[1])
			n += k
		}
	}
	return n
}
