//go:build real

package real

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// What these tests have in common: the commands are called as batch systems,
// launchers and scripts of users call them. See also ends_test.go.

// jobScript counts until there is a file go, to a number, and into the file out.
const jobScript = `n=0
while [ ! -e go ]; do n=$((n+1)); echo $n; sleep 0.01; done >>out
exit 9
`

// inScripts are functions of the scripts of these tests.
const inScripts = `lines() { wc -l <${1:-out}; }
# The job goes on.
more() { local l=$(lines $1); until [ $(lines $1) -gt $((l+2)) ]; do sleep 0.01; done; }
`

// counted checks that the job has counted without gap, and everything once.
func (j *job) counted(name string) {
	j.t.Helper()
	n := 0
	for line := range strings.Lines(j.read(name)) {
		if n++; line != fmt.Sprintln(n) {
			j.t.Errorf("line %d of %s is %q", n, name, line)
			return
		}
	}
	if n < 6 {
		j.t.Errorf("%s has %d lines only", name, n)
	}
}

// TestCycles saves a job again and again by the number that its shell knows,
// which is cr_restart's, under the file names that are made of that.
func TestCycles(t *testing.T) {
	for _, c := range []struct{ name, start, restart string }{
		{"pid", "bash job", "cr_restart context.$p"},
		{"dash", "sh job", "cr_restart context.$p"},
		{"launched", "sh -c 'exec bash job'", "sh -c 'exec cr_restart '$PWD/context.$p"},
		{"scope", "bash job", "cr_restart -f context.$p"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			j := newCaller(t)
			j.write("job", jobScript)
			scope := ""
			if c.name == "scope" {
				// Which the job has to be cr_restart's for: it has children.
				scope = "$([ $n = 1 ] || echo -p)"
			}
			p := j.script("bash", inScripts+`: >out
`+c.start+` & p=$!; more
for n in 1 2 3 4 5; do
	cr_checkpoint --term `+scope+` $p; s=$?; echo $s; [ $s = 0 ] || exit
	wait $p; echo $?
	`+c.restart+` & p=$!; more
done 2>/dev/null
: >go
wait $p; echo $?; exit 7`)
			j.ends(p, 7, strings.Repeat("0\n143\n", 5)+"9\n", "")
			j.nothing()
			j.counted("out")
			if names, _ := filepath.Glob(j.dir + "/context.*"); len(names) != 5 {
				t.Errorf("files: %v", names)
			}
			j.hidden()
		})
	}
}

// TestCyclesSelf: a script that saves itself again after each restart, into files
// of its own or always the same.
func TestCyclesSelf(t *testing.T) {
	for _, file := range []string{"-f ctx.$i", "", "-f ctx --backup"} {
		j := newCaller(t)
		p := j.script("bash", `for i in 1 2 3 4 5 6 7; do
echo $i; case $i in 2|4|6) cr_checkpoint --term -T $$ `+file+` || echo no; esac
done; exit 7`)
		root, want := p, "1\n2\n"
		for _, next := range []int{2, 4, 6} {
			if end := j.wait(root); status(end) != 143 {
				t.Fatalf("it ends so: %s", describe(end))
			}
			j.has(p.stdout, want)
			ctx := "ctx"
			switch file {
			case "":
				ctx = fmt.Sprintf("context.%d", j.pid)
			case "-f ctx.$i":
				ctx = fmt.Sprintf("ctx.%d", next)
			}
			j.saved(ctx)
			root = j.again(ctx)
			want += fmt.Sprintf("%d\n", next+1)
			if next < 6 {
				want += fmt.Sprintf("%d\n", next+2)
			}
		}
		j.ends(root, 7, "", "")
		j.has(p.stdout, want)
		j.nothing()
	}
}

