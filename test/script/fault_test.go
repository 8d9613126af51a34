package script_test

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt"
	"blcr-cli/test/ctrlsim"
	"blcr-cli/test/harness"
)

// This file makes every system call of the commands fail once, stops them right
// before each, and ends them by a signal at any time. What must hold then:
//
//   - the command ends, with a message of BLCR's and a status that goes with it,
//     or it has done what it was to do;
//   - the old context is there, or the new one is, and nothing else;
//   - whatever a killed run left behind does not keep the next from working;
//   - no process is left that is neither the job nor anything else.
//
// A call whose failure does not make the command fail is listed with the reason
// why it need not, so that a new one is noticed.
//
// BLCR_FAULTS=all tries many more error numbers.

// counted are the calls that fail: those that ctrlsim counts by default, and
// some more.
var counted = append([]string{"close", "execve", "pipe"}, ctrlsim.DefaultCount...)

// everyErrno is for BLCR_FAULTS=all.
var everyErrno = []syscall.Errno{
	unix.EPERM, unix.EINTR, unix.EIO, unix.ENXIO, unix.EBADF, unix.EAGAIN, unix.ENOMEM, unix.EACCES, unix.EBUSY,
	unix.EINVAL, unix.ENFILE, unix.EMFILE, unix.EFBIG, unix.ENOSPC, unix.EROFS, unix.EMLINK, unix.ENOLCK,
	unix.ENOSYS, unix.EOPNOTSUPP, unix.ESTALE, unix.EDQUOT,
}

// likelyErrnos are those that a call is most likely to fail with. The first is
// tried everywhere, the others with the variants that ask for more.
func likelyErrnos(call string) []syscall.Errno {
	errnos := []syscall.Errno{unix.EIO, unix.EINTR}
	switch call {
	case "openat":
		errnos = append(errnos, unix.EMFILE, unix.ENOSPC, unix.EACCES)
	case "fsync":
		errnos = append(errnos, unix.ENOSPC, unix.EINVAL, unix.EROFS)
	case "flock":
		errnos = append(errnos, unix.ENOLCK, unix.EWOULDBLOCK)
	case "linkat":
		errnos = append(errnos, unix.EPERM, unix.ENOSPC)
	case "renameat", "ftruncate":
		errnos = append(errnos, unix.ENOSPC)
	case "unlinkat":
		errnos = append(errnos, unix.EACCES)
	case "faccessat", "faccessat2", "newfstatat":
		errnos = append(errnos, unix.EACCES)
	case "ioctl":
		errnos = append(errnos, unix.ENOMEM, unix.EBUSY)
	case "fcntl", "pipe2":
		errnos = append(errnos, unix.EMFILE)
	case "clone", "ppoll":
		errnos = append(errnos, unix.EAGAIN, unix.ENOMEM)
	}
	return errnos
}

// everything says whether time is no object.
func everything() bool { return os.Getenv("BLCR_FAULTS") == "all" }

// spared says that the ith case of a variant is left out, except where everything
// is to be tested: "make test" takes every case of the default way of working, and
// a third of the others.
func spared(variant string, i int) bool {
	return !harness.All() && variant != "atomic/sync" && i%3 != len(variant)%3
}

// signalRounds is how many signals come at random times.
func signalRounds() int {
	switch {
	case everything():
		return 1000
	case harness.All():
		return 40
	}
	return 8
}

func errnosFor(call string, more bool) []syscall.Errno {
	switch errnos := likelyErrnos(call); {
	case everything():
		return everyErrno
	case more:
		return errnos
	default:
		return errnos[:1]
	}
}

// tolerated is a call that may fail without failing the command.
type tolerated struct {
	variant string          // regular expression; "" is any
	call    string          // regular expression, on "NAME DETAIL"
	errnos  []syscall.Errno // none is any
	except  []syscall.Errno // but these
	until   string          // regular expression on a call; not after that one
	from    string          // the same; only after that one
	seldom  bool            // does not happen in every test
	reason  string

	used atomic.Int32
}

func (x *tolerated) String() string {
	s := x.call
	if x.variant != "" {
		s += " (" + x.variant + ")"
	}
	for _, e := range x.except {
		s += " !" + ctrlsim.ErrnoName(int(e))
	}
	for _, e := range x.errnos {
		s += " " + ctrlsim.ErrnoName(int(e))
	}
	return s
}

// find returns the entry of a list that says that the outcome's call may fail.
func (o *outcome) find(list []*tolerated, variant string) *tolerated {
	for _, x := range list {
		switch {
		case len(x.errnos) > 0 && !slices.Contains(x.errnos, o.errno), slices.Contains(x.except, o.errno), x.until != "" && o.after(x.until), x.from != "" && !o.behind(x.from):
		case matches(x.variant, variant) && matches(x.call, o.g.callName(o.call)):
			return x
		}
	}
	return nil
}

// allUsed makes sure that a list is no longer than it must be.
func allUsed(t *testing.T, list []*tolerated) {
	t.Cleanup(func() {
		for _, x := range list {
			if n := x.used.Load(); n > 0 {
				t.Logf("tolerated %d times: %s: %s", n, x, x.reason)
			} else if !x.seldom && !t.Failed() && !narrowed() && harness.All() {
				t.Errorf("listed as tolerated, but never happens: %s: %s", x, x.reason)
			}
		}
	})
}

// narrowed says whether only a part of the tests runs.
func narrowed() bool {
	for _, arg := range os.Args {
		if name, value, _ := strings.Cut(arg, "="); strings.HasSuffix(name, "-test.run") && strings.Contains(value, "/") {
			return true
		}
	}
	return false
}

// matches says whether a regular expression matches all of s.
func matches(expr, s string) bool {
	if expr == "" {
		return true
	}
	re, ok := compiled.Load(expr)
	if !ok {
		re, _ = compiled.LoadOrStore(expr, regexp.MustCompile(`^(?:`+expr+`)$`))
	}
	return re.(*regexp.Regexp).MatchString(s)
}

var compiled sync.Map // from expressions to *regexp.Regexp

// ground is a directory that a command is run in, again and again.
type ground struct {
	t   *testing.T
	dir string
}

