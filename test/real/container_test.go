//go:build real

package real

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// Jobs in namespaces of their own, saved from outside, and the commands inside of
// containers.

// TestNamespaces: what is in namespaces of its own is saved from outside, and restarted in
// new ones, more than once.
func TestNamespaces(t *testing.T) {
	engine(t)
	unshare := tool(t, "unshare")
	for _, kinds := range []string{"-i", "-u", "-n", "-i -u -n -C", "-p -f", "-p -f -i -u -n -C"} {
		t.Run(strings.ReplaceAll(kinds, " ", ""), func(t *testing.T) {
			t.Parallel()
			j := newJob(t, "counter")
			container := strings.Contains(kinds, "-f")
			args := append([]string{unshare}, strings.Fields(kinds)...)
			if container {
				args = append(args, tool(t, "setsid"))
			}
			unshared := j.start("unshare", append(args, j.args...), nil)
			j.until("the program to be ready", func() bool { return j.exists("ready") })
			j.proc, j.pid = unshared, unshared.pid
			if container {
				j.pid = childrenOf(unshared.pid)[0]
			}
			own := namespaces(j.pid)
			for n := range 3 {
				ctx := fmt.Sprintf("%s/ctx.%d", j.dir, n)
				before := tree(j.pid)
				// The first process of a container is named, the others by cr_restart.
				id := j.pid
				if !container && n > 0 {
					id = j.proc.pid
				}
				j.checkpoint(ctx, "--kill", strconv.Itoa(id))
				j.wait(j.proc)
				j.until("the job to be gone", func() bool { return stat(before[0]) == nil })
				keepClear(j.pid)
				option := []string{"--restore-pid", "--no-restore-pid"}[n%2]
				if !container {
					option = "--restore-pid"
				}
				j.proc = j.command("cr_restart", option, ctx)
				j.advances()
				j.until("the job to be cr_restart's only child", func() bool { return len(childrenOf(j.proc.pid)) == 1 })
				j.pid = childrenOf(j.proc.pid)[0]
				here := namespaces(os.Getpid())
				for kind, ns := range namespaces(j.pid) {
					// Control groups are cr_restart's.
					apart := own[kind] != here[kind] && kind != "cgroup"
					if (ns != here[kind]) != apart {
						t.Errorf("%s namespace is %s, that of the machine is %s", kind, ns, here[kind])
					}
				}
			}
			j.finish()
		})
	}
}

// namespaces are those of a process, by kind.
func namespaces(pid int) map[string]string {
	found := make(map[string]string)
	for _, kind := range []string{"mnt", "net", "pid", "user", "ipc", "uts", "cgroup"} {
		found[kind], _ = os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", pid, kind))
	}
	return found
}

// TestContainersRefused: what CRIU could save and not restore is refused with 95, and
// runs on.
func TestContainersRefused(t *testing.T) {
	engine(t)
	for _, c := range []struct{ kinds, says string }{
		{"-p -f --mount-proc setsid", "nsenter --all --target"},
		{"-p -f -m setsid", "nsenter --all --target"},
		{"-U -r -p -f setsid", "user namespace"},
		{"-p -f", "setsid"},
		{"-m", "nsenter --mount"},
	} {
		t.Run(strings.ReplaceAll(c.kinds, " ", ""), func(t *testing.T) {
			t.Parallel()
			j := newJob(t, "counter")
			args := append([]string{tool(t, "unshare")}, strings.Fields(c.kinds)...)
			j.proc = j.start("unshare", append(args, j.args...), nil)
			j.until("the program to be ready", func() bool {
				select {
				case <-j.proc.ended:
					t.Skipf("not here: %s", describe(j.proc.end))
				default:
				}
				return j.exists("ready")
			})
			j.pid = j.proc.pid
			if strings.Contains(c.kinds, "-f") {
				j.pid = childrenOf(j.pid)[0]
			}
			p := j.command("cr_checkpoint", "--kill", "-f", filepath.Join(j.dir, "ctx"), strconv.Itoa(j.pid))
			end := j.wait(p)
			said, _ := os.ReadFile(p.stderr)
			if end != 95<<8 || !strings.Contains(string(said), c.says) {
				t.Errorf("%s\n%s", describe(end), said)
			}
			j.noContext()
			j.advances()
			j.write("finish", "")
			if end := j.wait(j.proc); !end.Exited() || end.ExitStatus() != 42 {
				t.Errorf("the job ends so: %s", describe(end))
			}
		})
	}
}

