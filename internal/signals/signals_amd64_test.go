package signals

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"blcr-cli/test/harness"

	"golang.org/x/sys/unix"
)

// The kinds of signals, written out once more.
var (
	catchable = except(unix.SIGKILL, unix.SIGSTOP)
	// ending are those that a guard acts on: all that end programs by default and
	// can be caught, except 33 and 64, which have another purpose.
	ending = []syscall.Signal{
		1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13, 14, 15, 16, 24, 25, 26, 27, 29, 30, 31,
		32, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50,
		51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63,
	}
	harmless   = []syscall.Signal{unix.SIGCHLD, unix.SIGCONT, unix.SIGURG, unix.SIGWINCH}
	stopping   = []syscall.Signal{unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU}
	forJob     = except(unix.SIGKILL, unix.SIGSTOP, unix.SIGCHLD, 64)
	notStopped = except(unix.SIGKILL, unix.SIGSTOP, unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU)
)

func except(these ...syscall.Signal) (sigs []syscall.Signal) {
	for sig := syscall.Signal(1); sig <= 64; sig++ {
		if !slices.Contains(these, sig) {
			sigs = append(sigs, sig)
		}
	}
	return sigs
}

// dieRole ends this process by a signal: one that it has caught, one that it has
// not, or, for comparison, not by DieOf.
func dieRole(args string) {
	how, arg, _ := strings.Cut(args, " ")
	sig := syscall.Signal(number(arg))
	coreFiles()
	switch how {
	case "control":
		must(raiseDefault(sig))
		return
	case "caught":
		must(Catch(sig))
	}
	DieOf(sig)
}

// dieIgnoredRole goes on as dieRole, with every signal ignored and blocked.
func dieIgnoredRole(args string) {
	runtime.LockOSThread()
	_, err := BlockAll()
	must(err)
	for _, sig := range catchable {
		must(rtSigaction(sig, &sigaction{handler: 1}, nil)) // SIG_IGN
	}
	must(os.Setenv(roleEnv, "die plain "+args))
	must(unix.Exec("/proc/self/exe", os.Args[:1], os.Environ()))
}

// TestDieOf: a process ends by DieOf with that very signal, without a core file and
// without output, whatever it did about the signal before; with the status that
// shells use if the signal ends no process.
func TestDieOf(t *testing.T) {
	dir := t.TempDir()
	die := func(role, status string, sig syscall.Signal) (left []string) {
		cmd := command(role, int(sig))
		cmd.Dir = dir
		startCommand(t, cmd).ends(t, "", status)
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			left = append(left, e.Name())
			os.Remove(filepath.Join(dir, e.Name()))
		}
		return left
	}
	control := command("die control", int(unix.SIGQUIT))
	control.Dir = dir
	err := control.Run()
	cores, _ := filepath.Glob(dir + "/*")
	if end, ok := err.(*exec.ExitError); !ok || !end.Sys().(syscall.WaitStatus).CoreDump() {
		t.Log("this machine writes no core files, so it says little that there is none")
	} else if len(cores) == 0 {
		t.Log("core files go elsewhere on this machine, so it says little that there is none")
	}
	for _, core := range cores {
		os.Remove(core)
	}
	for _, role := range []string{"die plain", "die caught", "die-ignored"} {
		for sig := syscall.Signal(1); sig <= 64; sig++ {
			if sig == unix.SIGSTOP || slices.Contains(stopping, sig) {
				continue // see TestStop
			}
			if role == "die caught" && sig == unix.SIGKILL {
				continue
			}
			want := fmt.Sprintf("signal %d", int(sig))
			if slices.Contains(harmless, sig) {
				want = fmt.Sprintf("exit %d", 128+int(sig))
			}
			if left := die(role, want, sig); len(left) != 0 {
				t.Errorf("%s %d leaves %q", role, int(sig), left)
			}
		}
	}
}

// raiseRole catches a signal, blocks it or not, raises it, and prints the state
// afterwards.
func raiseRole(args string) {
	runtime.LockOSThread()
	how, arg, _ := strings.Cut(args, " ")
	sig := syscall.Signal(number(arg))
	must(Catch(sig))
	if how == "blocked" {
		set := setOf(sig)
		must(unix.PthreadSigmask(unix.SIG_BLOCK, &set, nil))
	}
	before := threadMask()
	must(raiseDefault(sig))
	var act sigaction
	must(rtSigaction(sig, nil, &act))
	fmt.Println("went on, handler", act.handler, "mask changed", before != threadMask(), "counted", take(sig))
}

func threadMask() unix.Sigset_t {
	var mask unix.Sigset_t
	must(unix.PthreadSigmask(unix.SIG_BLOCK, nil, &mask))
	return mask
}

