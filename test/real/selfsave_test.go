//go:build real

package real

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What these tests have in common: cr_checkpoint is called from inside the tree
// that it saves. The one that was called is saved with it and, after a restart,
// ends as if it had just succeeded.

// newCaller is a job for scripts that call the commands.
func newCaller(t *testing.T) *job {
	t.Helper()
	engine(t)
	return newJob(t, "caller")
}

// run starts a program, as the job's root, that finds the commands in its PATH.
func (j *job) run(args ...string) *process {
	j.t.Helper()
	p := j.start("script", j.withPath(args), nil)
	j.pid = p.pid
	return p
}

func (j *job) withPath(args []string) []string {
	return append([]string{"/usr/bin/env", "PATH=" + bin + ":" + os.Getenv("PATH")}, args...)
}

// script has a shell run a script.
func (j *job) script(shell, text string, args ...string) *process {
	j.t.Helper()
	name := fmt.Sprintf("script.%d", j.runs)
	j.write(name, text)
	return j.run(append([]string{shell, name}, args...)...)
}

// status is what a shell calls an end.
func status(end syscall.WaitStatus) int {
	if end.Signaled() {
		return 128 + int(end.Signal())
	}
	return end.ExitStatus()
}

// ends waits for the end of a process, with that status, which above 128 is a
// signal, and with everything that it has written, or its beginning where that
// ends in "...".
func (j *job) ends(p *process, want int, stdout, stderr string) {
	j.t.Helper()
	end := j.wait(p)
	if status(end) != want || end.Signaled() != (want > 128) || end.CoreDump() {
		j.t.Errorf("%s ends so: %s, want %d", p.name, describe(end), want)
	}
	for _, f := range []struct{ name, path, want string }{{"stdout", p.stdout, stdout}, {"stderr", p.stderr, stderr}} {
		begin, open := strings.CutSuffix(f.want, "...")
		if got, _ := os.ReadFile(f.path); string(got) != f.want && (!open || !strings.HasPrefix(string(got), begin)) {
			j.t.Errorf("%s of %s is %q, want %q", f.name, p.name, got, f.want)
		}
	}
	if j.t.Failed() {
		j.t.FailNow()
	}
}

// saved waits until all processes have gone, and looks at the context.
func (j *job) saved(ctx string) {
	j.t.Helper()
	j.nothing()
	st, err := os.Lstat(filepath.Join(j.dir, ctx))
	if err != nil {
		j.t.Fatal(err)
	}
	if mode := st.Mode(); mode != 0o400 && mode != os.ModeDir|0o700 {
		j.t.Errorf("mode of the context is %v", mode)
	}
	j.hidden()
}

// hidden are files that nobody should have left.
func (j *job) hidden() {
	j.t.Helper()
	if names, _ := filepath.Glob(j.dir + "/.*"); len(names) > 0 {
		j.t.Errorf("left: %v", names)
	}
}

// again starts cr_restart.
func (j *job) again(args ...string) *process {
	j.t.Helper()
	keepClear(j.pid)
	return j.start("cr_restart", j.withPath(append([]string{"cr_restart"}, args...)), nil)
}

// around has a shell run a script around the job, which is not its root.
func (j *job) around(text string) *process {
	j.t.Helper()
	name := fmt.Sprintf("around.%d", j.runs)
	j.write(name, text)
	if j.pid != 0 {
		keepClear(j.pid)
	}
	return j.start("around", j.withPath([]string{"bash", name}), nil)
}

// has waits until a file has these lines.
func (j *job) has(name, want string) {
	j.t.Helper()
	name = filepath.Base(name)
	j.until(fmt.Sprintf("%s to be %q", name, want), func() bool {
		return j.read(name) == want
	})
}

// counting is a script that counts to six and saves itself in the middle.
func counting(save string) string {
	return `count() { i=$1; while [ $i -le $2 ]; do echo $i; i=$((i+1)); done; }
count 1 3
` + save + `
count 4 6
echo done
exit 7
`
}

const save = "cr_checkpoint --term -T $$ -f ctx"