// TestOtherFilesInside: what a container has started is refused from outside where the container
// has other files, by which CRIU would not find what it needs, and a restart not the job's. --check
// says the same.
func TestOtherFilesInside(t *testing.T) {
	engine(t)
	for _, c := range []struct{ name, prepare, says string }{
		{"root", `mkdir "$DIR/root" && mount -t tmpfs none "$DIR/root" && for d in /*; do
			if [ -h $d ]; then cp -P $d "$DIR/root"
			elif [ -d $d ]; then mkdir "$DIR/root$d" && mount --rbind $d "$DIR/root$d"; fi
		done; cd "$DIR/root" && mkdir old && pivot_root . old && cd "$DIR" && umount -l /old`, "(/)"},
		{"tmp", `mount -t tmpfs none "$TMPDIR"`, "TMPDIR"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			j := newJob(t, "counter")
			j.env = append(j.env, "DIR="+j.dir)
			args := append([]string{tool(t, "unshare"), "-m", "-p", "-f", "--kill-child", "--mount-proc", "--propagation", "private",
				"/bin/sh", "-c", c.prepare + "\nsetsid \"$@\" & wait", "sh"}, j.args...)
			j.proc = j.start("unshare", args, nil)
			j.until("the program to be ready", func() bool {
				select {
				case <-j.proc.ended:
					t.Skipf("not here: %s", describe(j.proc.end))
				default:
				}
				return j.exists("ready")
			})
			j.pid = childrenOf(childrenOf(j.proc.pid)[0])[0]
			says := fmt.Sprintf("is in a container with other files than here %s", strings.Replace(c.says, "TMPDIR", "("+j.tmp+")", 1))
			if said, status := j.asked(strconv.Itoa(j.pid)); status != 95 || !strings.Contains(said, says) {
				t.Errorf("--check: status %d, %q", status, said)
			}
			p := j.command("cr_checkpoint", "--kill", "-f", filepath.Join(j.dir, "ctx"), strconv.Itoa(j.pid))
			end := j.wait(p)
			if stderr, _ := os.ReadFile(p.stderr); end != 95<<8 || !strings.Contains(string(stderr), says) {
				t.Errorf("cr_checkpoint: %s, %q", describe(end), stderr)
			}
			j.noContext()
			j.advances()
			if err := syscall.Kill(j.pid, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			j.wait(j.proc)
		})
	}
}

// inside is the first process of a container. It starts the program, saves it, restarts it
// with its pids and with new ones, and ends as it ends. Its arguments are the directory of
// the commands, that of the job, and the program.
const inside = `
bin=$1 dir=$2; shift 2
cd "$dir" || exit 1
here() { until "$@"; do kill -0 $job || exit 2; sleep .02; done; }
grown() { [ "$(cat beat)" != "$was" ]; }
setsid "$@" </dev/null >>stdout 2>&1 &
job=$!
here test -s ready
for with in "" "$NEWPIDS"; do
	"$bin/cr_checkpoint" --kill -f ctx --clobber $job || exit
	wait $job
	was=$(cat beat)
	"$bin/cr_restart" $with ctx </dev/null &
	job=$!
	here grown
	[ -n "$NEWPIDS" ] || break
done
touch finish
wait $job
`

// docker are the capabilities that Docker gives its containers.
const docker = "-all,+chown,+dac_override,+fowner,+fsetid,+kill,+setgid,+setuid,+setpcap,+net_bind_service,+net_raw,+sys_chroot,+mknod,+audit_write,+setfcap"

