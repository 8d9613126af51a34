//go:build batch

package batch

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"blcr-cli/test/harness"
)

// atPlace starts at(1)'s daemon with a spool of its own, in a mount namespace. $0 is the
// directory with what is mounted there: the spool, nobody who may not use at, and PAM
// without anything that a container does not have.
const atPlace = `mount -t tmpfs none /run &&
mount --bind "$0/jobs" /var/spool/cron/atjobs && mount --bind "$0/spool" /var/spool/cron/atspool &&
mount --bind "$0/deny" /etc/at.deny && mount --bind "$0/pam" /etc/pam.d/atd &&
exec atd -f`

// TestAt: a job that atd starts is saved and ended, and goes on when it is started again.
func TestAt(t *testing.T) {
	t.Parallel()
	atd := harness.Tool(t, "atd")
	harness.Tool(t, "at")
	dir := newWork(t)
	place := filepath.Join(dir, "at")
	const daemon = 1 // at's own user
	for _, name := range []string{"jobs", "spool"} {
		if err := os.MkdirAll(filepath.Join(place, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(place, "jobs", ".SEQ"), "0\n")
	for _, name := range []string{"jobs", "spool", "jobs/.SEQ"} {
		path := filepath.Join(place, name)
		if err := errors.Join(os.Chown(path, daemon, daemon), os.Chmod(path, 0o770)); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(place, "deny"), "")
	write(t, filepath.Join(place, "pam"), "auth required pam_permit.so\naccount required pam_permit.so\nsession required pam_permit.so\n")
	server, _ := begin(t, dir, "atd.out", nil, nil, "unshare", "--mount", "sh", "-c", atPlace, place)
	poll(t, "atd", func() bool {
		to, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", server.Process.Pid))
		return filepath.Base(to) == filepath.Base(atd)
	})
	submit := func() {
		t.Helper()
		cmd := exec.Command("nsenter", fmt.Sprintf("--mount=/proc/%d/ns/mnt", server.Process.Pid), "sh", "-c",
			fmt.Sprintf(`cd "$0" && exec setpriv --reuid=%d --regid=%d --clear-groups at -f "$1" now`, user.Uid, user.Gid), dir, example(t, "shell.sh"))
		cmd.Env = environment("SHELL=/bin/sh")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("at: %v\n%s", err, out)
		}
	}
	file := filepath.Join(dir, "steps")
	for range 2 {
		submit()
		goesOn(t, file)
		signalBatch(t, dir)
		free(t, dir)
	}
	submit()
	goesOn(t, file)
	finish(t, dir)
	free(t, dir)
	steps(t, file)
	output := filepath.Join(dir, "output")
	if out, _ := os.ReadFile(output); strings.Count(string(out), "restarted generation") != 2 || !strings.Contains(string(out), "finished\n") {
		t.Errorf("the output is %q", out)
	}
}

// free waits until no cr_batch is at work in the directory of the examples.
func free(t *testing.T, dir string) {
	t.Helper()
	f, err := os.Open(filepath.Join(dir, "simulate.contexts", "lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	poll(t, "the end of cr_batch", func() bool { return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil })
}

// TestHiddenInput: a file that a job was given, and that its user may not look up, as the
// input of at's jobs, is named, and the job runs on.
func TestHiddenInput(t *testing.T) {
	t.Parallel()
	dir := newWork(t)
	hidden := filepath.Join(dir, "hidden")
	if err := os.Mkdir(hidden, 0o700); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(hidden, "input")
	write(t, name, "")
	in, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	cmd := command(dir, nil, "./simulate", "input")
	cmd.Stdin = in
	err = cmd.Start()
	in.Close()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "steps")
	goesOn(t, file)
	out, err := command(dir, nil, "cr_checkpoint", "-f", "ctx", "--kill", fmt.Sprint(cmd.Process.Pid)).CombinedOutput()
	if want := name + " open as descriptor 0, and user nobody may not look it up"; err == nil || !strings.Contains(string(out), want) {
		t.Errorf("%v, want %q\n%s", err, want, out)
	}
	goesOn(t, file)
	finish(t, dir)
	if _ = cmd.Wait(); cmd.ProcessState.ExitCode() != 7 {
		t.Errorf("%v", cmd.ProcessState)
	}
	steps(t, file)
}
