//go:build batch

package batch

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"blcr-cli/test/harness"
)

// sgePrograms has Debian's programs of Grid Engine themselves; those in PATH are scripts
// that find out where the cluster is.
const sgePrograms = "/usr/lib/gridengine"

// sgeFiles are the files of a cluster; %[1]s: its directory, %[2]s: the machine.
var sgeFiles = map[string]string{
	"default/common/host_aliases": "%[2]s localhost\n",
	"default/common/act_qmaster":  "%[2]s\n",
	"default/common/bootstrap": `admin_user none
default_domain none
ignore_fqdn false
spooling_method berkeleydb
spooling_lib libspoolb
spooling_params %[1]s/db
binary_path ` + sgePrograms + `
qmaster_spool_dir %[1]s/qmaster
security_mode none
listener_threads 2
worker_threads 2
scheduler_threads 1
`,
}

// sge starts a Grid Engine of our own on this machine, whose daemons end with the pid
// namespace. It returns the environment of its programs.
var sge = sync.OnceValues(func() (env []string, err error) {
	dir := filepath.Join(scratch, "sge")
	machine, err := os.Hostname()
	if err != nil {
		return nil, err
	}
	if err := onLoopback(dir, machine); err != nil {
		return nil, err
	}
	port, err := freePorts(2)
	if err != nil {
		return nil, err
	}
	env = []string{
		"SGE_ROOT=" + dir, "SGE_CELL=default", "SGE_ND=1", // in the foreground
		fmt.Sprintf("SGE_QMASTER_PORT=%d", port[0]), fmt.Sprintf("SGE_EXECD_PORT=%d", port[1]),
	}
	for _, name := range []string{"default/common", "qmaster/job_scripts", "execd", "db", "bin", "lib", "utilbin"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			return nil, err
		}
	}
	for _, name := range []string{"bin", "lib", "utilbin"} {
		if err := os.Symlink(sgePrograms, filepath.Join(dir, name, "lx-amd64")); err != nil {
			return nil, err
		}
	}
	if err := os.Symlink("/usr/share/gridengine/util", filepath.Join(dir, "util")); err != nil {
		return nil, err
	}
	for name, text := range sgeFiles {
		if err := os.WriteFile(filepath.Join(dir, name), fmt.Appendf(nil, text, dir, machine), 0o644); err != nil {
			return nil, err
		}
	}
	configuration, err := os.ReadFile("/usr/share/gridengine/default-configuration")
	if err != nil {
		return nil, err
	}
	for name, value := range map[string]string{
		"execd_spool_dir": filepath.Join(dir, "execd"), "load_report_time": "00:00:01", "min_uid": "0", "min_gid": "0", "mailer": "/bin/true", "login_shells": "none",
	} {
		configuration = regexp.MustCompile(`(?m)^`+name+`\s.*`).ReplaceAll(configuration, []byte(name+" "+value))
	}
	conf := filepath.Join(dir, "configuration")
	if err := os.WriteFile(conf, configuration, 0o644); err != nil {
		return nil, err
	}
	run := func(args ...string) error {
		if out, err := sgeCommand(env, args...).CombinedOutput(); err != nil {
			return fmt.Errorf("%q: %w\n%s", args, err, out)
		}
		return nil
	}
	for _, args := range [][]string{
		{"spoolinit", "berkeleydb", "libspoolb", filepath.Join(dir, "db"), "init"},
		{"spooldefaults", "configuration", conf},
		{"spooldefaults", "complexes", "/usr/share/gridengine/util/resources/centry"},
		{"spooldefaults", "usersets", "/usr/share/gridengine/util/resources/usersets"},
		{"spooldefaults", "managers", "root"},
	} {
		if err := run(args...); err != nil {
			return nil, err
		}
	}
	c := &cluster{dir: dir}
	daemon := func(name string) error {
		cmd := sgeCommand(env, name)
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		log, err := os.Create(filepath.Join(dir, name+".log"))
		if err != nil {
			return err
		}
		defer log.Close()
		cmd.Stdout, cmd.Stderr = log, log
		if err := cmd.Start(); err != nil {
			return err
		}
		go func() { _ = cmd.Wait() }()
		return nil
	}
	if err := daemon("sge_qmaster"); err != nil {
		return nil, err
	}
	if err := c.until("the master answers", func() bool { return run("qconf", "-as", machine) == nil }); err != nil {
		return nil, err
	}
	if err := daemon("sge_execd"); err != nil {
		return nil, err
	}
	if err := c.until("the machine is an execution host", func() bool { return run("qconf", "-se", machine) == nil }); err != nil {
		return nil, err
	}
	queue, err := sgeCommand(env, "qconf", "-sq").Output()
	if err != nil {
		return nil, err
	}
	for name, value := range map[string]string{
		"qname": "all.q", "hostlist": machine, "slots": "8", "rerun": "TRUE", "load_thresholds": "NONE", "ckpt_list": "cr_batch", "pe_list": "NONE",
	} {
		queue = regexp.MustCompile(`(?m)^`+name+`\s.*`).ReplaceAll(queue, []byte(name+" "+value))
	}
	if err := os.WriteFile(filepath.Join(dir, "queue"), queue, 0o644); err != nil {
		return nil, err
	}
	ckpt, err := filepath.Abs(filepath.Join("../../docs/examples", "sge.ckpt"))
	if err != nil {
		return nil, err
	}
	scheduler, err := sgeCommand(env, "qconf", "-ssconf").Output()
	if err != nil {
		return nil, err
	}
	scheduler = regexp.MustCompile(`(?m)^schedule_interval\s.*`).ReplaceAll(scheduler, []byte("schedule_interval 0:0:1"))
	if err := os.WriteFile(filepath.Join(dir, "scheduler"), scheduler, 0o644); err != nil {
		return nil, err
	}
	for _, args := range [][]string{
		{"qconf", "-Ackpt", ckpt}, {"qconf", "-Aq", filepath.Join(dir, "queue")}, {"qconf", "-Msconf", filepath.Join(dir, "scheduler")},
	} {
		if err := run(args...); err != nil {
			return nil, err
		}
	}
	return env, nil
})

