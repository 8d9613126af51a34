// Package script_test runs the scripts of testdata/script on the built
// commands: what a user sees, end to end. The control file of BLCR's module is
// played by package ctrlsim.
//
// Scripts have these commands besides testscript's own:
//
//	module [FILE]
//		From here on there is a module; FILE is its scenario (package
//		ctrlsim), without one it is the module's usual self.
//	module off
//		There is none, as at the start of each script.
//	exits STATUS PROGRAM [ARG...]
//		Runs a program, under the module if there is one, and everything
//		that it starts. It must end with that exit status, or by the signal
//		of that name. Then stdout and stderr can be looked at, and:
//	[!] operations PATTERN
//		The operations on the control file, one a line, in order, without
//		those by which a program prepares for being saved itself.
//	[!] transcript PATTERN
//		All of them.
//	[!] leftovers
//		Processes that the program left behind.
//	agent [FAULT]
//		From here on there is an FTB agent (package ftbsim), which
//		FTB_AGENT_PORT leads to. At the start of each script that leads to
//		nobody.
//	agent default
//		The same on the port where it is looked for by default.
//	agent off
//		It ends.
//	bootstrap [KIND]
//		The agent becomes that of another machine: there is a bootstrap
//		server that knows it.
//	[!] events PATTERN
//		The events that the agent has been given, one a line, in order. The
//		clients must have behaved well.
//	captured N FILE
//		Event N of the agent must be the one that FTB's own library sent
//		(ftbclient/wire/testdata), but for who sent it and when.
//	images DIR
//		Makes a directory of criu's images: the small job of
//		internal/ckpt/criu/images/testdata, all of whose processes are alike.
//	context FILE DIR
//		Makes the context of the criu engine that has these images.
package script_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"blcr-cli/internal/ctxfile"
	"blcr-cli/internal/ftbclient/wire"
	"blcr-cli/test/ctrlsim"
	"blcr-cli/test/ftbsim"
	"blcr-cli/test/harness"
)

// bin is the directory with the built commands.
var bin string

// binVar has that directory, for a process that is started to be in a network of
// its own.
const binVar = "BLCR_CLI_TEST_BIN"