// TestSelfShell saves shells from inside, called in all ways there are.
func TestSelfShell(t *testing.T) {
	for _, c := range []struct {
		name, shell, save string
		before, after     string // besides the counting
		run               bool   // also without --term
		args              []string
	}{
		{name: "bash", save: save, run: true},
		{name: "dash", shell: "sh", save: save, run: true},
		{name: "default-file", save: "cr_checkpoint --term -T $$; echo $?", after: "0\n", run: true, args: []string{"context.PID"}},
		{name: "default-scope", save: "cr_checkpoint $$ --file=ctx --term || echo no"},
		{name: "directory", save: "cr_checkpoint --term $$ -d ctx || echo no", run: true, args: []string{"-d", "ctx"}},
		{name: "descriptor", save: "exec 5>ctx; chmod 400 ctx; cr_checkpoint --term $$ -F 5 && echo yes; exec 5>&-", after: "yes\n"},
		{name: "set-e", save: "set -e; " + save, run: true},
		{name: "set-e-dash", shell: "sh", save: "set -eu; " + save},
		{name: "set-m", save: "set -m; " + save + "; echo $?", after: "0\n"},
		{name: "if", save: "if " + save + "; then echo yes; else echo no; fi", after: "yes\n"},
		{name: "substitution", save: `x=$(` + save + ` 2>&1); echo "[$x] $?"`, after: "[] 0\n", run: true},
		{name: "in-substitution", save: `x=$(echo a; ` + save + `; echo b $?); echo $x`, after: "a b 0\n"},
		{name: "pipeline", save: "echo x | " + save + " 2>&1 | cat; echo ${PIPESTATUS[@]}", after: "0 0 0\n", run: true},
		{name: "in-pipeline", save: "seq 2 4 | while read n; do [ $n != 3 ] || " + save + "; echo n$n; done", before: "n2\n", after: "n3\nn4\n"},
		{name: "background", save: save + " & wait $!; echo $?", after: "0\n", run: true},
		{name: "background-dash", shell: "sh", save: save + " & wait $!; echo $?", after: "0\n"},
		{name: "in-background", save: "( sleep 0.05; " + save + "; echo job $? ) & wait; echo $?", after: "job 0\n0\n"},
		{name: "subshell", save: "( " + save + " ); echo $?", after: "0\n", run: true},
		{name: "subshells", save: "( : ; ( " + save + "; echo in $? ); exit 3 ); echo $?", after: "in 0\n3\n"},
		{name: "parent", save: "sh -c '" + strings.Replace(save, "$$", "$PPID", 1) + "; exit 5'; echo $?", after: "5\n"},
		{name: "xargs", save: "echo $$ | xargs cr_checkpoint --term -f ctx; echo $?", after: "0\n"},
		{name: "timeout", save: "timeout 100 " + save + "; echo $?", after: "0\n", run: true},
		{name: "nohup", save: "nohup " + save + "; echo $?", after: "0\n"},
		{name: "cr_run", save: "cr_run " + save + "; echo $?", after: "0\n"},
		{name: "ignored", save: "trap '' INT HUP QUIT; " + save + "; echo $?", after: "0\n"},
		{name: "no-stdio", save: save + " <&- >&- 2>&-; echo $?", after: "0\n", run: true},
		{name: "descriptors", save: "mkfifo pipe; echo x >some; exec 3<some 4>four 5<>pipe 11>>some; " + save + "; cat <&3; echo y >&4; cat four", after: "x\ny\n", run: true},
		{name: "lock", save: "exec 9>lock; flock -n 9 || echo no; " + save + "; flock -n lock -c :; echo $?", after: "1\n"},
		{name: "children", shell: "sh", save: "sleep 1000 & j=$!; sleep 1000 & k=$!; " + save + "; kill $j; wait $j 2>/dev/null; echo $?; kill $k", after: "143\n"},
	} {
		shell := c.shell
		if shell == "" {
			shell = "bash"
		}
		first, rest := "1\n2\n3\n"+c.before, c.after+"4\n5\n6\ndone\n"
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			j := newCaller(t)
			p := j.script(shell, counting(c.save))
			j.ends(p, 143, first, "")
			ctx, args := j.context(c.args)
			j.saved(ctx)
			j.ends(j.again(args...), 7, "", "")
			j.ends(p, 143, first+rest, "")
			j.nothing()
			j.hidden()
		})
		if !c.run {
			continue
		}
		t.Run(c.name+"-run", func(t *testing.T) {
			t.Parallel()
			j := newCaller(t)
			p := j.script(shell, counting(strings.ReplaceAll(c.save, " --term", "")))
			j.ends(p, 7, first+rest, "")
			ctx, args := j.context(c.args)
			j.saved(ctx)
			j.blank(p.stdout)
			for range 2 {
				j.ends(j.again(args...), 7, "", "")
				j.ends(p, 7, strings.Repeat("#", len(first))+rest, "")
				j.nothing()
				j.blank(p.stdout)
			}
			j.hidden()
		})
	}
}

// context is where the context is, and the arguments for cr_restart.
func (j *job) context(args []string) (string, []string) {
	if len(args) == 0 {
		args = []string{"ctx"}
	}
	args = slices.Clone(args)
	last := &args[len(args)-1]
	*last = strings.Replace(*last, "PID", fmt.Sprint(j.pid), 1)
	return *last, args
}