// TestNested: a job is saved and restarted by its shell, more than once, and then
// the shell with its cr_restart and the job, from inside and from outside.
func TestNested(t *testing.T) {
	for _, inside := range []bool{true, false} {
		t.Run(fmt.Sprintf("inside=%v", inside), func(t *testing.T) {
			t.Parallel()
			j := newCaller(t)
			j.write("job", jobScript)
			last := "cr_checkpoint --term -T $$ -f c3; echo $?"
			if !inside {
				last = ": >ready; until [ -e restarted ]; do sleep 0.02; done"
			}
			p := j.script("bash", inScripts+`: >out
bash job & p=$!; more
cr_checkpoint --term $p -f c1 2>&1; wait $p 2>/dev/null; echo $?
cr_restart c1 & p=$!; more
cr_checkpoint --term $p -f c2 2>&1; wait $p 2>/dev/null; echo $?
cr_restart c2 & p=$!; more
`+last+`
more
: >go
wait $p; echo $?
exit 7`)
			want, after := "143\n143\n", "9\n"
			if inside {
				after = "0\n9\n"
			} else {
				j.until("the script to be ready", func() bool { return j.exists("ready") })
				q := j.start("cr_checkpoint", j.withPath([]string{"cr_checkpoint", "--term", fmt.Sprint(j.pid), "-f", "c3"}), nil)
				j.ends(q, 0, "", "")
				j.write("restarted", "")
			}
			end := j.wait(p)
			if got := j.read(filepath.Base(p.stdout)); status(end) != 143 || got != want {
				t.Errorf("it ends so: %s, and has written %q", describe(end), got)
			}
			j.saved("c3")
			j.ends(j.again("c3"), 7, "", "")
			j.has(p.stdout, want+after)
			j.nothing()
			j.counted("out")
		})
	}

	// And on from there: the inner cr_restart is named, and everything is saved
	// once more.
	t.Run("deeper", func(t *testing.T) {
		t.Parallel()
		j := newCaller(t)
		j.write("job", jobScript)
		p := j.script("bash", inScripts+`: >out
bash job & p=$!; more
for n in 1 2 3; do
	cr_checkpoint --term $p 2>&1; wait $p 2>/dev/null; echo $?
	cr_restart context.$p & p=$!; more
	cr_checkpoint --term -T $$ -f outer; echo $?
	more
done
: >go
wait $p; echo $?
exit 7`)
		root := p
		for range 3 {
			end := j.wait(root)
			if status(end) != 143 {
				t.Fatalf("it ends so: %s", describe(end))
			}
			j.saved("outer")
			root = j.again("outer")
		}
		j.ends(root, 7, "", "")
		j.has(p.stdout, "143\n0\n143\n0\n143\n0\n9\n")
		j.nothing()
		j.counted("out")
	})
}