// TestStop: raiseDefault stops the process, and returns when it is continued.
func TestStop(t *testing.T) {
	for _, sig := range stopping {
		for _, how := range []string{"open", "blocked"} {
			p := start(t, "raise", how, int(sig))
			p.changes(t, fmt.Sprint("stopped by ", int(sig)))
			p.kill(t, unix.SIGCONT)
			p.ends(t, "went on, handler 0 mask changed false counted 0\n", "exit 0")
		}
	}
}

// maskRole prints the thread's mask before, between and after BlockAll and
// RestoreMask, and with an exception.
func maskRole() {
	runtime.LockOSThread()
	first := setOf(unix.SIGUSR1)
	must(unix.PthreadSigmask(unix.SIG_SETMASK, &first, nil))
	old, err := BlockAll()
	must(err)
	all := threadMask()
	must(RestoreMask(old))
	restored := threadMask()
	_, err = BlockAll(unix.SIGHUP, 33)
	must(err)
	fmt.Printf("%#x %#x %#x %#x\n", old.Val[0], all.Val[0], restored.Val[0], threadMask().Val[0])
}

// TestMask: BlockAll blocks all that can be blocked, except the exceptions, and
// RestoreMask restores the mask. (glibc's 33 can be blocked here.)
func TestMask(t *testing.T) {
	start(t, "mask").ends(t, "0x200 0xfffffffffffbfeff 0x200 0xfffffffefffbfefe\n", "exit 0")
}

func TestSetOf(t *testing.T) {
	for sig := syscall.Signal(1); sig <= 64; sig++ {
		set := setOf(sig)
		if set.Val[0] != 1<<(sig-1) || set != (unix.Sigset_t{Val: [16]uint64{set.Val[0]}}) {
			t.Errorf("setOf(%d) = %#x", int(sig), set.Val)
		}
	}
}

// dispositionsRole prints the signals that are ignored when a Guard or a
// Forwarder watches.
func dispositionsRole(args string) {
	switch args {
	case "guard":
		NewGuard()
	case "forwarder":
		NewForwarder()
	case "kept":
		KeepIgnored()
		NewGuard()
	}
	status, err := os.ReadFile("/proc/self/status")
	must(err)
	m := regexp.MustCompile(`SigIgn:\s+([0-9a-f]+)`).FindStringSubmatch(string(status))
	set, err := strconv.ParseUint(m[1], 16, 64)
	must(err)
	ignored := []int{}
	for sig := range 64 {
		if set>>sig&1 != 0 {
			ignored = append(ignored, sig+1)
		}
	}
	fmt.Println(ignored)
}

// ignoringRole goes on as another role, in a program that is started with signals
// ignored. (Not by a shell: dash cannot ignore SIGCHLD.)
func ignoringRole(args string) {
	f := strings.SplitN(args, " ", 3)
	for _, sig := range strings.FieldsFunc(f[0], func(r rune) bool { return r == ',' }) {
		must(rtSigaction(syscall.Signal(number(sig)), &sigaction{handler: 1}, nil)) // SIG_IGN
	}
	must(os.Setenv(roleEnv, f[2]))
	must(unix.Exec(f[1], os.Args[:1], os.Environ()))
}

// TestIgnored: SIGHUP and SIGINT stay ignored if they are at the start, for nohup
// and for background commands. The Go runtime sees to these two, package entry and
// KeepIgnored to the others.
func TestIgnored(t *testing.T) {
	for _, role := range []string{"guard", "forwarder"} {
		for signals, want := range map[string]string{",": "[]", "1": "[1]", "2": "[2]", "1,2": "[1 2]"} {
			start(t, "ignoring", signals, "/proc/self/exe", "dispositions", role).ends(t, want+"\n", "exit 0")
		}
	}
}

// TestKeepIgnored: every signal but SIGCHLD stays ignored in a program that is
// linked as the commands are.
func TestKeepIgnored(t *testing.T) {
	if testing.Short() {
		t.Skip("builds a test binary")
	}
	program := filepath.Join(t.TempDir(), "signals.test")
	build := exec.CommandContext(t.Context(), "go", "test", "-c", "-o", program, "-ldflags", "-E blcr-cli/internal/entry.entry", ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		harness.Missing(t, "a program cannot be built here: go test -c: %v\n%s", err, out)
	}
	for signals, want := range map[string]string{
		",":             "[]",
		"3":             "[3]",
		"2,3":           "[2 3]", // a shell's background
		"1,10,13,15,24": "[1 10 13 15 24]",
		"17":            "[]",
		"17,20,21,22":   "[20 21 22]",
	} {
		start(t, "ignoring", signals, program, "dispositions", "kept").ends(t, want+"\n", "exit 0")
	}
}