func newGround(t *testing.T) *ground {
	t.Helper()
	if err := ctrlsim.Supported(); err != nil {
		t.Skip(err)
	}
	// In memory if possible: there is no waiting for fsync.
	dir, err := os.MkdirTemp("/dev/shm", "blcr-cli-test")
	if err != nil {
		dir, err = os.MkdirTemp(bin, "ground")
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return &ground{t, dir}
}

func (g *ground) clear() {
	g.t.Helper()
	entries, err := os.ReadDir(g.dir)
	if err != nil {
		g.t.Fatal(err)
	}
	for _, e := range entries {
		if err := os.Remove(filepath.Join(g.dir, e.Name())); err != nil {
			g.t.Fatal(err)
		}
	}
}

func (g *ground) write(name, content string, mode os.FileMode) {
	g.t.Helper()
	if err := os.WriteFile(filepath.Join(g.dir, name), []byte(content), mode); err != nil {
		g.t.Fatal(err)
	}
}

// read returns a file's content, "" if there is none.
func (g *ground) read(name string) string {
	b, _ := os.ReadFile(filepath.Join(g.dir, name))
	return string(b)
}

// listing is what there is, by name, each with what is in it.
func (g *ground) listing() string {
	g.t.Helper()
	entries, err := os.ReadDir(g.dir)
	if err != nil {
		g.t.Fatal(err)
	}
	var list []string
	for _, e := range entries {
		list = append(list, e.Name()+"="+label(g.read(e.Name())))
	}
	return strings.Join(list, " ")
}

const (
	oldContext   = "the old context\n"
	olderContext = "one that is even older\n"

	// payloadMark is what a context of ctrlsim has after the header.
	payloadMark = "ctrlsim\n"
)

// label says what a file is: old, older, new (a complete context of the
// simulator), part (an incomplete one), empty, or old+ and one of these.
func label(content string) string {
	const header = 5*4 + len(payloadMark) + 8
	switch {
	case content == "":
		return "empty"
	case content == oldContext:
		return "old"
	case content == olderContext:
		return "older"
	case strings.HasPrefix(content, oldContext):
		return "old+" + label(content[len(oldContext):])
	case strings.Contains(content, payloadMark) && len(content) >= header:
		if n := binary.NativeEndian.Uint64([]byte(content[header-8:])); n == uint64(len(content)-header) {
			return "new"
		}
	}
	return "part"
}

// newContext is a complete context.
func newContext() string {
	var b []byte
	for _, v := range []uint32{'C', 'R', 9, 3, 5} {
		b = binary.NativeEndian.AppendUint32(b, v)
	}
	b = append(b, payloadMark...)
	b = binary.NativeEndian.AppendUint64(b, 5)
	return string(b) + "sleep"
}

// outcome is what came of one run.
type outcome struct {
	g              *ground
	args           []string
	res            *ctrlsim.Result
	err            error
	stdout, stderr string
	listing        string
	ran            string        // content of the files "ran" and "hooked"
	call           *ctrlsim.Call // the one that failed, nil if it was not reached
	errno          syscall.Errno // what it failed with, 0: the process was killed
	note           string        // what else was done to it
	orphans        int           // how many processes may be left behind
}

// hang is the deadline of a run, which takes some 20 ms on an idle machine, and
// linger that of processes that go on without the one that was started.
const hang, linger = harness.Patience, harness.Patience

// run runs a command in the directory, and meanwhile those functions.
func (g *ground) run(c *ctrlsim.Command, meanwhile ...func()) *outcome {
	g.t.Helper()
	var stdout, stderr bytes.Buffer
	c.Dir = g.dir
	// Not what this machine may have besides.
	c.Env = []string{"PATH=/usr/bin:/bin", "CR_ENGINE=kernel", "CR_FTB=off"}
	c.Stdout, c.Stderr = &stdout, &stderr
	c.Timeout, c.Linger = hang, cmp.Or(c.Linger, linger)
	o := &outcome{g: g, args: append([]string{filepath.Base(c.Path)}, c.Args...)}
	if o.err = c.Start(); o.err == nil {
		var wg sync.WaitGroup
		for _, f := range meanwhile {
			wg.Go(f)
		}
		o.res, o.err = c.Wait()
		wg.Wait()
	}
	if o.res == nil {
		g.t.Fatalf("%q: %v\n%s", o.args, o.err, &stderr)
	}
	o.stdout, o.stderr, o.listing, o.ran = stdout.String(), stderr.String(), g.listing(), g.read("ran")+g.read("hooked")
	for i := range o.res.Calls {
		if o.res.Calls[i].Fault {
			o.call = &o.res.Calls[i]
			o.errno = c.Faults.Errno
		}
	}
	return o
}

// callName is a call without the names of this test's directories.
func (g *ground) callName(c *ctrlsim.Call) string {
	return strings.NewReplacer(g.dir, "DIR", bin, "BIN").Replace(strings.TrimSpace(c.Name + " " + c.Detail))
}

func (o *outcome) what() string {
	switch {
	case o.note != "":
		return o.note
	case o.call == nil:
		return "no fault"
	case o.errno == 0:
		return fmt.Sprintf("killed before call %d (%d.%d), %s", o.call.N, o.call.Proc, o.call.Index, o.g.callName(o.call))
	}
	return fmt.Sprintf("call %d (%d.%d), %s, fails with %s", o.call.N, o.call.Proc, o.call.Index, o.g.callName(o.call),
		ctrlsim.ErrnoName(int(o.errno)))
}

func (o *outcome) status() string { return statusName(o.res.Status) }

// report is an error of the test.
func (o *outcome) report(format string, args ...any) {
	o.g.t.Helper()
	o.g.t.Errorf("%s: %s\n  command: %q\n  status: %s\n  stdout: %q\n  stderr: %q\n  files: %s\n  ran: %q\n  problems: %q, left behind: %d\n  operations: %s",
		o.what(), fmt.Sprintf(format, args...), o.args, o.status(), o.stdout, o.stderr, o.listing, o.ran,
		o.res.Problems, len(o.res.Leftover), strings.Join(o.res.Transcript, "; "))
}

// sane checks what must hold of every run. False: there is no point in looking
// further. After a hang there is no time for more of them.
func (o *outcome) sane() bool {
	o.g.t.Helper()
	switch {
	case errors.Is(o.err, ctrlsim.ErrTimeout):
		o.report("it hangs")
		o.g.t.FailNow()
	case o.err != nil:
		o.report("%v", o.err)
	case strings.Contains(o.stderr, "goroutine ") || strings.Contains(o.stderr, "panic:") || strings.Contains(o.stderr, "fatal error:"):
		o.report("the Go runtime speaks")
	case len(o.res.Leftover) > o.orphans:
		o.report("it leaves processes behind")
	case slices.ContainsFunc(o.res.Problems, o.isProblem):
		o.report("it does what no program should")
	default:
		return true
	}
	return false
}

// isProblem says whether what the simulator has found is wrong with the command,
// and not only a restarted process that has died under its hands.
func (o *outcome) isProblem(p string) bool {
	if o.call == nil && !o.res.Status.Signaled() {
		return true
	}
	return !strings.Contains(p, "no such process") && !strings.Contains(p, "restarted process") &&
		!strings.Contains(p, "RSTRT_CHILD of a process or thread")
}

// after says whether the fault was at a certain call, a regular expression, or
// came after it.
func (o *outcome) after(call string) bool { return o.seen(call, o.call.N) }

// behind says whether the fault came after a certain call.
func (o *outcome) behind(call string) bool { return o.seen(call, o.call.N-1) }

// seen says whether a certain call is among the first n.
func (o *outcome) seen(call string, n int) bool {
	return slices.ContainsFunc(o.res.Calls[:n], func(c ctrlsim.Call) bool { return matches(call, o.g.callName(&c)) })
}

// message is one of the messages that a command may end with, and its status;
// -1 is the error number's. In text, TEXT stands for what the error number
// means.
type message struct {
	text   string
	status int
}

// explained says whether stderr is one of the messages, about the errno, with
// that status. Lines of details may come before and after it.
func (o *outcome) explained(messages []message) bool {
	lines := strings.SplitAfter(o.stderr, "\n")
	if lines[len(lines)-1] != "" {
		return false // the last line has no end
	}
	lines = slices.DeleteFunc(lines[:len(lines)-1], func(l string) bool { return strings.HasPrefix(l, "- ") })
	said := strings.Join(lines, "")
	for _, m := range messages {
		status := m.status
		if status < 0 {
			status = ckpt.ExitStatus(o.errno)
		}
		text := strings.ReplaceAll(m.text, "TEXT", regexp.QuoteMeta(ckpt.Strerror(o.errno)))
		if o.res.ExitCode == status && matches(text+`\n`, said) {
			return true
		}
	}
	return false
}

// The messages of cr_checkpoint, reference/cli.md.
var checkpointMessages = []message{
	{`Checkpoint failed: support missing from kernel`, 38},
	{`Failed cr_init\(\): TEXT`, -1},
	{`cr_request_checkpoint: TEXT`, -1},
	{`cr_wait_checkpoint failed: TEXT`, -1},
	{`Checkpoint failed: TEXT`, -1},
	{`Unable to open file '(\./\.ctx\.tmp|ctx)': TEXT\nFailed to open checkpoint file 'ctx'`, -1},
	{`Unable to fstat opened file: TEXT\nFailed to open checkpoint file 'ctx'`, -1},
	{`Unable to remove existing 'ctx': TEXT`, -1},
	{`Unable to rename '\./\.ctx\.tmp' to 'ctx': TEXT`, -1},
	{`Unable to rename 'ctx' to '(ctx\.~\d~|bak)': TEXT`, -1},
	{`Error syncing checkpoint to disk: TEXT`, -1},
	{`unable to opendir\(\.\): TEXT`, -1},
	{`Unable to sync directory '\.': TEXT`, -1},
	{`Error writing checkpoint to disk: TEXT`, -1},
	{`fork\(\) failed: TEXT`, 1},
	{`wait\(\) failed: TEXT`, 1},
}

// checkpointVariant is a way of running cr_checkpoint. The states of the
// directory are regular expressions on a listing; "-" is an empty one.
type checkpointVariant struct {
	name     string
	argv0    string // "" is cr_checkpoint; by another name it makes its worker by exec
	args     []string
	scenario string
	old      os.FileMode // of the old context; 0: there is none
	older    string      // an older backup, if there is one
	fd       bool        // the old context is open as descriptor 3, at its end
	user     bool        // as one who is not root
	stderr   string      // of a success
	more     string      // calls that fail with more error numbers, a regular expression
	once     bool        // the same again cannot succeed while there is a file

	done   string // after success
	failed string // after failure
	gone   string // after failure, once the request has been issued; "": as failed
	moved  string // after failure, once the new context had its name; "": as failed
	killed string // after SIGKILL
	lost   string // after SIGKILL, once the request has been issued; "": as killed
	again  string // after SIGKILL and one more run
}

// checkpointVariants are those of the tests, each with --sync and --nosync.
func checkpointVariants() []checkpointVariant {
	const temp = `(\.ctx\.tmp=\S+ ?)?` // whatever is in it
	kinds := []checkpointVariant{
		{
			name: "atomic", old: 0o400, more: `.+`,
			done: `ctx=new`, failed: `ctx=old`,
			killed: `(\.ctx\.old=old )?` + temp + `ctx=(old|new)`, again: `ctx=new`,
		}, {
			name: "atomic-first",
			done: `ctx=new`, failed: `-`,
			killed: temp + `(ctx=new)?|-`, again: `ctx=new`,
		}, {
			name: "backup", args: []string{"--backup"}, old: 0o400, older: "ctx.~1~", more: `linkat|renameat`,
			done: `ctx=new ctx\.~1~=older ctx\.~2~=old`, failed: `ctx=old ctx\.~1~=older`,
			// One killed between its two steps has made the backup already.
			killed: temp + `ctx=old ctx\.~1~=older( ctx\.~2~=old)?|ctx=new ctx\.~1~=older ctx\.~2~=old`,
			again:  `ctx=new ctx\.~1~=older ctx\.~2~=old( ctx\.~3~=(old|new))?`,
		}, {
			name: "backup-named", args: []string{"--backup=bak"}, old: 0o400, older: "bak",
			// The backup that was replaced does not come back. The old
			// context is never without its name.
			done: `bak=old ctx=new`, failed: `bak=(old|older) ctx=old`,
			killed: `(\.bak\.bak=old )?` + temp + `bak=(old|older) ctx=old|bak=old ctx=new`,
			again:  `bak=(old|new) ctx=new`,
			// A backup that was made is the old context again, but not for
			// the one that it replaced.
			moved: `ctx=old`,
		}, {
			name: "clobber", args: []string{"--clobber"}, old: 0o600,
			done: `ctx=new`, failed: `ctx=old`, gone: `-`,
			killed: `ctx=(old|empty)`, lost: `ctx=\S+`, again: `ctx=new`,
		}, {
			name: "clobber-first", args: []string{"--clobber"},
			done: `ctx=new`, failed: `-`,
			killed: `ctx=empty|-`, lost: `ctx=\S+`, again: `ctx=new`,
		}, {
			name: "clobber-unwritable", args: []string{"--clobber"}, old: 0o400, user: true,
			done: `ctx=new`, failed: `ctx=old`, gone: `-`,
			killed: temp + `ctx=(old|empty)`, lost: `ctx=\S+`, again: `ctx=new`,
		}, {
			name: "noclobber", args: []string{"--noclobber"}, once: true,
			done: `ctx=new`, failed: `-`,
			killed: `ctx=empty|-`, lost: `ctx=\S+`, again: `ctx=new`,
		}, {
			name: "fd", args: []string{"-F3"}, old: 0o600, fd: true,
			done: `ctx=old\+new`, failed: `ctx=old`, gone: `ctx=old(\+\S+)?`,
			killed: `ctx=old`, lost: `ctx=old(\+\S+)?`, again: `ctx=old\+new`,
		},
	}
	var all []checkpointVariant
	for _, v := range kinds {
		if !v.fd {
			v.args = append([]string{"-fctx"}, v.args...)
		}
		for _, sync := range []string{"sync", "nosync"} {
			w := v
			w.name += "/" + sync
			w.args = append(slices.Clone(v.args), "--"+sync)
			if sync != "sync" {
				w.more = ""
			}
			all = append(all, w)
		}
	}
	// What is shown in the end must not depend on what is done with the file.
	logged := all[0]
	logged.name, logged.more = "atomic-logged/sync", ""
	logged.args = append(slices.Clone(logged.args), "--kmsg-warning")
	logged.scenario = "chkpt-log one line\nchkpt-log another"
	logged.stderr = "- one line\n- another\n"
	renamed := all[0]
	renamed.name, renamed.argv0 = "renamed/sync", "checkpoint"
	return append(all, logged, renamed)
}

// prepare puts the files in place as they are before.
func (v *checkpointVariant) prepare(g *ground) {
	g.t.Helper()
	g.clear()
	if v.old != 0 {
		g.write("ctx", oldContext, v.old)
	}
	if v.older != "" {
		g.write(v.older, olderContext, 0o400)
	}
	if v.user && os.Getuid() == 0 {
		if err := os.Chown(filepath.Join(g.dir, "ctx"), nobody, nobody); err != nil {
			g.t.Fatal(err)
		}
	}
}

// nobody is a user without rights.
const nobody = 65534

// checkpoint runs the variant's command once.
func (v *checkpointVariant) checkpoint(g *ground, target int, faults *ctrlsim.Faults) *outcome {
	g.t.Helper()
	c := v.command(g, target)
	c.Faults = faults
	if v.fd {
		defer c.ExtraFiles[0].Close()
	}
	return g.run(c)
}

func (v *checkpointVariant) command(g *ground, target int) *ctrlsim.Command {
	g.t.Helper()
	c := &ctrlsim.Command{
		Path:     filepath.Join(bin, "cr_checkpoint"),
		Argv0:    cmp.Or(v.argv0, "cr_checkpoint"),
		Args:     append(slices.Clone(v.args), strconv.Itoa(target)),
		Scenario: ctrlsim.MustScenario(v.scenario),
	}
	if v.fd {
		f, err := os.OpenFile(filepath.Join(g.dir, "ctx"), os.O_RDWR, 0)
		if err != nil {
			g.t.Fatal(err)
		}
		if err := f.Truncate(int64(len(oldContext))); err != nil { // what a killed run has written
			g.t.Fatal(err)
		}
		if _, err := f.Seek(0, 2); err != nil {
			g.t.Fatal(err)
		}
		c.ExtraFiles = []*os.File{f}
	}
	if v.user && os.Getuid() == 0 {
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	}
	return c
}

// state checks the directory.
func (o *outcome) state(want string) bool {
	return regexp.MustCompile(`^(?:` + want + `)$`).MatchString(cmp.Or(strings.TrimSpace(o.listing), "-"))
}

// succeeded says whether the command has done all it was to do.
func (v *checkpointVariant) succeeded(o *outcome) bool {
	stderr := v.stderr
	if o.call != nil && matches(`ioctl CHKPT_LOG|write fd=2 pipe`, o.g.callName(o.call)) {
		stderr = o.stderr // there is less of it
	}
	return o.res.Status == 0 && o.stdout == "" && o.stderr == stderr && o.state(v.done)
}

// startTarget starts a process to be checkpointed.
func startTarget(t *testing.T) int {
	t.Helper()
	c := exec.Command("sleep", "1000")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Process.Kill()
		c.Wait()
	})
	return c.Process.Pid
}

