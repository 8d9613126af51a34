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

	"golang.org/x/sys/unix"
)

// Two users and root: what each may do with what is another's. The owner is the ordinary
// user of user_test.go.

// stranger is another ordinary user.
var stranger = syscall.Credential{Uid: 12345, Gid: 12345}

// strangersLocks is where the commands of the stranger keep their locks.
const strangersLocks = "/tmp/blcr-cli-12345"

// as runs a command as a user; nil is root.
func (j *job) as(cred *syscall.Credential, name string, args ...string) *process {
	j.t.Helper()
	before := j.cred
	j.cred = cred
	p := j.command(name, args...)
	j.cred = before
	return p
}

// ids are the real, effective and saved user ids of a process, or its groups for "Gid".
func ids(pid int, what string) string {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	_, rest, _ := strings.Cut(string(status), "\n"+what+":")
	line, _, _ := strings.Cut(rest, "\n")
	return strings.Join(strings.Fields(line), " ")
}

// give makes a copy of a context that belongs to a user.
func (j *job) give(ctx, name string, cred *syscall.Credential, mode os.FileMode) string {
	j.t.Helper()
	text, err := os.ReadFile(ctx)
	if err != nil {
		j.t.Fatal(err)
	}
	copied := filepath.Join(j.dir, name)
	if err := os.WriteFile(copied, text, 0o600); err != nil {
		j.t.Fatal(err)
	}
	uid, gid := 0, 0
	if cred != nil {
		uid, gid = int(cred.Uid), int(cred.Gid)
	}
	if err := os.Chown(copied, uid, gid); err != nil {
		j.t.Fatal(err)
	}
	if err := os.Chmod(copied, mode); err != nil {
		j.t.Fatal(err)
	}
	return copied
}

// private makes a directory that belongs to a user.
func (j *job) private(name string, cred *syscall.Credential, mode os.FileMode) string {
	j.t.Helper()
	dir := filepath.Join(j.dir, name)
	if err := os.Mkdir(dir, 0o700); err != nil {
		j.t.Fatal(err)
	}
	if err := os.Chown(dir, int(cred.Uid), int(cred.Gid)); err != nil {
		j.t.Fatal(err)
	}
	if err := os.Chmod(dir, mode); err != nil {
		j.t.Fatal(err)
	}
	return dir
}

// TestMatrixRunning: a stranger can neither save, nor end, nor look at a job, whatever way
// it is named, and can read neither its context nor put another one in its place. Root's
// job is the same to an owner's user.
func TestMatrixRunning(t *testing.T) {
	t.Cleanup(func() { os.RemoveAll(strangersLocks) })
	criu := criuForUsers(t)
	for _, c := range []struct {
		name          string
		owner, caller *syscall.Credential
	}{
		{"user and stranger", &ordinary, &stranger},
		{"root and user", nil, &ordinary},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "-"), func(t *testing.T) {
			t.Parallel()
			j := newUserJob(t, "counter", criu)
			j.cred = c.owner
			j.launch()
			own := j.private("own", c.caller, 0o755)
			ctx := filepath.Join(j.dir, "ctx")
			j.checkpoint(ctx, strconv.Itoa(j.pid))
			var st unix.Stat_t
			if err := unix.Stat(ctx, &st); err != nil {
				t.Fatal(err)
			}
			if want := uint32(os.Geteuid()); c.owner != nil && st.Uid != c.owner.Uid || c.owner == nil && st.Uid != want {
				t.Errorf("the context belongs to %d", st.Uid)
			}
			id := strconv.Itoa(j.pid)
			for _, refused := range []struct {
				args   []string
				status int
				says   string
			}{
				{[]string{"cr_checkpoint", "--kill", "-f", own + "/c", id}, 1, "Bad permissions to checkpoint task " + id},
				{[]string{"cr_checkpoint", "--term", "-d", own + "/d", id}, 1, "Bad permissions to checkpoint task " + id},
				{[]string{"cr_checkpoint", "--check", "-f", own + "/c", id}, 1, "Bad permissions to checkpoint task " + id},
				{[]string{"cr_checkpoint", "--kill", "-p", "-f", own + "/c", id}, 1, "Bad permissions to checkpoint task " + id},
				{[]string{"cr_checkpoint", "--kill", "-g", "-f", own + "/c", id}, 1, "Bad permissions to checkpoint task " + id},
				{[]string{"cr_restart", ctx}, 255, "Permission denied"},
				{[]string{"cr_info", ctx}, 1, "Permission denied"},
			} {
				p := j.as(c.caller, refused.args[0], refused.args[1:]...)
				end := j.wait(p)
				out, _ := os.ReadFile(p.stdout)
				said, _ := os.ReadFile(p.stderr)
				if end != syscall.WaitStatus(refused.status<<8) || !strings.Contains(string(out)+string(said), refused.says) {
					t.Errorf("%q: %s\n%s%s", refused.args, describe(end), out, said)
				}
			}
			if names, _ := os.ReadDir(own); len(names) > 0 {
				t.Errorf("left: %v", names)
			}
			j.advances()
			j.finish()
		})
	}
}