// blank makes everything in a file #: what is written again is seen then.
func (j *job) blank(path string) {
	j.t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		j.t.Fatal(err)
	}
	if err := os.WriteFile(path, bytes.Repeat([]byte("#"), len(text)), 0); err != nil {
		j.t.Fatal(err)
	}
}

// TestSelfSignal: the other signals, at the checkpoint and at the restart.
func TestSelfSignal(t *testing.T) {
	for _, c := range []struct {
		option string
		status int
	}{{"--kill", 137}, {"--abort", 134}, {"-S 1", 129}} {
		t.Run(strings.Trim(c.option, "-"), func(t *testing.T) {
			t.Parallel()
			j := newCaller(t)
			p := j.script("bash", counting("ulimit -c 0; "+strings.Replace(save, "--term", c.option, 1)))
			j.ends(p, c.status, "1\n2\n3\n", "")
			j.saved("ctx")
			j.ends(j.again("--term", "ctx"), 143, "", "")
			j.nothing()
			j.ends(j.again("ctx"), 7, "", "")
			j.ends(p, c.status, "1\n2\n3\n4\n5\n6\ndone\n", "")
		})
	}
	// All stand still, the one that was called as well, until somebody has them
	// go on.
	t.Run("stop", func(t *testing.T) {
		t.Parallel()
		j := newCaller(t)
		p := j.script("bash", counting(strings.Replace(save, "--term", "--stop", 1)+"; echo $?"))
		j.until("the script to be stopped", func() bool {
			s := stat(j.pid)
			return s != nil && s.state == 'T' && j.exists("ctx") && len(j.helpers()) == 0
		})
		if got := j.read(filepath.Base(p.stdout)); got != "1\n2\n3\n" {
			t.Errorf("stopped, it has written %q", got)
		}
		if err := unix.Kill(-j.pid, unix.SIGCONT); err != nil {
			t.Fatal(err)
		}
		j.ends(p, 7, "1\n2\n3\n0\n4\n5\n6\ndone\n", "")
		j.saved("ctx")
		j.blank(p.stdout)
		j.ends(j.again("ctx"), 7, "", "")
		j.ends(p, 7, "######0\n4\n5\n6\ndone\n", "")
	})
	// The one that was called gets what all get; the script has a trap for it. None
	// of that is in the context.
	t.Run("trap", func(t *testing.T) {
		t.Parallel()
		j := newCaller(t)
		p := j.script("bash", counting("trap 'echo usr1' USR1; "+strings.Replace(save, "--term", "-S 10", 1)+" 2>&1; echo $?"))
		end := j.wait(p)
		if got := j.read(filepath.Base(p.stdout)); status(end) != 7 || got != "1\n2\n3\nusr1\n138\n4\n5\n6\ndone\n" {
			t.Errorf("it ends so: %s, and has written %q", describe(end), got)
		}
		j.saved("ctx")
		j.write(filepath.Base(p.stdout), "")
		j.ends(j.again("ctx"), 7, "", "")
		if got := j.read(filepath.Base(p.stdout)); strings.TrimLeft(got, "\x00") != "0\n4\n5\n6\ndone\n" {
			t.Errorf("after the restart it has written %q", got)
		}
	})
}

// TestSelfExec: the one that was called is all that there is.
func TestSelfExec(t *testing.T) {
	j := newCaller(t)
	for range 2 {
		j.ends(j.script("bash", "echo 1; exec "+save), 143, "1\n", "")
		j.saved("ctx")
		j.ends(j.again("ctx"), 0, "", "")
		j.nothing()
	}
}

// TestSelfAtOnce: cr_restart follows the end of a script that has saved itself at
// once.
func TestSelfAtOnce(t *testing.T) {
	j := newCaller(t)
	j.write("inner", counting("for n in 1 2 3; do "+save+"; done"))
	p := j.around(`bash inner >out 2>/dev/null; echo $?
cr_restart ctx; echo $?
cr_restart ctx; echo $?
cr_restart ctx; echo $?`)
	end := j.wait(p)
	if got := j.read(filepath.Base(p.stdout)); end != 0 || got != "143\n143\n143\n7\n" {
		t.Errorf("%s, statuses %q", describe(end), got)
	}
	if got := j.read("out"); got != "1\n2\n3\n4\n5\n6\ndone\n" {
		t.Errorf("it has written %q", got)
	}
}

// TestSelfAtOnceLarge: the same, when somebody in the tree takes a while to end.
func TestSelfAtOnceLarge(t *testing.T) {
	j := newCaller(t)
	j.write("inner", large+save+"; echo $?\nexit 7\n")
	p := j.around(`bash inner >out; echo $?
cr_restart ctx; echo $?`)
	j.wait(p)
	j.ends(p, 0, "143\n7\n", "Terminated\n")
	j.has("out", "0\n")
}