// list runs the variant without a fault and returns the calls that are to fail.
// Those by which the command starts are the same everywhere, and left to one variant
// for each way of starting.
func (v *checkpointVariant) list(g *ground, target int) []ctrlsim.Call {
	g.t.Helper()
	v.prepare(g)
	o := v.checkpoint(g, target, &ctrlsim.Faults{Count: counted})
	if !o.sane() {
		g.t.FailNow()
	}
	if !v.succeeded(o) {
		o.report("it does not even succeed")
		g.t.FailNow()
	}
	return slices.DeleteFunc(slices.Clone(o.res.Calls), func(c ctrlsim.Call) bool {
		if v.argv0 != "" {
			return noPoint(c) || !starts(g, c)
		}
		return noPoint(c) || v.name != "atomic/sync" && !everything() && starts(g, c)
	})
}

// starts says whether a call belongs to the start of cr_checkpoint: a process
// that only waits starts the one that works.
func starts(g *ground, c ctrlsim.Call) bool {
	return c.Proc == 1 || matches(`execve .*|fcntl fd=[012] .*|newfstatat BIN/.*`, g.callName(&c))
}

// point is the place of a call within its process: what several do at the same
// time has no order.
func point(c ctrlsim.Call) ctrlsim.Point { return ctrlsim.Point{Proc: c.Proc, N: c.Index} }