// onLoopback gives the machine's name an address on the loopback interface, in this mount
// namespace, unless it has one.
func onLoopback(dir, machine string) error {
	if list, err := net.LookupIP(machine); err == nil && len(list) == 1 && list[0].IsLoopback() {
		return nil
	}
	hosts := dir + ".hosts"
	if err := os.WriteFile(hosts, fmt.Appendf(nil, "127.0.0.1 localhost\n127.0.0.1 %s\n", machine), 0o644); err != nil {
		return err
	}
	return unix.Mount(hosts, "/etc/hosts", "", unix.MS_BIND, "")
}

// sgeCommand is one of root's.
func sgeCommand(env []string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(sgePrograms, args[0]), args[1:]...)
	cmd.Env = append(os.Environ(), env...)
	return cmd
}

// TestGridEngine: a job that asks for it by its status is requeued, and one of a
// checkpoint environment that the operator suspends gives way. Each goes on where it was.
func TestGridEngine(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"sge_qmaster", "sge_execd", "qconf", "spoolinit"} {
		harness.Tool(t, filepath.Join(sgePrograms, name))
	}
	env, err := sge()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		options  []string
		saveIt   func(t *testing.T, dir, id string)
		restarts int
	}{
		"status": {nil, func(t *testing.T, dir, _ string) { signalBatch(t, dir) }, 2},
		"checkpoint environment": {[]string{"-ckpt", "cr_batch"}, func(t *testing.T, _, id string) {
			if out, err := sgeCommand(env, "qmod", "-sj", id).CombinedOutput(); err != nil {
				t.Fatalf("qmod -sj: %v\n%s", err, out)
			}
		}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := newWork(t)
			file := filepath.Join(dir, "steps")
			submit := command(dir, env, filepath.Join(sgePrograms, "qsub"), append(append([]string{"-terse", "-V", "-N", "job"}, c.options...), example(t, "sge.sh"))...)
			out, err := submit.CombinedOutput()
			id := strings.TrimSpace(string(out))
			if err != nil {
				t.Fatalf("qsub: %v\n%s", err, out)
			}
			t.Cleanup(func() {
				if t.Failed() {
					state, _ := sgeCommand(env, "qstat", "-j", id).CombinedOutput()
					messages, _ := exec.Command("sh", "-c", "tail -n 30 "+filepath.Join(scratch, "sge", "*", "messages")+" "+filepath.Join(scratch, "sge/execd/*/messages")).CombinedOutput()
					t.Logf("%s\n%s", state, messages)
				}
				_ = sgeCommand(env, "qdel", "-f", id).Run()
			})
			goesOn(t, file)
			for n := range c.restarts {
				c.saveIt(t, dir, id)
				poll(t, "the job is restarted", func() bool {
					text, _ := os.ReadFile(filepath.Join(dir, "job.e"+id))
					return bytes.Count(text, []byte(" restarted generation ")) == n+1
				})
				goesOn(t, file)
			}
			finish(t, dir)
			poll(t, "the job's status", func() bool {
				out, _ := sgeCommand(env, "qacct", "-j", id).Output()
				return regexp.MustCompile(`(?m)^exit_status +7\b`).Match(out)
			})
			steps(t, file)
			if out, _ := os.ReadFile(filepath.Join(dir, "job.o"+id)); !strings.Contains(string(out), "finished\n") {
				t.Errorf("the output is %q", out)
			}
		})
	}
}

// signalBatch sends SIGUSR1 to the cr_batch that works in a directory.
func signalBatch(t *testing.T, dir string) {
	t.Helper()
	links, _ := filepath.Glob("/proc/[0-9]*/cwd")
	for _, link := range links {
		comm, _ := os.ReadFile(filepath.Join(filepath.Dir(link), "comm"))
		if to, _ := os.Readlink(link); to == dir && string(comm) == "cr_batch\n" {
			var pid int
			_, _ = fmt.Sscanf(link, "/proc/%d/", &pid)
			_ = syscall.Kill(pid, syscall.SIGUSR1)
		}
	}
}