// TestSelfTrap: somebody sends USR1, and the trap has the script saved; before
// and after a restart.
func TestSelfTrap(t *testing.T) {
	for _, c := range []struct {
		shell, save string
		status      int
	}{{"bash", save, 143}, {"sh", save, 143}, {"bash", "cr_checkpoint -T $$ -f ctx", 0}} {
		t.Run(fmt.Sprintf("%s-%d", c.shell, c.status), func(t *testing.T) {
			t.Parallel()
			j := newCaller(t)
			p := j.script(c.shell, `trap '`+c.save+`; echo trap $?' USR1
echo begin
while [ ! -e go ]; do sleep 0.02; : >tick; done
echo end
exit 7`)
			stdout := filepath.Base(p.stdout)
			want, root := "begin\n", p
			for range 3 {
				j.has(stdout, want)
				// A shell may forget a signal that arrives before its trap is over.
				_ = os.Remove(filepath.Join(j.dir, "tick"))
				j.until("the shell to go on", func() bool { return j.exists("tick") })
				if err := unix.Kill(root.pid, unix.SIGUSR1); err != nil {
					t.Fatal(err)
				}
				if want += "trap 0\n"; c.status == 0 {
					continue
				}
				j.ends(root, c.status, j.read(filepath.Base(root.stdout)), "")
				j.saved("ctx")
				root = j.again("ctx")
			}
			j.has(stdout, want)
			j.write("go", "")
			want += "end\n"
			j.has(stdout, want)
			if end := j.wait(root); status(end) != 7 {
				t.Errorf("it ends so: %s", describe(end))
			}
			j.nothing()
		})
	}
}

// TestSelfTwice: two requests for a tree from inside at the same time. One may
// find it busy; in a copy, both have succeeded.
func TestSelfTwice(t *testing.T) {
	const first = "1\n2\n3\n"
	succeeded := map[string]bool{}
	for range 6 {
		j := newCaller(t)
		p := j.script("bash", counting(`exec 6>stderr.commands
for f in a b; do { cr_checkpoint $$ -f $f; s=$?; echo $s >status.$f; exit $s; } 2>&6 & done; wait; cat status.?`))
		if end := j.wait(p); status(end) != 7 {
			t.Errorf("it ends so: %s", describe(end))
		}
		statuses := j.read("status.a") + j.read("status.b")
		j.has(p.stdout, first+statuses+"4\n5\n6\ndone\n")
		if statuses != "0\n0\n" && statuses != "16\n0\n" && statuses != "0\n16\n" || strings.Count(j.read("stderr.commands"), "Checkpoint failed: ") != strings.Count(statuses, "16") {
			t.Fatalf("statuses are %q, stderr is %q", statuses, j.read("stderr.commands"))
		}
		j.nothing()
		for _, ctx := range []string{"a", "b"} {
			if j.exists(ctx) != (j.read("status."+ctx) == "0\n") {
				t.Fatalf("%s is there: %v, but statuses are %q", ctx, j.exists(ctx), statuses)
			}
		}
		for _, ctx := range []string{"a", "b"} {
			if !j.exists(ctx) {
				continue
			}
			j.saved(ctx)
			j.blank(p.stdout)
			j.ends(j.again(ctx), 7, "", "")
			// The other one had ended, or it has succeeded.
			if got := strings.Trim(j.read(filepath.Base(p.stdout)), "#"); !strings.HasSuffix(got, "0\n4\n5\n6\ndone\n") && !strings.HasSuffix(got, "0\n16\n4\n5\n6\ndone\n") {
				t.Fatalf("statuses were %q; restarted from %s it has written %q", statuses, ctx, got)
			}
			j.nothing()
		}
		succeeded[statuses] = true
	}
	t.Log(succeeded)
}