// TestCallers: everything else that callers rely on, as they write it. Each script
// has a job of jobScript, saved as the file ctx, of the former pid $pid.
func TestCallers(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"ends", `cr_restart ctx & p=$!; more; kill $p; wait $p; echo $?
cr_restart ctx & p=$!; more; kill -9 $pid; wait $p; echo $?
cr_restart ctx & p=$!; more; kill -HUP $p; wait $p; echo $?
cr_restart ctx & p=$!; more; : >go; wait $p; echo $?`, "143\n137\n129\n9\n"},
		{"processes", `cr_restart ctx & p=$!; more
until [ "$(ps -o pid= --ppid $p | wc -l)" = 1 ]; do sleep 0.01; done
[ $(ps -o pid= --ppid $p) = $pid ] || ps -f --ppid $p
ps -o comm= -p $p; ps -o comm= -p $pid; ps -o args= -p $pid
pidof cr_restart | grep -qw $p || echo pidof
kill $p; wait $p; echo $?`, "cr_restart\nbash\nbash job\n143\n"},
		{"stop", `state() { sed 's/.*) \(.\).*/\1/' /proc/$1/stat; }
cr_restart ctx & p=$!; more
for s in TSTP TTIN TTOU; do
	kill -$s $p
	until [ $(state $p)$(state $pid) = TT ]; do sleep 0.01; done
	l=$(lines); sleep 0.1; [ $l = $(lines) ] || echo goes on
	kill -CONT $p; more; echo $s
done
: >go; wait $p; echo $?`, "TSTP\nTTIN\nTTOU\n9\n"},
		{"hook", `: >lock
cr_restart --run-on-success='rm lock; echo hook' ctx & p=$!
while [ -e lock ]; do sleep 0.01; done
kill -0 $pid && more; : >go; wait $p; echo $?
rm go; : >lock
cr_restart --run-on-success='rm lock; exit 3' ctx; echo $?; [ -e lock ] || kill $pid`, "hook\n9\n3\n"},
		{"failed-hook", `echo junk >bad
cr_restart --run-on-fail-args='echo args; exit 5' --run-on-fail-perm='echo perm; exit 6' bad; echo $?
cr_restart ctx & p=$!; more
cr_restart --run-on-fail-temp='echo temp; exit 4' ctx; echo $?
: >go; wait $p; echo $?`, "perm\n6\ntemp\n4\n9\n"},
		{"launcher", `python3 launcher & p=$!; more
[ $(ps -o ppid= -p $pid) = $(cat child) ] && [ $(ps -o ppid= -p $(cat child)) = $p ] || echo others
: >go; wait $p; echo $?`, "9\n"},
		{"substitution", `{ more; : >go; } & x=$(cr_restart ctx 2>&1); echo "[$x] $?"`, "[] 9\n"},
		{"fd-offset", `cr_restart ctx & p=$!; more
exec 5>file; echo header >&5; cr_checkpoint --term -F 5 $p; echo $?; exec 5>&-
wait $p; echo $?
exec 5<file; read word <&5; echo $word; cr_restart -F 5 & p=$!; more
: >go; wait $p; echo $?`, "0\n143\nheader\n9\n"},
		{"fd-pipe", `cr_restart ctx & p=$!; more
cr_checkpoint --term -F 1 $p | gzip -1 >ctx.gz; echo ${PIPESTATUS[0]}
wait $p; echo $?
{ more; : >go; } & gunzip <ctx.gz | cr_restart -F 0; echo $?`, "0\n143\n9\n"},
		{"fd-others", `cr_restart ctx & p=$!; more
fds() { ls -l /proc/$pid/fd | sed 's/.* \([0-9]* ->\)/\1/'; }
mkfifo pipe
fds >before; cr_checkpoint --term -F 9 3<>pipe 4>four 7<job 9>file $p; echo $?
wait $p; echo $?; wc -c <four
cr_restart -F 9 3<>pipe 4>four 5>five 6<>pipe 7<job 8<&7 9<file & p=$!; more
fds | diff before -; : >go; wait $p; echo $?`, "0\n143\n0\n9\n"},
		{"orders", `cr_restart ctx & p=$!; more
try() { rm -f F; cr_checkpoint "$@" && [ -s F ] || echo "$@"; }
try -T $p -f F; try -p $p -f F --run; try $p --file F; try --file=F $p; try -fF $p; try -Tf F $p; try -f F -- $p
try -T -f F $p --nosync; try $p -S 18 -f F; try --atomic $p --cont -T -f F --kmsg-none; try --run --fil F $p
cr_checkpoint $p -f F --term; wait $p; echo $?
cr_restart -fF & p=$!; more; kill $p; wait $p
cr_restart --file F --kmsg-none & p=$!; more; kill $p; wait $p
cr_restart F --no-restore-pgid & p=$!; more; : >go; wait $p; echo $?`, "143\n9\n"},
		{"file", `cr_restart ctx & p=$!; more
touch -d '1 hour ago' ctx; : >old; touch -d '1 minute ago' old
: >.ctx.tmp; chmod 0 .ctx.tmp
cr_checkpoint -f ctx --term $p; wait $p; echo $?
[ ctx -nt old ] || echo older; ls -A .ctx* 2>/dev/null; stat -c %a ctx
chmod 644 ctx; mkdir archive; mv ctx archive/1
cr_restart archive/1 & p=$!; more; : >go; wait $p; echo $?`, "143\n400\n9\n"},
		{"kept", `cr_restart ctx & p=$!; more; cp ctx copy
cr_checkpoint --term -f ctx $p --time 1 -S 99 2>/dev/null; echo $?
cr_checkpoint --term -f ctx 2>/dev/null; echo $?
( ulimit -f 1; cr_checkpoint --term -f ctx $p 2>/dev/null; echo $? )
cmp ctx copy; ls -A | grep ^.ctx; more; : >go; wait $p; echo $?`, "22\n255\n27\n9\n"},
		{"session", `cr_restart ctx & p=$!; more
cr_checkpoint --term -f F $p; wait $p; echo $?
setsid -w cr_restart F & p=$!; more
[ $(ps -o comm= -p $(ps -o sid= -p $pid)) = cr_restart ] || ps -ej
cr_checkpoint --term $(ps -o ppid= -p $pid); wait $p; echo $?; ls context.* | wc -l
{ more; : >go; } & cr_restart context.*; echo $?`, "143\n143\n1\n9\n"},
		{"nohup", `nohup cr_restart ctx & p=$!; more
kill -HUP $p; wait $p; echo $?`, "129\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			j := newCaller(t)
			j.write("job", jobScript)
			j.write("launcher", `import os, sys
pid = os.fork()
if pid == 0:
    os.execlp("cr_restart", "cr_restart", "-f", "ctx")
print(pid, file=open("child", "w"))
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
`)
			q := j.run("bash", "job")
			j.until("the job to count", func() bool { return strings.Count(j.read("out"), "\n") > 2 })
			j.ends(j.start("cr_checkpoint", j.withPath([]string{"cr_checkpoint", "--term", "-f", "ctx", fmt.Sprint(j.pid)}), nil), 0, "", "")
			j.ends(q, 143, "", "")
			j.nothing()
			p := j.around(fmt.Sprintf("%spid=%d\n", inScripts, j.pid) + c.text)
			end := j.wait(p)
			// The shell tells of signals that end somebody.
			stderr := slices.DeleteFunc(strings.SplitAfter(j.read(filepath.Base(p.stderr)), "\n"), func(s string) bool {
				return s == "" || strings.Contains(s, ": line ") && strings.Contains(s, "cr_restart ")
			})
			if got := j.read(filepath.Base(p.stdout)); end != 0 || got != c.want || len(stderr) > 0 {
				t.Errorf("%s; stdout %q, want %q; stderr %q", describe(end), got, c.want, stderr)
			}
			j.nothing()
			j.hidden()
		})
	}
}