// noPoint says whether there is no point in failing a call: the Go runtime makes
// it as it starts, or it closes a file of /proc that has been read, or the pipe by
// which package syscall learns of an exec. (The kernel closes a file whatever it says of that, the simulator does
// not.)
func noPoint(c ctrlsim.Call) bool {
	return c.Name == "close" && matches(`fd=\d+ (/sys/.*|/proc/\d+/(cgroup|mountinfo|stat|status|task)|/cgroup.*|pipe)`, c.Detail)
}

// sameAsBefore says whether to be killed before a call is the same as to be
// killed one call earlier.
func sameAsBefore(before []ctrlsim.Call, c ctrlsim.Call) bool {
	for _, b := range slices.Backward(before) {
		if b.Proc != c.Proc {
			continue
		}
		switch b.Name {
		case "newfstatat", "fstat", "faccessat", "faccessat2", "flock", "fsync", "fcntl", "close", "pipe2":
			return true
		}
		return false
	}
	return false
}

// checkpointTolerated are the calls that may fail without failing
// cr_checkpoint.
var checkpointTolerated = []*tolerated{
	{call: `openat control file|ioctl VERSION|ioctl HAND_PHASE1`, from: `ioctl VERSION`,
		reason: "without its guard it leaves itself out of every checkpoint"},
	{call: `clone`, variant: `atomic/.*`,
		reason: "a second attempt is made, by exec"},
	{call: `newfstatat BIN/cr_checkpoint`, variant: `renamed/.*`,
		reason: "the worker executes the link to the program in /proc instead"},
	{call: `pipe2|clone|fcntl fd=([012] .*|\d pipe)|execve BIN/cr_checkpoint`, variant: `renamed/.*`, except: []syscall.Errno{unix.EAGAIN, unix.ENOMEM},
		reason: "where it cannot start another process to work, it works itself, and is not saved along with its caller"},
	{call: `newfstatat ctx`, variant: `(atomic|backup).*`, until: `linkat ctx bak`,
		reason: "a look in advance at what the rename would refuse; where it shows nothing, the rename will"},
	{call: `statx (ctx|\./)`, variant: `(atomic|backup).*`,
		reason: "the same for attributes of the file and of its directory"},
	{call: `newfstatat \./\.ctx\.old`, variant: `atomic-first/.*`,
		reason: "a run that was killed may have left the old context there, which is seldom"},
	{call: `newfstatat ctx`, variant: `clobber-unwritable/.*`,
		reason: "the same for what is about to be replaced"},
	{call: `faccessat2? ctx`, variant: `clobber.*`,
		reason: "the file is taken for one that may not be written, and replaced"},
	{call: `flock fd=3 DIR/\.ctx\.tmp`, errnos: []syscall.Errno{unix.ENOLCK, unix.EOPNOTSUPP, unix.ENOSYS, unix.EINVAL},
		reason: "a file system without locks is as in BLCR, which had none"},
	{call: `flock fd=3 DIR/\.ctx\.tmp`, errnos: []syscall.Errno{unix.EWOULDBLOCK},
		reason: "somebody looks whether the new file is a stale one; it is given to him, and another one made"},
	{call: `fcntl fd=3 DIR/ctx`, variant: `fd/.*`, seldom: true,
		reason: "the module finds out by itself whether the descriptor is open"},
	{call: `ioctl CHKPT_LOG`,
		reason: "a log that cannot be had changes nothing about the checkpoint"},
	{call: `write fd=2 pipe`, variant: `atomic-logged/sync`,
		reason: "there is nobody to tell that nobody can be told anything"},
	{call: `fcntl fd=3 DIR/(\.ctx\.tmp|ctx)`, variant: `.*/nosync`,
		reason: "the duplicate is only for its close to say what a late write met"},
	{call: `close fd=3 DIR/ctx`,
		reason: "fsync, or the close of the duplicate, has said what there is to say"},
	{call: `close fd=[456] (DIR|control file)`,
		reason: "nothing was written to it"},
	{call: `fsync .*`, errnos: []syscall.Errno{unix.EINVAL},
		reason: "something that cannot be synced, as in BLCR"},
	{call: `fsync fd=[56] DIR`, errnos: []syscall.Errno{unix.EROFS},
		reason: "a directory that cannot be synced, as in BLCR"},
	{call: `unlinkat \./\.ctx\.old`,
		reason: "a second attempt is made; before the link, there is nothing to remove as a rule"},
	{call: `linkat ctx \./\.ctx\.old`,
		reason: "it takes one more failure to need the old context, and then the new one stays, complete"},
	{call: `linkat ctx (ctx\.~\d~|bak|\./\.bak\.bak)`, errnos: []syscall.Errno{unix.EPERM, unix.EOPNOTSUPP, unix.ENOSYS, unix.EMLINK},
		reason: "where links are not to be had the backup is made by rename, as in BLCR"},
	{call: `unlinkat \./\.bak\.bak`,
		reason: "there is nothing to remove as a rule, and else the link says so"},
}