// TestSelfSystem: programs that save themselves.
func TestSelfSystem(t *testing.T) {
	const term = "cr_checkpoint --term @ -f ctx"
	python := func(call string) []string {
		return []string{"/usr/bin/python3", "-c", `import os, subprocess, sys
sys.stdout.reconfigure(line_buffering=True)
for i in 1, 2, 3: print(i)
command = sys.argv[1].replace("@", str(os.getpid()))
print("status", ` + call + `)
for i in 4, 5, 6: print(i)
sys.exit(7)`, term}
	}
	perl := func(call string) []string {
		return []string{"/usr/bin/perl", "-e", `$| = 1;
for (1..3) { print "$_\n" }
($command = $ARGV[0]) =~ s/@/$$/;
print "status ", ` + call + `, "\n";
for (4..6) { print "$_\n" }
exit 7`, term}
	}
	for _, c := range []struct {
		name string
		args []string
	}{
		{"c", []string{filepath.Join(progs, "selfsystem"), term}},
		{"c-threads", []string{filepath.Join(progs, "selfsystem"), term, "threads"}},
		{"go", append([]string{filepath.Join(progs, "selfexec")}, strings.Fields(term)...)},
		{"python-system", python(`os.system(command)`)},
		{"python-call", python(`subprocess.call(command.split())`)},
		{"python-output", python(`len(subprocess.check_output(command, shell=True))`)},
		{"perl-system", perl(`system($command)`)},
		{"perl-list", perl(`system(split(" ", $command))`)},
		{"perl-output", perl("length(`$command`) + $?")},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			j := newCaller(t)
			p := j.run(c.args...)
			j.ends(p, 143, "1\n2\n3\n", "")
			j.saved("ctx")
			j.ends(j.again("ctx"), 7, "", "")
			j.ends(p, 143, "1\n2\n3\nstatus 0\n4\n5\n6\n", "")
			j.nothing()

			// Once now, and once after each restart.
			args := slices.Clone(c.args)
			for i := range args {
				args[i] = strings.Replace(args[i], "--term", "--run", 1)
			}
			p = j.run(args...)
			j.ends(p, 7, "1\n2\n3\nstatus 0\n4\n5\n6\n", "")
			for range 2 {
				j.saved("ctx")
				j.blank(p.stdout)
				j.ends(j.again("ctx"), 7, "", "")
				j.ends(p, 7, "######status 0\n4\n5\n6\n", "")
			}
			j.nothing()
			j.hidden()
		})
	}
}

// TestSelfScopes: the other scopes, from inside.
func TestSelfScopes(t *testing.T) {
	for _, c := range []struct{ name, scope, save string }{
		{"process", "-p", save},
		{"group", "-g", save},
		{"group-job", "-g", "sleep 1000 & " + save + "; kill $!"},
		{"session", "-s", save},
		{"session-job", "-s", "sleep 1000 & " + save + "; kill $!"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			j := newCaller(t)
			text := "echo $$ >pid\n" + counting(strings.Replace(c.save, "-T", c.scope, 1)+"; echo $?")
			var p *process
			if c.scope == "-s" {
				j.write("inner", text)
				p = j.around("{ setsid -w bash inner; } 2>err; grep -v Terminated err")
			} else {
				p = j.script("bash", text)
			}
			if c.scope == "-s" {
				j.ends(p, 1, "1\n2\n3\n", "")
			} else {
				j.ends(p, 143, "1\n2\n3\n", "")
			}
			j.root()
			j.saved("ctx")
			j.ends(j.again("ctx"), 7, "", "")
			if got := j.read(filepath.Base(p.stdout)); got != "1\n2\n3\n0\n4\n5\n6\ndone\n" {
				t.Errorf("stdout: %q", got)
			}
			j.nothing()
		})
	}
}

// TestSelfPipes: the script's stdin and stdout are pipes to others.
func TestSelfPipes(t *testing.T) {
	j := newCaller(t)
	j.write("inner", "echo $$ >pid\nwhile read n; do echo $n; [ $n != 5 ] || "+save+"; done; echo done; exit 7\n")
	j.ends(j.around(`{ seq 1 5; until [ -e saved ]; do sleep 0.01; done; } | { bash inner; echo $?; : >saved; } 2>/dev/null | cat`), 0, "1\n2\n3\n4\n5\n143\n", "")
	j.root()
	j.saved("ctx")
	j.ends(j.around("seq 6 8 | cr_restart ctx | cat; echo ${PIPESTATUS[1]}"), 0, "6\n7\n8\ndone\n7\n", "")
	j.nothing()
	j.ends(j.around("x=$(echo 9 | cr_restart ctx); echo $? $x"), 0, "7 9 done\n", "")
	j.nothing()
}

// terminal is the other side of a pseudo-terminal.
type terminal struct {
	*os.File
	name string // of this side
	text *bytes.Buffer
	lock *sync.Mutex
}