// TestSiblings: children of one process are saved at the same time, and restarted
// at the same time, more than once.
func TestSiblings(t *testing.T) {
	j := newCaller(t)
	j.write("job", strings.Replace(jobScript, ">out", ">out.$1", 1))
	p := j.around(inScripts + `
for n in 1 2 3 4; do : >out.$n; bash job $n & p[$n]=$!; done
for round in 1 2; do
	for n in 1 2 3 4; do more out.$n; done
	for n in 1 2 3 4; do { cr_checkpoint -T ${p[$n]} -f ctx.$n --term || echo $?; } & c[$n]=$!; done
	for n in 1 2 3 4; do wait ${c[$n]}; done
	for n in 1 2 3 4; do wait ${p[$n]}; [ $? = 143 ] || echo $?; done 2>/dev/null
	for n in 1 2 3 4; do cr_restart ctx.$n & p[$n]=$!; done
done
for n in 1 2 3 4; do more out.$n; done
: >go
for n in 1 2 3 4; do wait ${p[$n]}; echo $?; done`)
	j.ends(p, 0, "9\n9\n9\n9\n", "")
	for n := range 4 {
		j.counted(fmt.Sprintf("out.%d", n+1))
	}
	if left, _ := os.ReadDir(j.tmp); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	j.hidden()
}