func TestMain(m *testing.M) {
	ctrlsim.Init()
	os.Exit(func() int {
		harness.Start()
		// What the callers of the tests have set is not part of them.
		for _, name := range ownVariables {
			os.Unsetenv(name)
		}
		// All paths are those of the repository's root.
		if err := os.Chdir("../.."); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		if bin = os.Getenv(binVar); bin != "" {
			return m.Run()
		}
		var err error
		if bin, err = os.MkdirTemp("", "blcr-cli-test"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(bin)
		os.Setenv(binVar, bin)
		// Unprivileged processes of a test have to get at them.
		if err := os.Chmod(bin, 0o755); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		if err := errors.Join(harness.Commands(bin), harness.Build(bin, "./test/ctrlsim/ctrlsim")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return m.Run()
	}())
}

// TestWellKnownPort runs the scripts that need the port where an agent is looked
// for by default, in a network of their own. TestScript skips them.
func TestWellKnownPort(t *testing.T) {
	t.Parallel()
	harness.OwnNetwork(t, "^TestScript$", "", "^config-default$")
}

func TestScript(t *testing.T) {
	t.Parallel()
	var dirs []string
	err := filepath.WalkDir("testdata/script", func(path string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range dirs {
		if scripts, _ := filepath.Glob(filepath.Join(dir, "*.txtar")); len(scripts) == 0 {
			continue
		}
		t.Run(filepath.Base(dir), func(t *testing.T) {
			t.Parallel()
			testscript.Run(t, testscript.Params{
				Dir:   dir,
				Setup: setup,
				Cmds: map[string]func(*testscript.TestScript, bool, []string){
					"module": cmdModule,
					"exits":  cmdExits,
					"operations": func(ts *testscript.TestScript, neg bool, args []string) {
						cmdOperations(ts, neg, args, (*ctrlsim.Result).Requests)
					},
					"transcript": func(ts *testscript.TestScript, neg bool, args []string) {
						cmdOperations(ts, neg, args, func(r *ctrlsim.Result) []string { return r.Transcript })
					},
					"leftovers": cmdLeftovers,
					"agent":     cmdAgent,
					"bootstrap": cmdBootstrap,
					"events":    cmdEvents,
					"captured":  cmdCaptured,
					"images":    cmdImages,
					"context":   cmdContext,
				},
				Condition: condition,
			})
		})
	}
}

// session is what the commands of one script share.
type session struct {
	env      *testscript.Env
	module   bool
	scenario *ctrlsim.Scenario
	last     *ctrlsim.Result // of the last program run under the module
	agent    *ftbsim.Agent
	nobody   *ftbsim.Agent // has a port where nobody listens
}

type sessionKey struct{}

func of(ts *testscript.TestScript) *session { return ts.Value(sessionKey{}).(*session) }

func setup(env *testscript.Env) error {
	s := &session{env: env}
	env.Values[sessionKey{}] = s
	env.Setenv("PATH", bin+string(os.PathListSeparator)+env.Getenv("PATH"))
	// Nor is what criu this machine may have.
	env.Setenv("CR_ENGINE", "kernel")
	// And what agent.
	var err error
	s.nobody, err = ftbsim.Start(ftbsim.Config{Fault: ftbsim.Fault{Kind: ftbsim.Refuse}})
	if err != nil {
		return err
	}
	env.Defer(s.nobody.Close)
	env.Defer(s.endAgent)
	env.Setenv(agentVar, strconv.Itoa(s.nobody.Port()))
	// With -v the commands would say that nobody is there.
	env.Setenv("CR_FTB", "off")
	return nil
}

// ownVariables are those that the commands look at.
var ownVariables = []string{
	"CR_ENGINE", "POSIXLY_CORRECT", "LD_PRELOAD", "LD_LIBRARY_PATH",
	"CR_FTB", "CR_FTB_JOBID", "CR_FTB_VERBOSE", agentVar, "FTB_BSTRAP_SERVER", "FTB_BSTRAP_PORT", "FTB_CONFIG_FILE",
}

const (
	agentVar     = "FTB_AGENT_PORT"
	agentDefault = 10809
)

// condition is for [root]: running as root; [network]: in a network of its own, see
// TestWellKnownPort; and [cc], [ps] and so on: the program is there, or has to be.
func condition(name string) (bool, error) {
	switch name {
	case "root":
		return os.Geteuid() == 0, nil
	case "network":
		return harness.InOwnNetwork(), nil
	case "bash", "cc", "flock", "gzip", "perl", "ps", "python3", "setpriv", "setsid", "unshare":
		_, err := exec.LookPath(name)
		return err == nil || harness.All(), nil
	}
	return false, fmt.Errorf("no such condition")
}

func cmdModule(ts *testscript.TestScript, neg bool, args []string) {
	s := of(ts)
	s.scenario, s.last = nil, nil
	switch {
	case neg || len(args) > 1:
		ts.Fatalf("usage: module [FILE|off]")
	case len(args) == 0:
		s.module = true
	case args[0] == "off":
		s.module = false
	default:
		scenario, err := ctrlsim.ParseScenario(strings.NewReader(ts.ReadFile(args[0])))
		ts.Check(err)
		s.module, s.scenario = true, scenario
	}
}

func cmdExits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits STATUS PROGRAM [ARG...]")
	}
	s := of(ts)
	var stdout, stderr bytes.Buffer
	var end syscall.WaitStatus
	if s.module {
		c := &ctrlsim.Command{
			Path: findProgram(ts, args[1]), Argv0: args[1], Args: args[2:], Env: environ(ts), Dir: ts.MkAbs("."),
			Stdout: &stdout, Stderr: &stderr, Scenario: s.scenario,
			// A worker may finish its work after whoever waited for it.
			Linger: harness.Patience,
		}
		result, err := c.Run()
		if result != nil {
			s.last = result
			for _, p := range result.Problems {
				ts.Logf("problem: %s", p)
			}
		}
		fmt.Fprint(ts.Stdout(), stdout.String())
		fmt.Fprint(ts.Stderr(), stderr.String())
		if err != nil {
			ts.Fatalf("%s: %v\n%s\n%s", args[1], err, stdout.String(), stderr.String())
		}
		if len(result.Problems) > 0 {
			ts.Fatalf("%s does what no program should", args[1])
		}
		end = result.Status
	} else {
		c := exec.Command(findProgram(ts, args[1]), args[2:]...)
		c.Args[0] = args[1]
		c.Env, c.Dir = environ(ts), ts.MkAbs(".")
		c.Stdout, c.Stderr = &stdout, &stderr
		c.WaitDelay = harness.Patience
		err := c.Run()
		fmt.Fprint(ts.Stdout(), stdout.String())
		fmt.Fprint(ts.Stderr(), stderr.String())
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			ts.Fatalf("%s: %v", args[1], err)
		}
		end = c.ProcessState.Sys().(syscall.WaitStatus)
	}
	if got := statusName(end); got != args[0] {
		ts.Fatalf("%s ended with %s, want %s\nstdout: %sstderr: %s", args[1], got, args[0], stdout.String(), stderr.String())
	}
}

// statusName is an exit status as a number, or a signal by its name; with a
// core file it is neither.
func statusName(end syscall.WaitStatus) string {
	switch {
	case end.Exited():
		return strconv.Itoa(end.ExitStatus())
	case end.CoreDump():
		return unix.SignalName(end.Signal()) + " with a core file"
	case end.Signal() >= 32: // has no name of its own
		return fmt.Sprintf("SIG%d", int(end.Signal()))
	default:
		return unix.SignalName(end.Signal())
	}
}

func cmdOperations(ts *testscript.TestScript, neg bool, args []string, lines func(*ctrlsim.Result) []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: [!] operations|transcript PATTERN")
	}
	s := of(ts)
	if s.last == nil {
		ts.Fatalf("nothing has run under the module")
	}
	pattern, err := regexp.Compile("(?m)" + args[0])
	ts.Check(err)
	text := ""
	for _, line := range lines(s.last) {
		text += line + "\n"
	}
	if pattern.MatchString(text) == neg {
		ts.Fatalf("match of %q is %t in:\n%s", args[0], !neg == false, text)
	}
}