func newTerminal(t *testing.T) *terminal {
	t.Helper()
	f, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { f.Close() })
	n, err := unix.IoctlGetInt(int(f.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(int(f.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	y := &terminal{File: f, name: fmt.Sprintf("/dev/pts/%d", n), text: new(bytes.Buffer), lock: new(sync.Mutex)}
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := f.Read(buf)
			y.lock.Lock()
			y.text.Write(buf[:n])
			y.lock.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return y
}

// seen is what was written on it.
func (y *terminal) seen() string {
	y.lock.Lock()
	defer y.lock.Unlock()
	return strings.ReplaceAll(y.text.String(), "\r\n", "\n")
}

// on runs a command on a terminal, the controlling one of a session of its own;
// the command's status is in the file status then.
func (j *job) on(y *terminal, command string) *process {
	j.t.Helper()
	j.write("launcher", "exec <>"+y.name+" >&0 2>&0\ntrap : INT\n"+command+"\necho $? >status.new\nmv status.new status\n")
	_ = os.Remove(filepath.Join(j.dir, "status"))
	return j.start("launcher", j.withPath([]string{"setsid", "-w", "sh", "launcher"}), nil)
}

// TestSelfTerminal: the script's stdin and stdout are a terminal.
func TestSelfTerminal(t *testing.T) {
	j := newCaller(t)
	j.write("inner", "echo $$ >pid\n"+counting(save+"; echo $?; read word; echo $word"))
	y := newTerminal(t)
	j.wait(j.on(y, "bash inner"))
	if got := j.read("status"); got != "143\n" || !strings.HasPrefix(y.seen(), "1\n2\n3\n") {
		t.Errorf("status %s, on the terminal is %q", got, y.seen())
	}
	j.root()
	j.saved("ctx")
	y = newTerminal(t)
	keepClear(j.pid)
	p := j.on(y, "cr_restart ctx")
	j.until("something on the terminal", func() bool { return y.seen() == "0\n" })
	fmt.Fprintf(y, "word\n")
	j.wait(p)
	if got := j.read("status"); got != "7\n" || y.seen() != "0\nword\nword\n4\n5\n6\ndone\n" {
		t.Errorf("status %s, on the terminal is %q", got, y.seen())
	}
	j.nothing()
}

// root takes the pid of the job's root from a file.
func (j *job) root() {
	j.t.Helper()
	if _, err := fmt.Sscan(j.read("pid"), &j.pid); err != nil {
		j.t.Fatal(err)
	}
}

// waiting is the process of the cr_checkpoint in the job's tree.
func (j *job) waiting() int {
	j.t.Helper()
	for _, pid := range tree(j.pid)[1:] {
		if comm(pid) == "cr_checkpoint" {
			return pid
		}
	}
	j.t.Fatal("no cr_checkpoint waits")
	panic("not reached")
}

// outside are the processes of cr_checkpoint, and its criu, that are not in the
// job's tree, the oldest first.
func (j *job) outside() []int {
	inside := tree(j.pid)
	return slices.DeleteFunc(j.helpers(), func(pid int) bool { return slices.Contains(inside, pid) })
}

// saving waits until the script is being saved.
func (j *job) saving() {
	j.t.Helper()
	j.until("criu to trace the script", func() bool { return j.tracer() != 0 })
}

// large is the begin of a script of which there is much to save.
const large = `perl -e '$x = "x" x 2e8; open F, ">mem"; close F; sleep 1 while 1' & m=$!
trap 'kill $m; wait $m 2>&-' EXIT
until [ -e mem ]; do sleep 0.02; done
ulimit -c 0
# A pipe that nobody reads from.
stuck() { exec 5<&-; rm -f pipe; mkfifo pipe; exec 5<>pipe; }
`

// TestSelfCancelled: a signal to the one that was called while it is being saved.
// It dies of it and nothing is left, or it is too late and the context is there.
// The script goes on.
func TestSelfCancelled(t *testing.T) {
	signals := []syscall.Signal{unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT}
	for _, c := range []struct {
		name, save string
		late       bool // it may come too late
	}{
		{"large", "cr_checkpoint -T $$ -f ctx 2>&6", true},
		// These would not end by themselves.
		{"stuck", "cr_checkpoint -T $$ -F 5 2>&6", false},
		{"stuck-in-tree", "cr_checkpoint -T $$ -F 1 2>&6 | cat >piped", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			j := newCaller(t)
			p := j.script("bash", large+fmt.Sprintf(`exec 6>stderr.commands
for n in $(seq %d); do
stuck; until [ -e go.$n ]; do sleep 0.01; done
%s; s=${PIPESTATUS[0]}
[ ! -s ctx ] || s="$s complete"
echo $s
until [ -e went.$n ]; do sleep 0.01; done
[ ! -e ctx ] || echo later
rm -f ctx
done 2>/dev/null
exit 7`, len(signals), c.save))
			want := ""
			for n, sig := range signals {
				j.write(fmt.Sprintf("go.%d", n+1), "")
				j.saving()
				if err := unix.Kill(j.waiting(), sig); err != nil {
					t.Fatal(err)
				}
				cancelled, late := fmt.Sprintf("%s%d\n", want, 128+sig), want+"0 complete\n"
				j.until(fmt.Sprintf("signal %d to be seen", sig), func() bool {
					got := j.read(filepath.Base(p.stdout))
					if strings.Count(got, "\n") <= strings.Count(want, "\n") {
						return false
					}
					if want = got; got != cancelled && !(got == late && c.late) {
						t.Fatalf("signal %d: statuses are %q", sig, got)
					}
					return true
				})
				j.until("the worker to be gone", func() bool { return len(j.outside()) == 0 })
				j.hidden()
				if j.exists("ctx") != strings.HasSuffix(want, "complete\n") {
					t.Fatalf("signal %d: statuses are %q, but there is a context: %v", sig, want, j.exists("ctx"))
				}
				if strings.HasSuffix(want, "complete\n") {
					want += "later\n"
				}
				j.write(fmt.Sprintf("went.%d", n+1), "")
			}
			j.ends(p, 7, want, "")
			if text := j.read("stderr.commands"); text != "" {
				t.Errorf("stderr: %s", text)
			}
			j.nothing()
		})
	}
}

// TestSelfKilled: those who work outside are killed.
func TestSelfKilled(t *testing.T) {
	j := newCaller(t)
	const rounds = 4
	p := j.script("bash", large+fmt.Sprintf(`for n in $(seq %d); do
stuck; until [ -e go.$n ]; do sleep 0.01; done
cr_checkpoint -T $$ -F 5; echo $?; kill -0 $m || echo harmed
done
exec 5>&-
cr_checkpoint -T $$ -f ctx; echo $?
exit 7`, rounds))
	want := ""
	for n := range rounds {
		j.write(fmt.Sprintf("go.%d", n+1), "")
		j.saving()
		time.Sleep(time.Duration(n) * 50 * time.Millisecond)
		// By turns the first, who is nobody's child, and the next.
		killed := 0
		for _, pid := range j.outside() {
			s := stat(pid)
			if comm(pid) == "cr_checkpoint" && s != nil && slices.Contains(j.outside(), s.ppid) == (n%2 == 1) {
				if killed == 0 {
					_ = unix.Kill(pid, unix.SIGKILL)
				}
				killed++
			}
		}
		if killed == 0 {
			t.Fatal("nobody can be killed")
		}
		want += "1\n"
		j.has(p.stdout, want)
		j.until("all of the worker's to be gone", func() bool { return len(j.outside()) == 0 && j.tracer() == 0 })
		j.forgetScratch()
	}
	j.ends(p, 7, want+"0\n", strings.Repeat("child killed by signal 9 (Killed)\n", rounds))
	j.saved("ctx")
	j.write(filepath.Base(p.stdout), "")
	j.ends(j.again("ctx"), 7, "", "")
	j.nothing()
}

// TestSelfFails: a checkpoint fails, says why, and the script goes on.
func TestSelfFails(t *testing.T) {
	const full = "Checkpoint failed: No space left on device\n- writing '"
	for _, c := range []struct {
		name, save string
		status     int
		stderr     string
	}{
		{"full", "cr_checkpoint --term $$ -f small/ctx", 28, full + "small/.ctx.tmp': No space left on device\n- the file system ..."},
		{"dev-full", "cr_checkpoint --term $$ -F 1 >/dev/full", 28, full + "<fd1>': No space left on device\n"},
		{"time", "cr_checkpoint --time 1 --term $$ -F 5", 62, "Checkpoint failed: Timer expired\n"},
		{"time-in-tree", "cr_checkpoint --time 1 --term $$ -F 1 | cat >piped; (exit ${PIPESTATUS[0]})", 62, "Checkpoint failed: Timer expired\n"},
		{"no-directory", "cr_checkpoint --term $$ -f no/ctx", 2, "Unable to open file 'no/.ctx.tmp': No such file or directory\nFailed to open checkpoint file 'no/ctx'\n- there is no directory no\n"},
		{"noclobber", "cr_checkpoint --term $$ --noclobber -f script.0", 17, "Unable to open file 'script.0': File exists\nFailed to open checkpoint file 'script.0'\n"},
		{"nobody", fmt.Sprintf("cr_checkpoint --term %d -f ctx", freePid()), 3, "Checkpoint failed: no processes checkpointed\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			j := newCaller(t)
			small := filepath.Join(j.dir, "small")
			if err := os.Mkdir(small, 0o755); err != nil {
				t.Fatal(err)
			}
			if c.name != "full" {
				t.Parallel()
			} else if err := unix.Mount("small", small, "tmpfs", 0, "size=128k"); err != nil {
				t.Skip(err)
			} else {
				defer unix.Unmount(small, unix.MNT_DETACH)
			}
			p := j.script("bash", counting("mkfifo pipe; exec 5<>pipe; x=$(seq 500000); "+c.save+"; echo $?"))
			j.ends(p, 7, fmt.Sprintf("1\n2\n3\n%d\n4\n5\n6\ndone\n", c.status), c.stderr)
			j.nothing()
			j.hidden()
			if left, _ := os.ReadDir(small); len(left) > 0 || j.exists("ctx") {
				t.Errorf("left: %v", left)
			}
		})
	}
}

// TestSelfCtrlC: Ctrl-C at the terminal while the script saves itself.
func TestSelfCtrlC(t *testing.T) {
	for _, ignored := range []bool{false, true} {
		j := newCaller(t)
		y := newTerminal(t)
		trap, want := "", "130"
		if ignored {
			trap, want = "trap 'echo trap' INT\n", "130 7"
		}
		j.write("inner", "echo $$ >pid\n"+trap+large+`echo begin
cr_checkpoint -T $$ -f ctx
echo $?
exit 7
`)
		p := j.on(y, "bash inner")
		j.until("the script to begin", func() bool { return y.seen() == "begin\n" })
		j.root()
		j.saving()
		if _, err := y.Write([]byte{3}); err != nil {
			t.Fatal(err)
		}
		j.wait(p)
		j.nothing()
		j.hidden()
		// The terminal shows ^C, and what the traps say.
		got := strings.TrimSpace(strings.NewReplacer("begin\n", "", "^C", "", "trap\n", "", "\n", " ").Replace(y.seen() + j.read("status")))
		if j.exists("ctx") { // it came too late
			want = "0 7"
		}
		if got != want || ignored && !strings.Contains(y.seen(), "trap\n") {
			t.Errorf("the context is there: %v; statuses %q, on the terminal is %q", j.exists("ctx"), got, y.seen())
		}
	}
}

// TestSelfDescriptors: what cr_restart has open is not taken for the worker.
func TestSelfDescriptors(t *testing.T) {
	for i, exec := range []string{
		"exec 3<&0 4<some 5>five 6<>pipe 7<&6 8>&6 9</dev/null",
		"exec 3<some 4<some 5<some 6<some 7<some 8<some 9<some",
		"exec 3<>pipe 4<>pipe 5<>pipe 6<>pipe 7<>pipe 8<>pipe 9<>pipe",
		"exec 10<>pipe 11<>pipe 12<>pipe 13<>pipe 14<>pipe 15<some 200<>pipe 3<&10 4<&10 5>&10",
		"exec <>pipe >&0 2>&0 3<&0 4<&0 5<&0 6<&0 7<&0 8<&0 9<&0",
		"exec <&- >&- 2>&-",
	} {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			j := newCaller(t)
			p := j.script([]string{"bash", "sh"}[i%2], counting(save+"; echo $?"))
			j.ends(p, 143, "1\n2\n3\n", "")
			j.saved("ctx")
			again := j.around("mkfifo pipe; echo word >some; exec 16<>pipe; echo in pipe >&16\n" +
				"( " + exec + "; exec cr_restart ctx 16<&- ); s=$?\n" +
				"read -t 1 word <&16; echo $word $s")
			j.ends(again, 0, "in pipe 7\n", "")
			if got := j.read(filepath.Base(p.stdout)); got != "1\n2\n3\n0\n4\n5\n6\ndone\n" {
				t.Errorf("stdout: %q", got)
			}
			j.nothing()
		})
	}
}

