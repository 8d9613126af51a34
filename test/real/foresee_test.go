//go:build real

package real

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// told runs cr_info and returns what it prints on both streams, and its exit status.
func (j *job) told(args ...string) (said string, status int) {
	j.t.Helper()
	p := j.command("cr_info", args...)
	end := j.wait(p)
	stdout, _ := os.ReadFile(p.stdout)
	stderr, _ := os.ReadFile(p.stderr)
	if !end.Exited() {
		j.t.Fatalf("cr_info: %s", describe(end))
	}
	return string(stdout) + string(stderr), end.ExitStatus()
}

// TestForesee: what cr_info --check says is what cr_restart does, with the job's pid in
// use, a file that is missing, and nothing in the way.
func TestForesee(t *testing.T) {
	engine(t)
	j := newJob(t, "counter")
	j.launch()
	ctx := filepath.Join(j.dir, "ctx")
	pids := tree(j.pid)
	j.checkpoint(ctx, strconv.Itoa(j.pid))
	if said, status := j.told("--check", ctx); status != 1 || !strings.Contains(said, "the pid "+strconv.Itoa(j.pid)+" of the job is in use") {
		t.Errorf("status %d, %q", status, said)
	}
	if err := os.Remove(ctx); err != nil {
		t.Fatal(err)
	}
	j.checkpoint(ctx, "--kill", strconv.Itoa(j.pid))
	j.killed(pids)
	if said, status := j.told("--check", "--verify", ctx); status != 0 || !strings.Contains(said, ": whole\n") || !strings.Contains(said, " could be restarted by criu ") {
		t.Errorf("status %d, %q", status, said)
	}
	// Of a program with the same name that is another one.
	j.info(ctx)
	exe := j.info(ctx).Processes[0].Exe
	away := exe + ".away"
	if err := os.Rename(exe, away); err != nil {
		t.Fatal(err)
	}
	said, status := j.told("--check", ctx)
	p := j.command("cr_restart", ctx)
	end := j.wait(p)
	if err := os.Rename(away, exe); err != nil {
		t.Fatal(err)
	}
	if status != 1 || !strings.Contains(said, "cannot open "+exe+": No such file or directory") || !end.Exited() || end.ExitStatus() != 2 {
		t.Errorf("status %d, %q; cr_restart: %s", status, said, describe(end))
	}
	j.restart(ctx)
	j.finish()
}

// TestForeseeAtOnce: a job with children that have just ended with the checkpoint, and with
// files in /proc that are its own, can be restarted, and cr_info --check says so at once.
func TestForeseeAtOnce(t *testing.T) {
	engine(t)
	j := newJob(t, "foresee")
	j.write("own.py", `import os, time
files = [os.open("/proc/%d/%s" % (os.getpid(), name), os.O_RDONLY) for name in ("status", "mem", "fd", "task/%d/stat" % os.getpid())]
children = []
for n in range(8):
	children.append(os.fork())
	if children[n] == 0:
		while True: time.sleep(1)
open("ready", "w").close()
while not os.access("go", os.F_OK):
	time.sleep(0.01)
for pid in children:
	os.kill(pid, 9)
	os.wait()
os._exit(7 if ("Pid:\t%d\n" % os.getpid()).encode() in os.pread(files[0], 4096, 0) else 1)
`)
	p := j.run("/usr/bin/python3", "own.py")
	j.until("the program to be ready", func() bool { return j.exists("ready") })
	ctx := filepath.Join(j.dir, "ctx")
	save := j.command("cr_checkpoint", "--kill", "-f", ctx, strconv.Itoa(p.pid))
	j.silent(save, j.wait(save))
	if said, status := j.told("--check", ctx); status != 0 {
		t.Errorf("status %d, %q", status, said)
	}
	j.wait(p)
	again := j.again(ctx)
	j.write("go", "")
	j.ends(again, 7, "", "")
}

// TestDamagedMemory: one bit of the memory in a context makes cr_info --verify name the
// place, and cr_restart refuse, before the job runs.
func TestDamagedMemory(t *testing.T) {
	j, ctx := newSleeper(t)
	content, err := os.ReadFile(ctx)
	if err != nil {
		t.Fatal(err)
	}
	flip := func(at int) {
		content[at] ^= 0x10
		if err := os.WriteFile(ctx+".spoilt", content, 0o400); err != nil {
			t.Fatal(err)
		}
		content[at] ^= 0x10
	}
	found := 0
	// All of the file, so that every image is hit.
	for at := 1; at < len(content); at += max(len(content)/60, 1) {
		flip(at)
		said, status := j.told("--verify", ctx+".spoilt")
		if status != 1 || strings.Contains(said, "whole") {
			t.Fatalf("bit of byte %d of %d: status %d, %q", at, len(content), status, said)
		}
		if strings.Contains(said, ": pages-1.img: bytes ") {
			if found++; found > 3 {
				continue
			}
			p := j.command("cr_restart", ctx+".spoilt")
			end := j.wait(p)
			stderr, _ := os.ReadFile(p.stderr)
			if !end.Exited() || end.ExitStatus() == 0 || !strings.Contains(string(stderr), "checksum") {
				t.Errorf("bit of byte %d: cr_restart ends so: %s\n%s", at, describe(end), stderr)
			}
		}
		os.Remove(ctx + ".spoilt")
	}
	if found == 0 {
		t.Error("there is no memory")
	}
}

// TestCauseNotHidden: a restore that fails while images are on their way to criu is
// reported with criu's reason, and not with the images that found no reader.
func TestCauseNotHidden(t *testing.T) {
	j, ctx := newSleeper(t)
	exe := j.info(ctx).Processes[0].Exe
	if err := os.Rename(exe, exe+".away"); err != nil {
		t.Fatal(err)
	}
	for range 40 {
		p := j.command("cr_restart", ctx)
		end := j.wait(p)
		stderr, _ := os.ReadFile(p.stderr)
		if !end.Exited() || end.ExitStatus() != 2 || !strings.Contains(string(stderr), "- cannot open "+exe+": No such file or directory") {
			t.Errorf("cr_restart: %s: %s", describe(end), stderr)
			break
		}
	}
	if err := os.Rename(exe+".away", exe); err != nil {
		t.Fatal(err)
	}
	j.restart(ctx)
	j.finish()
}