// TestFaultsCheckpoint makes each call of cr_checkpoint fail.
func TestFaultsCheckpoint(t *testing.T) {
	t.Parallel()
	allUsed(t, checkpointTolerated)
	for _, v := range checkpointVariants() {
		v.inParts(t, func(g *ground, target int, take func(i int) bool) {
			injections := 0
			calls := v.list(g, target)
			for i, call := range calls {
				if !take(i) {
					continue
				}
				for _, errno := range errnosFor(call.Name, v.more != "" && matches(v.more, call.Name)) {
					v.prepare(g)
					o := v.checkpoint(g, target, &ctrlsim.Faults{Count: counted, At: point(call), Errno: errno})
					injections++
					v.judgeFault(o)
				}
			}
			g.t.Logf("%d injections into %d calls", injections, len(calls))
		})
	}
}

// inParts runs test as a subtest, or as several at the same time where there is much
// to try. Each has a ground and a target of its own, and takes those cases that take
// is true for.
func (v *checkpointVariant) inParts(t *testing.T, test func(g *ground, target int, take func(i int) bool)) {
	parts := 1
	if v.name == "atomic/sync" {
		parts = 4
	}
	for part := range parts {
		t.Run(fmt.Sprint(v.name, "/", part), func(t *testing.T) {
			t.Parallel()
			test(newGround(t), startTarget(t), func(i int) bool { return i%parts == part && !spared(v.name, i) })
		})
	}
}

func (v *checkpointVariant) judgeFault(o *outcome) {
	o.g.t.Helper()
	if !o.sane() {
		return
	}
	if o.call == nil {
		o.report("a call of the first run is not there in the second")
		return
	}
	allowed := o.find(checkpointTolerated, v.name)
	failed := v.failed
	switch {
	case o.call.Proc == 1 && o.call.Name == "wait4":
		failed = v.failed + "|" + v.done // the other process goes on
	case v.gone != "" && o.after(`ioctl CHKPT_REQ`):
		failed = v.gone
	case v.moved != "" && o.after(`renameat \./\.ctx\.tmp ctx`) && o.call.Name != "renameat":
		failed = v.moved
	}
	switch succeeded := o.res.Status == 0; {
	case succeeded && !v.succeeded(o):
		o.report("status 0, and yet it is not as it should be: want files %s", v.done)
	case succeeded && allowed != nil:
		allowed.used.Add(1)
	case succeeded && o.errno == unix.EINTR:
		// A call that is interrupted is to be made again.
	case succeeded:
		o.report("it succeeds, and the call is not one that may fail")
	case allowed != nil:
		o.report("it fails, though the call is one that may fail: %s", allowed.reason)
	case !o.res.Status.Exited():
		o.report("it dies of a signal")
	case o.stdout != "" || !o.explained(checkpointMessages):
		o.report("its message and status are none of BLCR's")
	case !o.state(failed):
		o.report("the files are not what they should be: %s", failed)
	}
}

