//go:build real

package real

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
)

// TestFailureStatus: with --failure-status the status says whether the restart failed or
// the job ended, whatever the job's status.
func TestFailureStatus(t *testing.T) {
	engine(t)
	j := newJob(t, "failurestatus")
	j.write("go.sh", `: >ready; until [ -e go ]; do sleep 0.05; done; exit 5`)
	p := j.run("/bin/bash", "go.sh")
	j.until("the script to wait", func() bool { return j.exists("ready") })
	save := j.command("cr_checkpoint", "-f", "ctx", strconv.Itoa(p.pid))
	j.silent(save, j.wait(save))
	again := j.command("cr_restart", "--failure-status", "75", "ctx")
	j.fails(again, 75, "- found pid ...")
	j.write("go", "")
	j.wait(p)
	j.ends(j.again("--failure-status", "75", "ctx"), 5, "", "")
	j.nothing()
}

// TestGenerations: cr_checkpoint --keep into a directory, and cr_restart of the directory:
// the newest good one.
func TestGenerations(t *testing.T) {
	engine(t)
	j := newJob(t, "generations")
	j.write("go.sh", `for i in 1 2 3 4; do echo $i >at; until [ -e go$i ]; do [ -e stop ] && exit $i; sleep 0.05; done; done`)
	p := j.run("/bin/bash", "go.sh")
	if err := os.Mkdir(filepath.Join(j.dir, "d"), 0o700); err != nil {
		t.Fatal(err)
	}
	for i := range 4 {
		i := strconv.Itoa(i + 1)
		j.until("the script to be at "+i, func() bool { return j.exists("at") && j.read("at") == i+"\n" })
		args := []string{"--keep", "3", "-f", "d/ctx", strconv.Itoa(p.pid)}
		if i == "4" {
			args = append(args, "--kill")
		}
		save := j.command("cr_checkpoint", args...)
		j.silent(save, j.wait(save))
		if i == "4" {
			j.wait(p)
		} else {
			j.write("go"+i, "")
		}
	}
	j.write("stop", "")
	for i := range 4 {
		os.Remove(filepath.Join(j.dir, "go"+strconv.Itoa(i)))
	}
	names, _ := filepath.Glob(filepath.Join(j.dir, "d", "*"))
	for i := range names {
		names[i] = filepath.Base(names[i])
	}
	if want := []string{"ctx", "ctx.~2~", "ctx.~3~"}; !slices.Equal(names, want) {
		t.Fatalf("%q, want %q", names, want)
	}
	j.ends(j.again("d"), 4, "", "")
	for i, name := range []string{"ctx", "ctx.~3~", "ctx.~2~"} {
		path := filepath.Join(j.dir, "d", name)
		os.Chmod(path, 0o600)
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			content[len(content)/2] ^= 1 // memory
		} else {
			content = content[:len(content)-5000]
		}
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if i < 2 {
			j.ends(j.again("-q", "d"), 3-i, "", "")
		}
	}
	j.fails(j.again("--failure-status", "75", "d"), 75, "- d/ctx is skipped: ...")
	j.nothing()
}
