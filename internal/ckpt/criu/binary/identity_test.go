package binary

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// keyVar has this test binary print the key of itself. Its value is what it does
// before: "bounding" drops a capability from the bounding set, "effective" drops all
// effective ones, "no-new-privs" sets that.
const keyVar = "BINARY_TEST_KEY"

// It runs in the main thread, whose state /proc/self shows.
func init() {
	how, ok := os.LookupEnv(keyVar)
	if !ok {
		return
	}
	var err error
	switch how {
	case "bounding":
		err = unix.Prctl(unix.PR_CAPBSET_DROP, unix.CAP_CHECKPOINT_RESTORE, 0, 0, 0)
	case "effective":
		head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var data [2]unix.CapUserData
		if err = unix.Capget(&head, &data[0]); err == nil {
			data[0].Effective, data[1].Effective = 0, 0
			err = unix.Capset(&head, &data[0])
		}
	case "no-new-privs":
		err = unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
	}
	var id identity
	if err == nil {
		id, err = identify("/proc/self/exe")
	}
	fmt.Print(id.key, " error: ", err, "\n")
	os.Exit(0)
}

// TestKey: an answer holds for the caller's capabilities, namespaces and root only.
func TestKey(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	key := func(how string, attr *syscall.SysProcAttr) string {
		t.Helper()
		cmd := exec.Command(self)
		cmd.Env = append(os.Environ(), keyVar+"="+how)
		cmd.SysProcAttr = attr
		out, err := cmd.CombinedOutput()
		text := string(out)
		if err != nil || !strings.HasSuffix(text, " error: <nil>\n") || strings.Count(text, "\n") != 1 {
			t.Fatalf("%s: %v, %q", how, err, text)
		}
		return text
	}
	seen := map[string]string{key("", nil): "nothing"}
	if key("", &syscall.SysProcAttr{Setsid: true}) != key("", nil) {
		t.Error("two processes in the same standing have different keys")
	}
	distinct := func(what, key string) {
		t.Helper()
		if as := seen[key]; as != "" {
			t.Errorf("the key is the same for %s and for %s", what, as)
		}
		seen[key] = what
	}
	distinct("no_new_privs", key("no-new-privs", nil))
	if unix.Geteuid() != 0 {
		t.Skip("the rest takes root")
	}
	for _, how := range []string{"bounding", "effective"} {
		distinct(how, key(how, nil))
	}
	for what, flag := range map[string]uintptr{
		"user namespace": unix.CLONE_NEWUSER, "network namespace": unix.CLONE_NEWNET,
		"mount namespace": unix.CLONE_NEWNS,
	} {
		attr := &syscall.SysProcAttr{Cloneflags: flag}
		if flag == unix.CLONE_NEWUSER {
			attr.UidMappings = []syscall.SysProcIDMap{{Size: 1 << 16}}
			attr.GidMappings = attr.UidMappings
		}
		distinct(what, key("", attr))
	}
}