func cmdLeftovers(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 0 {
		ts.Fatalf("usage: [!] leftovers")
	}
	s := of(ts)
	if s.last == nil {
		ts.Fatalf("nothing has run under the module")
	}
	if (len(s.last.Leftover) > 0) == neg {
		ts.Fatalf("processes left behind: %d", len(s.last.Leftover))
	}
}

func cmdAgent(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) > 1 {
		ts.Fatalf("usage: agent [FAULT|default|off]")
	}
	s := of(ts)
	s.endAgent()
	config := ftbsim.Config{}
	if len(args) == 1 {
		switch args[0] {
		case "off":
			// The port that it had may be another test's by now.
			ts.Setenv(agentVar, strconv.Itoa(s.nobody.Port()))
			return
		case "default":
			config.Port = agentDefault
		default:
			var err error
			config.Fault, err = ftbsim.ParseFault(args[0])
			ts.Check(err)
		}
	}
	var err error
	s.agent, err = ftbsim.Start(config)
	ts.Check(err)
	ts.Setenv(agentVar, strconv.Itoa(s.agent.Port()))
	ts.Setenv("CR_FTB", "")
}

func (s *session) endAgent() {
	if s.agent != nil {
		s.agent.Close()
		s.agent = nil
	}
}

func cmdBootstrap(ts *testscript.TestScript, neg bool, args []string) {
	s := of(ts)
	if neg || len(args) > 1 || s.agent == nil {
		ts.Fatalf("usage, after agent: bootstrap [KIND]")
	}
	kind := "0.6.2"
	if len(args) == 1 {
		kind = args[0]
	}
	config, err := ftbsim.ParseBootstrap(kind, wire.Addr{Name: "127.0.0.1", Port: int32(s.agent.Port())})
	ts.Check(err)
	server, err := ftbsim.StartBootstrap(config)
	ts.Check(err)
	ts.Defer(server.Close)
	ts.Setenv(agentVar, strconv.Itoa(s.nobody.Port()))
	ts.Setenv("CR_FTB", "")
	ts.Setenv("FTB_BSTRAP_SERVER", "127.0.0.1")
	ts.Setenv("FTB_BSTRAP_PORT", strconv.Itoa(server.Port()))
}

// settled returns the agent when it has seen all that was sent.
func settled(ts *testscript.TestScript) *ftbsim.Agent {
	agent := of(ts).agent
	if agent == nil {
		ts.Fatalf("there is no agent")
	}
	ts.Check(agent.Settle(harness.Patience))
	if problems := agent.Problems(); len(problems) > 0 {
		ts.Fatalf("no client should do this: %s", strings.Join(problems, "; "))
	}
	return agent
}