// forbidding is a shell command that has the arguments run without a system call.
func forbidding(t *testing.T, number int) string {
	return fmt.Sprintf(`exec %s -c '
import ctypes, os, struct, sys
code = b"".join(struct.pack("HBBI", *i) for i in ((0x20, 0, 0, 0), (0x15, 0, 1, %d), (6, 0, 0, 0x50001), (6, 0, 0, 0x7fff0000)))
buf = ctypes.create_string_buffer(code)
program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", 4, ctypes.addressof(buf)))
if ctypes.CDLL(None).prctl(22, 2, program): sys.exit("no filter")
os.execv(sys.argv[1], sys.argv[1:])
' "$@"`, tool(t, "/usr/bin/python3"), number)
}

// TestInsideContainer: the commands in a container whose first process is a shell, with
// the capabilities and the file systems that containers have. What cannot be done there is
// refused with the way out, and the job runs on.
func TestInsideContainer(t *testing.T) {
	engine(t)
	const (
		noSys     = "umount -l /sys"
		noRun     = "mount -t tmpfs -o ro none /run"
		readOnly  = "mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys"
		plainRoot = `mkdir "$DIR/root" && for d in /*; do
			if [ -h $d ]; then cp -P $d "$DIR/root"
			elif [ -d $d ]; then mkdir "$DIR/root$d" && mount --rbind $d "$DIR/root$d"; fi
		done && exec chroot "$DIR/root" "$@"`
		otherRoot = `mkdir "$DIR/root" && mount --rbind / "$DIR/root" && cd "$DIR/root" && exec chroot . "$@"`
	)
	for _, c := range []struct {
		name      string
		caps      string // changes to the bounding set
		prepare   string // shell commands, in the new mount namespace
		user      bool   // the commands are run by an ordinary user
		newPids   bool   // also with --no-restore-pid
		otherProc bool   // /proc is that of the machine
		owns      string // an ordinary user has made it, in a user namespace with that option of unshare
		says      string // what it is refused with, if so
		status    int    // and with which status, if not 38
	}{
		{name: "everything", newPids: true},
		{name: "no sys", prepare: noSys},
		{name: "no run", prepare: noRun},
		{name: "read-only settings", prepare: readOnly, newPids: true},
		{name: "user with read-only settings", prepare: readOnly, user: true},
		{name: "user without sys and run", prepare: noSys + "; " + noRun, user: true},
		{name: "other root", prepare: otherRoot, newPids: true},
		{name: "plain chroot", prepare: plainRoot, says: "mount --bind DIR DIR"},
		{name: "no network", caps: "-net_admin"},
		{name: "docker", caps: docker, says: "--cap-add CHECKPOINT_RESTORE"},
		{name: "docker with one more", caps: docker + ",+checkpoint_restore"},
		{name: "user", user: true},
		{name: "user in docker", caps: docker, user: true, says: "--cap-add CHECKPOINT_RESTORE"},
		{name: "user in docker with one more", caps: docker + ",+checkpoint_restore", user: true},
		{name: "no new privileges", user: true, caps: "no_new_privs", says: "no_new_privs"},
		{name: "root of a user namespace", owns: "-r", says: "unshare --user --map-current-user"},
		{name: "user namespace", owns: "--map-current-user"},
		{name: "another's proc", otherProc: true, says: "mount -t proc proc /proc"},
		{name: "filter", prepare: forbidding(t, unix.SYS_UNSHARE), says: "seccomp=unconfined"},
		{name: "filter of docker", prepare: forbidding(t, unix.SYS_KCMP), caps: docker + ",+checkpoint_restore", says: "criu needs kcmp(2), which a filter", status: 1},
		{name: "filter of another call", prepare: forbidding(t, unix.SYS_SWAPON), caps: docker + ",+checkpoint_restore", says: "seccomp=unconfined", status: 1},
		{name: "filter of another call for root", prepare: forbidding(t, unix.SYS_SWAPON), says: "seccomp=unconfined", status: 1},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "-"), func(t *testing.T) {
			t.Parallel()
			var j *job
			if c.user || c.owns != "" {
				j = newUserJob(t, "counter", criuForUsers(t))
				if c.user {
					j.cred = nil // that is for setpriv
				} else {
					j.makesNamespaces()
				}
			} else {
				j = newJob(t, "counter")
			}
			j.env = append(j.env, "DIR="+j.dir)
			if c.newPids {
				j.env = append(j.env, "NEWPIDS=--no-restore-pid")
			}
			args := []string{tool(t, "unshare"), "-m", "-u", "-i", "-p", "-f", "--kill-child", "--propagation", "private"}
			if c.owns != "" {
				args = append(args, "-U", c.owns)
			}
			if !c.otherProc {
				args = append(args, "--mount-proc")
			}
			if c.prepare != "" {
				args = append(args, "/bin/sh", "-c", c.prepare+"\n"+`exec "$@"`, "sh")
			}
			set := []string{tool(t, "setpriv")}
			switch {
			case c.caps == "no_new_privs":
				set = append(set, "--no-new-privs")
			case c.caps != "":
				set = append(set, "--bounding-set", c.caps, "--inh-caps", "-all")
			}
			if c.user {
				set = append(set, "--reuid", fmt.Sprint(ordinary.Uid), "--regid", fmt.Sprint(ordinary.Gid), "--clear-groups")
			}
			if len(set) > 1 {
				args = append(args, set...)
			}
			args = append(append(args, "/bin/sh", "-c", inside, "sh", bin, j.dir), j.args...)
			p := j.start("container", args, nil)
			end := j.wait(p)
			text, _ := os.ReadFile(p.stderr)
			text = bytes.TrimPrefix(text, []byte("Killed\n")) // a shell may say it of the job
			switch said := string(text); {
			case c.says != "":
				if end != syscall.WaitStatus(cmp.Or(c.status, 38)<<8) || !strings.Contains(said, c.says) {
					t.Errorf("%s\n%s", describe(end), said)
				}
			case end != syscall.WaitStatus(42<<8) || said != "":
				t.Errorf("%s\n%s%s", describe(end), said, j.read("wrong"))
			}
		})
	}
}