// TestKillCheckpoint stops cr_checkpoint right before each call, and then runs
// it again.
func TestKillCheckpoint(t *testing.T) {
	t.Parallel()
	for _, v := range checkpointVariants() {
		if strings.HasSuffix(v.name, "/nosync") && !strings.HasPrefix(v.name, "atomic/") && !everything() {
			continue // whatever has been written, it is not by a power failure that we are stopped
		}
		v.inParts(t, func(g *ground, target int, take func(i int) bool) {
			kills := 0
			calls := v.list(g, target)
			for i, call := range calls {
				if !take(i) || !everything() && sameAsBefore(calls[:i], call) {
					continue
				}
				v.prepare(g)
				o := v.checkpoint(g, target, &ctrlsim.Faults{Count: counted, At: point(call), Kill: true})
				kills++
				if v.judgeKill(o) {
					v.judgeAgain(o, target)
				}
			}
			g.t.Logf("%d kills at %d calls", kills, len(calls))
		})
	}
}

func (v *checkpointVariant) judgeKill(o *outcome) bool {
	o.g.t.Helper()
	if !o.sane() {
		return false
	}
	want := v.killed
	switch {
	case o.call == nil:
		o.report("a call of the first run is not there in the second")
		return false
	case o.call.Proc == 1: // the one that waits
		if o.res.Signal != unix.SIGKILL {
			o.report("it was not killed")
			return false
		}
		want = v.failed + "|" + v.done // the other one goes on
	case o.res.ExitCode != 1 || o.stdout != "" || !strings.HasSuffix(o.stderr, "child killed by signal 9 (Killed)\n"):
		o.report("it does not say that its child was killed")
		return false
	}
	if v.lost != "" && o.call.Proc > 1 && o.after(`ioctl CHKPT_REQ`) {
		want = v.lost
	}
	if !o.state(want) {
		o.report("the files are not what they should be: %s", want)
		return false
	}
	return true
}

// judgeAgain runs the command once more over what the killed run has left.
func (v *checkpointVariant) judgeAgain(killed *outcome, target int) {
	g := killed.g
	g.t.Helper()
	o := v.checkpoint(g, target, nil)
	if !o.sane() {
		return
	}
	if v.once && killed.listing != "" {
		// --noclobber keeps what there is, as it says. All else can replace it.
		if o.res.ExitCode != int(unix.EEXIST) || o.listing != killed.listing {
			o.report("again after %s: it should not touch what there is", killed.what())
		}
		w := *v
		w.args = []string{"-fctx"}
		o = w.checkpoint(g, target, nil)
		if !o.sane() {
			return
		}
	}
	if o.res.Status != 0 || o.stderr != v.stderr || !o.state(v.again) {
		o.report("again after %s, which left %s: want files %s", killed.what(), killed.listing, v.again)
	}
}

// holds is how long an operation at which a signal comes waits for its answer.
var holds = []time.Duration{0, 3 * time.Millisecond}

// atLine sends SIGTERM to a command with a certain line of its transcript, which
// comes before the operation is answered. It does so with the last operation of a
// restart where there are fewer lines: how often an operation is made again after
// EINTR is not always the same, and a job that nothing ends would run for ever.
type atLine struct {
	command *ctrlsim.Command
	line    int
	hold    time.Duration // how long the operation waits for its answer
	started chan struct{} // closed when the command has been started

	lines int
}

func (a *atLine) Write(p []byte) (int, error) {
	a.lines++
	if a.lines == a.line || a.lines < a.line && bytes.HasPrefix(p, []byte("RSTRT_REAP ")) {
		a.line = a.lines
		<-a.started
		_ = a.command.Signal(unix.SIGTERM)
		time.Sleep(a.hold)
	}
	return len(p), nil
}

func (g *ground) termAt(c *ctrlsim.Command, line int, hold time.Duration) *outcome {
	g.t.Helper()
	at := &atLine{command: c, line: line, hold: hold, started: make(chan struct{})}
	c.TranscriptTo = at
	o := g.run(c, func() { close(at.started) })
	o.note = fmt.Sprintf("SIGTERM at operation %d, held for %v", line, hold)
	return o
}

// TestTermCheckpoint ends cr_checkpoint by SIGTERM, at each operation on the
// control file and at random times.
func TestTermCheckpoint(t *testing.T) {
	t.Parallel()
	rounds := signalRounds()
	for i, v := range checkpointVariants() {
		switch v.name {
		case "atomic/sync", "backup/sync", "clobber/sync", "noclobber/nosync":
		default:
			continue
		}
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			g := newGround(t)
			target := startTarget(t)
			v.scenario = "chkpt-delay 1ms\nchkpt-size 256K\nchkpt-pace 500us"
			v.prepare(g)
			first := g.run(v.command(g, target))
			if !first.sane() || !v.succeeded(first) {
				first.report("it does not even succeed")
				return
			}
			runs, died := 0, 0
			judge := func(o *outcome) {
				runs++
				if o.res.Signal == unix.SIGTERM {
					died++
				}
				v.judgeTerm(o)
			}

			for line := range first.res.Transcript {
				for _, hold := range holds {
					v.prepare(g)
					judge(g.termAt(v.command(g, target), line+1, hold))
				}
			}
			atOperations := runs

			random := rand.New(rand.NewPCG(1, uint64(i)))
			for n := range rounds {
				v.prepare(g)
				c := v.command(g, target)
				c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
				// Most of what there is to go wrong comes after the reap. And
				// the keyboard sends its signals to both processes.
				reaped, group, delay := n&1 > 0, n&2 > 0, time.Duration(random.Int64N(int64(first.res.Elapsed)))
				if reaped {
					delay /= 4
				}
				o := g.run(c, func() {
					if reaped {
						_ = c.WaitTranscript("CHKPT_REAP", hang)
					}
					time.Sleep(delay)
					if group {
						_ = unix.Kill(-c.Pid(), unix.SIGTERM)
					} else {
						_ = c.Signal(unix.SIGTERM)
					}
				})
				o.note = fmt.Sprintf("SIGTERM after %v, from the reap on: %t, to both processes: %t", delay, reaped, group)
				judge(o)
			}
			t.Logf("%d signals at operations, %d at random times; %d times it died of them", atOperations, rounds, died)
		})
	}
}

func (v *checkpointVariant) judgeTerm(o *outcome) {
	o.g.t.Helper()
	if !o.sane() {
		return
	}
	want := v.failed
	if v.gone != "" && strings.Contains(o.res.TranscriptText(), "VERSION") { // what comes right before the request
		want = "(" + v.failed + ")|" + v.gone
	}
	switch {
	case o.res.Status == 0 && !v.succeeded(o):
		o.report("status 0, and yet it is not as it should be: want files %s", v.done)
	case o.res.Status == 0:
	case o.res.Signal != unix.SIGTERM:
		o.report("it neither succeeds nor dies of the signal")
	case o.stdout != "" || o.stderr != "":
		o.report("it dies of a signal and has something to say")
	case !o.state(want):
		o.report("the files are not what they should be: %s", want)
	}
}