// TestMatrixRestart: what a restart of a context gives to whom.
func TestMatrixRestart(t *testing.T) {
	t.Cleanup(func() { os.RemoveAll(strangersLocks) })
	criu := criuForUsers(t)
	capable := []string{tool(t, "setpriv"), "--reuid", fmt.Sprint(ordinary.Uid), "--regid", fmt.Sprint(ordinary.Gid), "--clear-groups", "--inh-caps", "+net_raw", "--ambient-caps", "+net_raw"}
	for _, c := range []struct {
		name            string
		job             *syscall.Credential // whose the job is
		by              []string            // what it is started by
		saver, restarts *syscall.Credential // nil is root
		trust           bool
		says            string // what the restart is refused with, if so
	}{
		{name: "by its owner", job: &ordinary, saver: &ordinary, restarts: &ordinary},
		{name: "by a stranger", job: &ordinary, saver: &ordinary, restarts: &stranger, says: "belonged to another user"},
		{name: "by root", job: &ordinary, saver: &ordinary, says: "is owned by user"},
		{name: "by root with trust", job: &ordinary, saver: &ordinary, trust: true},
		{name: "saved by root", job: &ordinary},
		{name: "saved by root for its owner", job: &ordinary, restarts: &ordinary},
		{name: "of root by a user", restarts: &ordinary, says: "belonged to another user"},
		{name: "with a capability by root", by: capable},
		{name: "with a capability by its owner", by: capable, restarts: &ordinary, says: "\n- "},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "-"), func(t *testing.T) {
			t.Parallel()
			j := newUserJob(t, "counter", criu)
			j.cred = c.job
			j.args = append(c.by, j.args...)
			j.launch()
			uid, gid, power := ids(j.pid, "Uid"), ids(j.pid, "Gid"), ids(j.pid, "CapEff")
			ctx := filepath.Join(j.dir, "ctx")
			before := tree(j.pid)
			if c.saver == nil && (c.job != nil || c.by != nil) && noResourceCapability() != "" {
				// Then root saves no process of a user, and says so before it does anything.
				for _, option := range []string{"--kill", "--check"} {
					p := j.as(nil, "cr_checkpoint", option, "-f", ctx, strconv.Itoa(j.pid))
					end := j.wait(p)
					out, _ := os.ReadFile(p.stdout)
					said, _ := os.ReadFile(p.stderr)
					if end != 1<<8 || !strings.Contains(string(out)+string(said), "CAP_SYS_RESOURCE") {
						t.Errorf("%s: %s\n%s%s", option, describe(end), out, said)
					}
				}
				j.advances()
				j.finish()
				return
			}
			p := j.as(c.saver, "cr_checkpoint", "--kill", "-f", ctx, strconv.Itoa(j.pid))
			j.silent(p, j.wait(p))
			j.killed(before)
			saver := c.saver
			if c.restarts != nil { // it has been given the context
				saver = c.restarts
			}
			given := j.give(ctx, "given", saver, 0o600)
			if c.says != "" {
				// It is to be the rights of the processes that it fails on, not its files'.
				names, _ := filepath.Glob(j.dir + "/*")
				for _, name := range append(names, j.dir) {
					if name != given {
						_ = os.Chmod(name, 0o777)
					}
				}
			}
			keepClear(j.pid)
			args := []string{given}
			if c.trust {
				args = []string{"--trust", given}
			}
			j.proc = j.as(c.restarts, "cr_restart", args...)
			if c.says != "" {
				end := j.wait(j.proc)
				said, _ := os.ReadFile(j.proc.stderr)
				if !end.Exited() || end.ExitStatus() == 0 || !strings.Contains(string(said), c.says) {
					t.Errorf("%s\n%s", describe(end), said)
				}
				j.nothing()
				return
			}
			j.advances()
			if got := ids(j.pid, "Uid"); got != uid {
				t.Errorf("users %s, were %s", got, uid)
			}
			if got := ids(j.pid, "Gid"); got != gid {
				t.Errorf("groups %s, were %s", got, gid)
			}
			if got := ids(j.pid, "CapEff"); got != power {
				t.Errorf("capabilities %s, were %s", got, power)
			}
			j.finish()
		})
	}
}