func cmdEvents(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: [!] events PATTERN")
	}
	pattern, err := regexp.Compile("(?m)" + args[0])
	ts.Check(err)
	text := settled(ts).EventText()
	if pattern.MatchString(text) == neg {
		ts.Fatalf("match of %q is %t in:\n%s", args[0], !neg == false, text)
	}
}

func cmdCaptured(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: captured N FILE")
	}
	number, err := strconv.Atoi(args[0])
	ts.Check(err)
	events := settled(ts).Events()
	if number < 1 || number > len(events) {
		ts.Fatalf("there are %d events", len(events))
	}
	capture, err := os.ReadFile(filepath.Join("internal/ftbclient/wire/testdata", args[1]))
	ts.Check(err)
	ts.Check(events[number-1].SameAs(capture))
}

func cmdImages(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: images DIR")
	}
	dir := ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(dir, 0o755))
	put := func(name string, content []byte) { ts.Check(os.WriteFile(filepath.Join(dir, name), content, 0o644)) }
	copied := func(name string) []byte {
		content, err := os.ReadFile(filepath.Join("internal/ckpt/criu/images/testdata", name))
		ts.Check(err)
		return content
	}
	for _, name := range []string{
		"fdinfo-2.img", "files.img", "inventory.img", "pipes-data.img", "pstree.img", "remap-fpath.img", "tty-info.img",
	} {
		put(name, copied(name))
	}
	for _, kind := range []string{"core", "fs", "ids", "mm"} {
		for pid := 11582; pid <= 11586; pid++ {
			put(fmt.Sprintf("%s-%d.img", kind, pid), copied(kind+"-root.img"))
		}
	}
	for pid := 11582; pid <= 11586; pid++ {
		// One entry of two pages, in the same image for all.
		put(fmt.Sprintf("pagemap-%d.img", pid), []byte("\x19\x43\x56\x54\x25\x40\x08\x56\x02\x00\x00\x00\x08\x01\x06\x00\x00\x00\x08\x00\x10\x02\x20\x04"))
	}
	put("pages-1.img", bytes.Repeat([]byte("page"), 2*4096/4))
	put("ghost-file-1.img", []byte("gone"))
	put("external-pipes", []byte("24235871\n"))
	put("saved-files", []byte("blcr-cli saved files 1\n\"/tmp/job/tree\" 70000 0 0755 0 0 private file-1 0+5\n"))
	put("file-1", []byte("12345"))
}

func cmdContext(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: context FILE DIR")
	}
	file, err := os.Create(ts.MkAbs(args[0]))
	ts.Check(err)
	defer file.Close()
	w, err := ctxfile.NewWriter(int(file.Fd()), ctxfile.Header{
		Engine: "criu 4.2", Created: time.Date(2026, 11, 23, 7, 0, 0, 0, time.UTC), Host: "node17", Kernel: "6.1.0", Machine: "x86_64",
		Command: []string{"./tree", "with a blank", "\x1b[2J"}, PIDs: []int{11582, 11583, 11584, 11585, 11586},
	}, 0)
	ts.Check(err)
	entries, err := os.ReadDir(ts.MkAbs(args[1]))
	ts.Check(err)
	for _, entry := range entries {
		ts.Check(w.Bytes(entry.Name(), []byte(ts.ReadFile(filepath.Join(args[1], entry.Name())))))
	}
	ts.Check(w.Close())
}

// findProgram finds a program in the script's PATH.
func findProgram(ts *testscript.TestScript, name string) string {
	if strings.Contains(name, "/") {
		return ts.MkAbs(name)
	}
	for _, dir := range filepath.SplitList(ts.Getenv("PATH")) {
		path := filepath.Join(dir, name)
		if st, err := os.Stat(path); err == nil && st.Mode()&0o111 != 0 && !st.IsDir() {
			return path
		}
	}
	ts.Fatalf("%s: not in PATH", name)
	return ""
}

// environ is the script's environment: that which it started with, as it is
// now.
func environ(ts *testscript.TestScript) []string {
	var vars []string
	seen := map[string]bool{}
	for _, v := range of(ts).env.Vars {
		name, _, _ := strings.Cut(v, "=")
		if !seen[name] {
			seen[name] = true
			vars = append(vars, name+"="+ts.Getenv(name))
		}
	}
	for _, name := range ownVariables {
		if value := ts.Getenv(name); value != "" {
			vars = append(vars, name+"="+value)
		}
	}
	return vars
}