// The messages of cr_restart, reference/cli.md.
var restartMessages = []message{
	{`Failed cr_init\(\): -1`, 255},
	{`Failed to open\(ctx, O_RDONLY\): TEXT`, 255},
	{`Restart failed: TEXT`, -1},
	{`cr_wait_restart: TEXT`, -1},
	{`waitpid\(\d+\): TEXT`, 255},
}

// lostChild is what there is to be said of a process that failed on the way to
// become a restored one: why it did, or only that it is gone.
var lostChild = []message{
	{`Restart failed: TEXT`, -1},
	{`Restart failed: No such process`, int(unix.ESRCH)},
	{`Restart failed: Interrupted system call`, int(unix.EINTR)},
}

// restartVariant is a way of running cr_restart.
type restartVariant struct {
	name     string
	args     []string
	scenario string

	// Of a run without faults:
	status int
	stderr string
	ran    string // what jobs have written into the file "ran", and hooks into "hooked"
}

func restartVariants() []restartVariant {
	const job = "\njob sh echo job >>ran; exit 7"
	return []restartVariant{
		{name: "one", scenario: "procs 1" + job, status: 7, ran: "job\n"},
		{name: "threads", scenario: "procs 1 4" + job + "\njob exit 3", status: 7, ran: "job\n"},
		{
			name: "success-hook", args: []string{"--run-on-success=echo hook >>hooked"},
			scenario: "procs 1" + job, status: 7, ran: "job\nhook\n",
		}, {
			name: "failure-hook", args: []string{"--run-on-failure=echo hook >>hooked"},
			scenario: "procs 1 2\nrstrt-log found pid 4185 in use\nrstrt-reap EEXIST",
			status:   17, ran: "hook\n", stderr: "- found pid 4185 in use\nRestart failed: File exists\n",
		}, {
			name: "logged", args: []string{"--kmsg-warning"}, scenario: "procs 1\nrstrt-log one line\nrstrt-log another" + job,
			status: 7, ran: "job\n", stderr: "- one line\n- another\n",
		},
	}
}

// restartCounted are the calls of cr_restart that fail: not close, see noPoint.
var restartCounted = slices.DeleteFunc(slices.Clone(counted), func(name string) bool { return name == "close" })

func (v *restartVariant) prepare(g *ground) {
	g.t.Helper()
	g.clear()
	g.write("ctx", newContext(), 0o400)
}

func (v *restartVariant) command(faults *ctrlsim.Faults) *ctrlsim.Command {
	return &ctrlsim.Command{
		Path:     filepath.Join(bin, "cr_restart"),
		Args:     append(slices.Clone(v.args), "ctx"),
		Scenario: ctrlsim.MustScenario(v.scenario),
		Faults:   faults,
	}
}

func (v *restartVariant) restart(g *ground, faults *ctrlsim.Faults) *outcome {
	g.t.Helper()
	v.prepare(g)
	return g.run(v.command(faults))
}

// same says whether a run has done what one without faults does.
func (v *restartVariant) same(o *outcome) bool {
	stderr := v.stderr
	if o.call != nil && matches(`ioctl RSTRT_LOG|write fd=2 pipe`, o.g.callName(o.call)) {
		stderr = o.stderr // there is less of it
	}
	return o.res.ExitCode == v.status && o.stdout == "" && o.ran == v.ran && o.stderr == stderr
}

// sweep calls run for every call of every process, until there is no more: run
// says which call it was, nil for none. Where not everything is to be tested it is
// every third call of each process.
func sweep(run func(at ctrlsim.Point) *ctrlsim.Call) {
	step := 3
	if harness.All() {
		step = 1
	}
	for at := (ctrlsim.Point{Proc: 1, N: 1}); ; at.N += step {
		switch {
		case run(at) != nil:
		case at.N == 1:
			return
		default:
			at = ctrlsim.Point{Proc: at.Proc + 1, N: 1 - step}
		}
	}
}

// restartTolerated are the calls that may fail and change nothing.
var restartTolerated = []*tolerated{
	{call: `openat control file|ioctl VERSION|ioctl HAND_PHASE1`, from: `ioctl VERSION`,
		reason: "without its guard it leaves itself out of every checkpoint"},
	{call: `newfstatat ctx`,
		reason: "what is no directory that can be looked at is opened as a context"},
	{call: `ioctl RSTRT_LOG`,
		reason: "a log that cannot be had changes nothing about the restart"},
	{call: `write fd=2 pipe`, variant: `logged|failure-hook`,
		reason: "there is nobody to tell that nobody can be told anything"},
	{call: `wait4 pid options=0x40000001|waitid idtype=1 options=0x41000005`, seldom: true,
		reason: "a process that cannot be looked at is looked at again; one that cannot be waited for ends by itself"},
	{call: `ppoll`, seldom: true,
		reason: "a pause between two looks, which is shorter then"},
}

// restartQuiet are the calls that may fail with status 255 and not a word: that
// a hook cannot be run is taken for its failure, which has the last word.
var restartQuiet = []*tolerated{
	{call: `execve /bin/sh`, reason: "of the hook"},
	{call: `fcntl fd=([012] .*|\d pipe)`, reason: "of the hook's process"},
	{call: `(pipe2|clone|wait4 pid options=0x(0|40000000))`, variant: `.*-hook`, reason: "for the hook"},
}

// TestFaultsRestart makes each call of cr_restart, and of the processes that it
// forks, fail.
func TestFaultsRestart(t *testing.T) {
	t.Parallel()
	allUsed(t, restartTolerated)
	allUsed(t, restartQuiet)
	for _, v := range restartVariants() {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			g := newGround(t)
			v.judgeFault(v.restart(g, nil))
			calls, injections := 0, 0
			sweep(func(at ctrlsim.Point) *ctrlsim.Call {
				o := v.restart(g, &ctrlsim.Faults{Count: restartCounted, At: at, Errno: unix.EIO})
				if o.call == nil {
					return nil
				}
				calls++
				injections++
				v.judgeFault(o)
				for _, errno := range errnosFor(o.call.Name, v.name == "threads") {
					if errno != unix.EIO {
						injections++
						v.judgeFault(v.restart(g, &ctrlsim.Faults{Count: restartCounted, At: at, Errno: errno}))
					}
				}
				return o.call
			})
			t.Logf("%d injections into %d calls", injections, calls)
		})
	}
}