// TestMatrixTraps: what a stranger has put where the commands of another user will look
// leads them nowhere, and does not hold them up.
func TestMatrixTraps(t *testing.T) {
	criu := criuForUsers(t)
	const locks = strangersLocks // the victim is that user
	for _, c := range []struct {
		name   string
		trap   func(j *job, shared, precious string)
		args   []string // besides the target
		status int
	}{
		{"link as the target", func(j *job, shared, precious string) {
			j.link(precious, shared+"/ctx")
		}, []string{"--clobber"}, int(unix.ELOOP)},
		{"link as the temporary file", func(j *job, shared, precious string) {
			j.link(precious, shared+"/.ctx.tmp")
		}, nil, -1},
		{"directory as the temporary file", func(j *job, shared, _ string) {
			if err := os.Mkdir(shared+"/.ctx.tmp", 0o777); err != nil {
				j.t.Fatal(err)
			}
		}, nil, -1},
		{"link as the directory of locks", func(j *job, _, precious string) {
			j.link(filepath.Dir(precious), locks)
		}, nil, 0},
		{"locks that are held", func(j *job, _, _ string) {
			if err := os.Mkdir(locks, 0o777); err != nil {
				j.t.Fatal(err)
			}
			file, err := os.OpenFile(locks+"/requests", os.O_RDWR|os.O_CREATE, 0o666)
			if err != nil {
				j.t.Fatal(err)
			}
			j.t.Cleanup(func() { file.Close() })
			lock := unix.Flock_t{Type: unix.F_WRLCK}
			if err := unix.FcntlFlock(file.Fd(), unix.F_OFD_SETLK, &lock); err != nil {
				j.t.Fatal(err)
			}
			for _, name := range []string{locks, locks + "/requests"} {
				if err := os.Chown(name, int(ordinary.Uid), int(ordinary.Gid)); err != nil {
					j.t.Fatal(err)
				}
			}
		}, nil, 0},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "-"), func(t *testing.T) {
			// One after the other: there is one name for the locks.
			if _, err := os.Lstat(locks); err == nil {
				t.Skipf("%s is somebody's", locks)
			}
			defer os.RemoveAll(locks)
			j := newUserJob(t, "counter", criu)
			// The owner of the traps is the ordinary user, and the victim the other one.
			for _, dir := range []string{j.dir, j.tmp} {
				if err := os.Chown(dir, int(stranger.Uid), int(stranger.Gid)); err != nil {
					t.Fatal(err)
				}
			}
			j.cred = &stranger
			j.launch()
			shared := j.private("shared", &syscall.Credential{}, 0o777|os.ModeSticky)
			precious := filepath.Join(j.private("victim", &stranger, 0o755), "requests")
			if err := os.WriteFile(precious, []byte("precious"), 0o644); err != nil {
				t.Fatal(err)
			}
			if err := os.Chown(precious, int(stranger.Uid), int(stranger.Gid)); err != nil {
				t.Fatal(err)
			}
			c.trap(j, shared, precious)
			ctx := shared + "/ctx"
			p := j.command("cr_checkpoint", append(c.args, "-f", ctx, strconv.Itoa(j.pid))...)
			end := j.wait(p)
			said, _ := os.ReadFile(p.stderr)
			failed := c.status == -1 && end.Exited() && end.ExitStatus() != 0
			if !failed && end != syscall.WaitStatus(c.status<<8) {
				t.Errorf("%s, want status %d\n%s", describe(end), c.status, said)
			}
			if text, _ := os.ReadFile(precious); string(text) != "precious" {
				t.Errorf("a file of the victim was overwritten: %.40q", text)
			}
			if c.status == 0 {
				var st unix.Stat_t
				if err := unix.Lstat(ctx, &st); err != nil || st.Uid != stranger.Uid || st.Mode != unix.S_IFREG|0o400 {
					t.Errorf("the context: %v, owner %d, mode %o", err, st.Uid, st.Mode)
				}
			}
			j.advances()
			j.finish()
		})
	}
}

// link makes a symbolic link of the ordinary user.
func (j *job) link(to, name string) {
	j.t.Helper()
	if err := os.Symlink(to, name); err != nil {
		j.t.Fatal(err)
	}
	if err := os.Lchown(name, int(ordinary.Uid), int(ordinary.Gid)); err != nil {
		j.t.Fatal(err)
	}
}