// TestSelfCopies: copies of a script that has saved itself, with pids of their own.
func TestSelfCopies(t *testing.T) {
	j := newCaller(t)
	j.write("inner", "echo $$ >pid\n"+counting(save+"; echo $?; until [ -e go ]; do sleep 0.02; done"))
	j.ends(j.around("bash inner | cat; echo ${PIPESTATUS[0]}"), 0, "1\n2\n3\n143\n", "")
	j.root()
	j.saved("ctx")
	var copies []*process
	for _, args := range [][]string{{"--no-restore-pid"}, {"--no-restore-pid"}, nil} {
		copies = append(copies, j.again(append(args, "ctx")...))
	}
	for _, p := range copies {
		j.has(p.stdout, "0\n")
	}
	p := j.again("ctx") // the pid is in use
	j.wait(p)
	j.ends(p, 16, "", j.read(filepath.Base(p.stderr)))
	j.write("go", "")
	for _, p := range copies {
		j.ends(p, 7, "0\n4\n5\n6\ndone\n", "")
	}
	j.nothing()
}

// TestSelfCopySaves: a copy with a pid of its own saves itself again.
func TestSelfCopySaves(t *testing.T) {
	j := newCaller(t)
	p := j.script("bash", counting(save+"; echo $?; "+save+"; echo $?"))
	j.ends(p, 143, "1\n2\n3\n", "")
	j.saved("ctx")
	for _, want := range []int{143, 7} {
		j.ends(j.again("--no-restore-pid", "ctx"), want, "", "")
		j.saved("ctx")
	}
	j.ends(p, 143, "1\n2\n3\n0\n0\n4\n5\n6\ndone\n", "")
}