func (v *restartVariant) judgeFault(o *outcome) {
	o.g.t.Helper()
	if !o.sane() {
		return
	}
	if o.call == nil {
		if !v.same(o) {
			o.report("it does not do what it should")
		}
		return
	}
	allowed, quiet := o.find(restartTolerated, v.name), o.find(restartQuiet, v.name)
	messages := restartMessages
	if o.call.Proc > 1 {
		messages = lostChild
	}
	switch same := v.same(o); {
	case same && allowed != nil:
		allowed.used.Add(1)
	case same && o.errno == unix.EINTR:
		// A call that is interrupted is to be made again.
	case same:
		o.report("it succeeds, and the call is not one that may fail")
	case allowed != nil:
		o.report("it fails, though the call is one that may fail: %s", allowed.reason)
	case !o.res.Status.Exited():
		o.report("it dies of a signal")
	case o.res.ExitCode == 0 || o.res.ExitCode == 7:
		o.report("its status says nothing of a failure")
	case o.stdout != "":
		o.report("it has something to say on stdout")
	case quiet != nil && o.stderr == "" && o.res.ExitCode == 255:
		quiet.used.Add(1)
	case !o.explained(messages):
		o.report("its message and status are none of BLCR's")
	}
}

// TestKillRestart stops cr_restart, and the processes that it forks, right
// before each call.
func TestKillRestart(t *testing.T) {
	t.Parallel()
	for _, v := range restartVariants() {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			g := newGround(t)
			first := v.restart(g, &ctrlsim.Faults{Count: restartCounted})
			v.judgeFault(first)
			kills := 0
			sweep(func(at ctrlsim.Point) *ctrlsim.Call {
				v.prepare(g)
				c := v.command(&ctrlsim.Faults{Count: restartCounted, At: at, Kill: true})
				if slices.ContainsFunc(first.res.Calls[:lastProcs(first)], func(k ctrlsim.Call) bool { return point(k) == at && leavesChildren(k) }) {
					c.Linger = 100 * time.Millisecond // for those that will not end
				}
				o := g.run(c)
				if o.call != nil && c.Linger != 0 && len(o.res.Leftover) > 0 && !mayLeave(o) {
					// This time the job was made, and a busy machine takes longer for it.
					v.prepare(g)
					c = v.command(&ctrlsim.Faults{Count: restartCounted, At: at, Kill: true})
					o = g.run(c)
				}
				if o.call != nil {
					kills++
					v.judgeKill(o)
				}
				return o.call
			})
			t.Logf("%d kills", kills)
		})
	}
}

// lastProcs is the number of the last RSTRT_PROCS of a run, which returns 0.
func lastProcs(o *outcome) int {
	n := 0
	for _, c := range o.res.Calls {
		if c.Proc == 1 && c.Detail == "RSTRT_PROCS" {
			n = c.N
		}
	}
	return n
}

// leavesChildren says whether cr_restart, killed before that call, may leave
// processes behind. Until the last RSTRT_PROCS, the children wait in the module
// for what the killed process does not do any more. That is as with BLCR's
// cr_restart: SIGKILL cannot be caught, and a signal upon the parent's death
// would stay with the job.
func leavesChildren(c ctrlsim.Call) bool {
	return c.Proc == 1 && (c.Name == "clone" || c.Detail == "RSTRT_PROCS" || c.Name == "ppoll" || c.Name == "waitid")
}

// mayLeave says whether a run that was killed may have left processes behind.
func mayLeave(o *outcome) bool {
	return leavesChildren(*o.call) && !strings.Contains(o.res.TranscriptText(), "RSTRT_PROCS = 0")
}

func (v *restartVariant) judgeKill(o *outcome) {
	o.g.t.Helper()
	// The jobs of these tests end by themselves at once, so that whatever is
	// left behind is none.
	if mayLeave(o) {
		for _, c := range o.res.Calls[:o.call.N-1] {
			if c.Proc == 1 && c.Name == "clone" {
				o.orphans++
			}
		}
	}
	if !o.sane() {
		return
	}
	switch {
	case o.call.Proc == 1 && o.res.Signal != unix.SIGKILL:
		o.report("it was not killed")
	case o.call.Proc == 1:
	case matches(`execve /bin/sh|fcntl fd=[012] .*`, o.g.callName(o.call)):
		if o.res.ExitCode != 255 || o.stdout != "" || o.stderr != "" {
			o.report("a hook that was killed has the status 255 and the last word")
		}
	case o.res.ExitCode == v.status && o.stdout == "" && o.stderr == v.stderr:
		// It failed for another reason, or died as a job already.
	case !o.explained(lostChild):
		o.report("its message and status are none of BLCR's")
	}
}

// TestTermRestart ends cr_restart by SIGTERM, at each operation on the control
// file and at random times. Before there is a job it dies of that, and later it
// dies as the job does.
func TestTermRestart(t *testing.T) {
	t.Parallel()
	rounds := signalRounds()
	g := newGround(t)
	v := restartVariant{scenario: "procs 1 4\njob sleep\njob exit 0"}
	judge := func(o *outcome) {
		switch {
		case !o.sane():
		case o.res.Signal != unix.SIGTERM:
			o.report("it does not die of the signal")
		case o.stdout != "" || o.stderr != "":
			o.report("it dies of a signal and has something to say")
		}
	}

	v.prepare(g)
	c := v.command(nil)
	first := g.run(c, func() {
		_ = c.WaitTranscript("RSTRT_REAP", hang)
		_ = c.Signal(unix.SIGTERM)
	})
	judge(first)
	for line := range first.res.Transcript {
		for _, hold := range holds {
			v.prepare(g)
			judge(g.termAt(v.command(nil), line+1, hold))
		}
	}

	random := rand.New(rand.NewPCG(1, 0))
	for range rounds {
		v.prepare(g)
		c := v.command(nil)
		delay := time.Duration(random.Int64N(int64(first.res.Elapsed)))
		o := g.run(c, func() {
			time.Sleep(delay)
			_ = c.Signal(unix.SIGTERM)
		})
		o.note = fmt.Sprintf("SIGTERM after %v", delay)
		judge(o)
	}
	t.Logf("%d signals at operations, %d at random times", len(first.res.Transcript)*len(holds), rounds)
}

// TestFaultsRestartThreads has a restart process fail to make its threads, which
// no system call of cr_restart's shows.
func TestFaultsRestartThreads(t *testing.T) {
	t.Parallel()
	const cloneThread = 0x10000 // which is invalid by itself
	v := restartVariant{scenario: fmt.Sprintf("procs 4\nclone-flags %#x", cloneThread)}
	g := newGround(t)
	o := v.restart(g, nil)
	o.note, o.errno = "no thread can be made", unix.EINVAL
	if o.sane() && !o.explained(lostChild) {
		o.report("its message and status are none of BLCR's")
	}
}