// TestFewerCapabilities: a job of root's is restarted where root has fewer capabilities, as in a
// container, and no_new_privs, and has no others then. That is said beforehand.
func TestFewerCapabilities(t *testing.T) {
	engine(t)
	for _, caps := range []string{"-sys_admin", "-sys_chroot", "-setpcap", docker + ",+checkpoint_restore"} {
		t.Run(caps, func(t *testing.T) {
			t.Parallel()
			j := newJob(t, "counter")
			j.launch()
			ctx := filepath.Join(j.dir, "ctx")
			all := tree(j.pid)
			j.checkpoint(ctx, "--kill", strconv.Itoa(j.pid))
			j.killed(all)
			within := func(command string, args ...string) *process {
				set := []string{tool(t, "setpriv"), "--no-new-privs", "--bounding-set", caps, "--inh-caps", "-all", filepath.Join(bin, command)}
				return j.start(command, append(set, args...), nil)
			}
			p := within("cr_info", "--check", ctx)
			end := j.wait(p)
			said, _ := os.ReadFile(p.stdout)
			if end != 0 || !bytes.Contains(said, []byte("becomes that of cr_restart: capabilities, no_new_privs\n")) {
				t.Errorf("cr_info --check: %s, %s", describe(end), said)
			}
			keepClear(j.pid)
			j.proc = within("cr_restart", ctx)
			j.advances()
			rights := func(pid int) string {
				status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
				_, text, _ := strings.Cut(string(status), "\nCapInh:")
				text, _, _ = strings.Cut(text, "\nSeccomp")
				return text
			}
			if got, want := rights(j.pid), rights(j.proc.pid); got != want {
				t.Errorf("the job's capabilities are%s\nthose of cr_restart%s", got, want)
			}
			j.finish()
		})
	}
}
