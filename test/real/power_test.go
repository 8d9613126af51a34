//go:build real

package real

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// TestConfiguration: what HOME and CRIU_CONFIG_FILE lead to, which may be another
// user's, tells criu nothing: neither a program to run nor a file to write.
func TestConfiguration(t *testing.T) {
	v := newVictim(t)
	home := filepath.Join(v.dir, "home")
	if err := os.MkdirAll(filepath.Join(home, ".criu"), 0o755); err != nil {
		t.Fatal(err)
	}
	v.write("home/script", "#!/bin/sh\n>>"+home+"/ran\n")
	if err := os.Chmod(home+"/script", 0o755); err != nil {
		t.Fatal(err)
	}
	config := "action-script " + home + "/script\nlog-file " + home + "/log\nghost-limit 1\n"
	v.write("home/.criu/default.conf", config)
	v.write("home/other.conf", config)
	// An answer that is not remembered: it is asked as well.
	v.write("home/criu", "#!/bin/sh\nexec "+os.Getenv("CR_CRIU")+` "$@"`+"\n")
	if err := os.Chmod(home+"/criu", 0o755); err != nil {
		t.Fatal(err)
	}
	with := "HOME=" + home + " CRIU_CONFIG_FILE=" + home + "/other.conf "
	if os.Getenv("CR_CRIU") != "" {
		with += "CR_CRIU=" + home + "/criu "
	}
	p := v.shell(with + `cr_checkpoint --kill -f "$1" $0`)
	v.silent(p, v.wait(p))
	v.killed([]int{v.pid})
	keepClear(v.pid)
	v.proc = v.shell(with + `exec cr_restart "$1"`)
	v.advances()
	for _, name := range []string{"ran", "log"} {
		if v.exists("home/" + name) {
			t.Errorf("criu has followed a configuration file: there is %s", name)
		}
	}
	v.note()
	p = v.command("cr_checkpoint", "-f", v.ctx, strconv.Itoa(v.pid))
	v.silent(p, v.wait(p))
	v.unharmed()
	v.finish()
}

// TestTrust: root restarts only what nobody else could have written, unless told
// otherwise.
func TestTrust(t *testing.T) {
	v := newVictim(t)
	p := v.command("cr_checkpoint", "--kill", "-f", v.ctx, strconv.Itoa(v.pid))
	v.silent(p, v.wait(p))
	v.killed([]int{v.pid})
	keepClear(v.pid)
	const refused = "Restart failed: Operation not permitted\n- the context "
	refuses := func(script, want string) {
		t.Helper()
		v.fails(v.shell(script), 1, refused+want+"...")
		if stat(v.pid) != nil {
			t.Fatal("there is a job all the same")
		}
	}
	if err := os.Chown(v.ctx, 65534, 0); err != nil {
		t.Fatal(err)
	}
	refuses(`exec cr_restart "$1"`, "is owned by user ")
	refuses(`exec cr_restart -F 0 <"$1"`, "is owned by user ")
	if err := os.Chown(v.ctx, 0, 0); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(v.ctx, 0o602); err != nil {
		t.Fatal(err)
	}
	refuses(`exec cr_restart "$1"`, "may be written to by other users (mode 0602)")
	for _, way := range []string{`exec cr_restart --trust "$1"`, `cat "$1" | cr_restart -F 0`} {
		v.proc = v.shell(way)
		v.advances()
		if !strings.Contains(way, "|") {
			if err := os.Chmod(v.ctx, 0o600); err != nil {
				t.Fatal(err)
			}
			p := v.command("cr_checkpoint", "--kill", "--clobber", "-f", v.ctx, strconv.Itoa(v.pid))
			v.silent(p, v.wait(p))
			v.wait(v.proc)
			v.until("the job to be gone", func() bool { return stat(v.pid) == nil })
			keepClear(v.pid)
		}
	}
	v.finish()
}
