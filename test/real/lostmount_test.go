//go:build real

package real

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"blcr-cli/test/harness"
)

// TestLostMount: what a job has on a file system that was unmounted, or is hidden by another
// one, is refused by --check as by the checkpoint, and a job that has nothing there is not.
func TestLostMount(t *testing.T) {
	engine(t)
	if os.Geteuid() != 0 {
		t.Skip("only root may mount")
	}
	python := harness.Tool(t, "/usr/bin/python3", "python3")
	for kind, source := range map[string]string{
		"directory":  "os.chdir('m/s')",
		"program":    "os.execv('m/sh', ['sh', '-c', 'echo >ready; while :; do read x <fifo; done'])",
		"mapping":    "import mmap; f = os.open('m/f', 0); m = mmap.mmap(f, 1, flags=2, prot=1); os.closerange(4, 99)",
		"file":       "f = os.open('m/f', 0)",
		"removed":    "f = os.open('m/f', 0); os.unlink('m/f')",
		"none":       "",
		"other root": "os.mkdir('jail'); os.chroot('jail')",
		"ended":      "p = os.fork()\nif p == 0: time.sleep(9999)\nf = os.open('/proc/%d/stat' % p, 0); os.kill(p, 9); os.wait()",
	} {
		for _, how := range []string{"unmounted", "hidden"} {
			t.Run(kind+" "+how, func(t *testing.T) {
				j := newJob(t, "counter")
				dir := filepath.Join(j.dir, "m")
				if err := os.Mkdir(dir, 0o700); err != nil {
					t.Fatal(err)
				}
				mount := func() {
					if err := unix.Mount("none", dir, "tmpfs", 0, ""); err != nil {
						t.Skip(err)
					}
					t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
				}
				mount()
				shell, err := os.ReadFile("/bin/sh")
				if err == nil {
					err = harness.WriteProgram(filepath.Join(dir, "sh"), shell, 0o755)
				}
				if err == nil {
					err = os.Mkdir(filepath.Join(dir, "s"), 0o700)
				}
				if err == nil {
					err = unix.Mkfifo(filepath.Join(j.dir, "fifo"), 0o600)
				}
				if err != nil {
					t.Fatal(err)
				}
				j.write("m/f", "x")
				j.write("lost.py", "import os, time\nr = os.open('.', 0)\n"+source+"\nos.close(os.open('ready', os.O_CREAT, dir_fd=r))\nos.close(r)\nos.close(0)\ntime.sleep(9999)\n")
				p := j.start("lost", []string{python, "lost.py"}, nil)
				j.until("the program to be ready", func() bool {
					return j.exists("ready") && (kind == "program" || strings.Contains(wchan(p.pid), "nanosleep"))
				})
				if how == "hidden" {
					mount()
				} else if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
					t.Fatal(err)
				}
				said, checked := j.asked(strconv.Itoa(p.pid))
				save := j.command("cr_checkpoint", "-f", filepath.Join(j.dir, "ctx"), strconv.Itoa(p.pid))
				end := j.wait(save)
				text, _ := os.ReadFile(save.stderr)
				want := 95
				if kind == "none" || kind == "other root" || kind == "ended" {
					want = checked // whether CRIU saves that is not the question here
				}
				if checked != want || end.ExitStatus() != checked || checked == 0 != (end == 0) {
					t.Errorf("--check: %d, %q; cr_checkpoint: %s\n%s", checked, said, describe(end), text)
				}
				_ = syscall.Kill(-p.pid, syscall.SIGKILL)
				j.wait(p)
			})
		}
	}
}
