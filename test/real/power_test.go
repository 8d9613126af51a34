//go:build real

package real

import (
	"os"
	"path/filepath"
	"strconv"
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
