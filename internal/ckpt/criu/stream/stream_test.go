package stream

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/proc"
	"blcr-cli/internal/reexec"
)

// fakeArg makes this test binary a criu that behaves as the function of fakes says
// that is named behind it. (It is no variable: criu gets none of this process's.)
const fakeArg = "--fake="

// asked returns the name of the function, "" for none.
func asked() string {
	for _, arg := range os.Args {
		if name, ok := strings.CutPrefix(arg, fakeArg); ok {
			return name
		}
	}
	return ""
}

func TestMain(m *testing.M) {
	if status, inner := reexec.Main(); inner {
		os.Exit(status)
	}
	if name := asked(); name != "" {
		os.Exit(fakes[name](newFake()))
	}
	os.Exit(m.Run())
}

// fake is the side of the protocol that is criu's.
type fake struct {
	script, dir, verb string
	conn              int
}

func newFake() *fake {
	f := &fake{conn: -1, verb: os.Args[1]}
	for i, arg := range os.Args {
		switch arg {
		case "--action-script":
			f.script = os.Args[i+1]
		case "-D":
			f.dir = os.Args[i+1]
		}
	}
	return f
}

func must(err error) {
	if err != nil {
		fmt.Println("Error (fake.go:1):", err)
		os.Exit(99)
	}
}

func (f *fake) connect() {
	name := socketNames[Capture]
	if f.verb == "restore" {
		name = socketNames[Serve]
	}
	var err error
	f.conn, err = unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	must(err)
	must(unix.Connect(f.conn, &unix.SockaddrUnix{Name: filepath.Join(f.dir, name)}))
}

func (f *fake) send(b []byte) {
	_, err := unix.Write(f.conn, b)
	must(err)
}

func request(name string) []byte {
	body := append([]byte{1<<3 | 2, byte(len(name))}, name...)
	return append(binary.LittleEndian.AppendUint32(nil, uint32(len(body))), body...)
}

// sendPipe sends the end of a new pipe that is the other side's, and returns the
// fake's own.
func (f *fake) sendPipe() *os.File {
	r, w, err := os.Pipe()
	must(err)
	theirs, own := r, w
	if f.verb == "restore" {
		theirs, own = w, r
	}
	must(unix.Sendmsg(f.conn, []byte{0}, unix.UnixRights(int(theirs.Fd())), nil, 0))
	theirs.Close()
	return own
}

// dump writes an image.
func (f *fake) dump(name, content string) {
	f.send(request(name))
	pipe := f.sendPipe()
	_, err := io.WriteString(pipe, content)
	must(err)
	pipe.Close()
}

// restore reads an image; not there, it returns false.
func (f *fake) restore(name string) (content string, there bool) {
	f.send(request(name))
	reply := make([]byte, 6)
	_, err := unix.Read(f.conn, reply)
	must(err)
	if bytes.Equal(reply, []byte{2, 0, 0, 0, 8, 0}) {
		return "", false
	}
	if !bytes.Equal(reply, []byte{2, 0, 0, 0, 8, 1}) {
		must(fmt.Errorf("reply % x", reply))
	}
	pipe := f.sendPipe()
	text, err := io.ReadAll(pipe)
	must(err)
	return string(text), true
}

// stage runs the action script and returns its exit status.
func (f *fake) stage(name string) int {
	script := exec.Command(f.script)
	script.Env = append(os.Environ(), stageVar+"="+name, "CRTOOLS_INIT_PID=4185")
	err := script.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		must(err)
	}
	return script.ProcessState.ExitCode()
}

// forever waits to be killed.
func forever() {
	signal.Ignore(syscall.SIGTERM)
	for {
		time.Sleep(time.Hour)
	}
}

// fakes are the ways to behave. The result is the exit status.
var fakes = map[string]func(*fake) int{
	"dump": func(f *fake) int {
		f.connect()
		f.dump("pages-1.img", strings.Repeat("page", 100<<10))
		f.dump("inventory.img", "inventory")
		if f.stage("network-lock") != 0 {
			return 98 // a stage that nobody asks for
		}
		if f.stage(PostDump) != 0 {
			fmt.Println("(00.5)    12: Error (criu/cr-dump.c:1): the script said no")
			return 1
		}
		unix.Close(f.conn)
		return 0
	},
	"files": func(f *fake) int { return f.stage(PostDump) },
	"restore": func(f *fake) int {
		f.connect()
		for _, name := range []string{"inventory.img", "missing.img", "pages-1.img"} {
			content, there := f.restore(name)
			fmt.Printf("Error (fake.go:2): %s %v %d\n", name, there, len(content))
		}
		unix.Close(f.conn)
		return f.stage(PostRestore) + f.stage(PreResume)
	},
	"unread": func(f *fake) int { // it reads an image not to its end
		f.connect()
		f.send(request("inventory.img"))
		_, err := unix.Read(f.conn, make([]byte, 6))
		must(err)
		f.sendPipe().Close()
		return f.stage(PreResume)
	},
	"tells": func(f *fake) int { // what it was given
		for _, variable := range os.Environ() {
			if name, _, _ := strings.Cut(variable, "="); name != socketVar {
				fmt.Println("Error (a:1): " + variable)
			}
		}
		if slices.Contains(os.Args, "--no-default-config") {
			return 0
		}
		return 1
	},
	"writes": func(*fake) int { // files, until it fails
		file, err := os.CreateTemp("", "stream-test")
		must(err)
		must(os.Remove(file.Name()))
		fmt.Println("Error (a:1): here")
		for err == nil {
			_, err = file.WriteAt([]byte("page"), 0)
			time.Sleep(time.Millisecond)
		}
		var errno syscall.Errno
		errors.As(err, &errno)
		return int(errno)
	},
	"noscript": func(f *fake) int { f.connect(); return 0 },
	"hang":     func(f *fake) int { f.connect(); fmt.Println("Error (a:1): here"); forever(); return 0 },
	"hang-half": func(f *fake) int {
		f.connect()
		f.send([]byte{15, 0})
		fmt.Println("Error (a:1): here")
		forever()
		return 0
	},
	"stopped": func(f *fake) int {
		f.connect()
		fmt.Println("Error (a:1): here")
		must(unix.Kill(os.Getpid(), unix.SIGSTOP))
		// Nobody serves any more.
		if _, err := unix.Read(f.conn, make([]byte, 1)); err != unix.ECONNRESET { // closed with a request unread
			must(err)
		}
		return 7
	},
	"dies": func(f *fake) int {
		f.connect()
		f.send(request("pages-1.img"))
		pipe := f.sendPipe()
		_, err := io.WriteString(pipe, "half")
		must(err)
		must(unix.Kill(os.Getpid(), unix.SIGKILL))
		return 0
	},
	"dies-asking": func(f *fake) int {
		f.connect()
		f.send(request("pages-1.img")[:7])
		return 5
	},
	"child": func(f *fake) int { // what it leaves keeps the connection, in the middle of a message
		f.connect()
		f.send(request("pages-1.img")[:7])
		left := exec.Command("/bin/sleep", "1000")
		conn, err := unix.Dup(f.conn)
		must(err)
		left.ExtraFiles = []*os.File{os.NewFile(uintptr(conn), "conn")}
		must(left.Start())
		fmt.Printf("Error (a:1): %d\n", left.Process.Pid)
		return 3
	},
	"wrong-length":     func(f *fake) int { f.connect(); f.send([]byte{0, 0, 1, 0}); forever(); return 0 },
	"wrong-message":    func(f *fake) int { f.connect(); f.send([]byte{3, 0, 0, 0, 8, 1, 1}); forever(); return 0 },
	"wrong-name":       func(f *fake) int { f.connect(); f.send([]byte{4, 0, 0, 0, 10, 7, 'a', 'b'}); forever(); return 0 },
	"wrong-descriptor": func(f *fake) int { f.connect(); f.send(append(request("a"), 0)); forever(); return 0 },
	"shy": func(f *fake) int { // connects as a script would, and says nothing
		f.connect()
		for range mostCallers + 2 {
			fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET, 0)
			must(err)
			must(unix.Connect(fd, scriptAddress(os.Getenv(socketVar))))
			if len(os.Args) > 2 && os.Args[2] == "few" {
				break
			}
		}
		f.dump("inventory.img", "inventory")
		return f.stage(PostDump)
	},
}

// session is what a test sees of one run.
type session struct {
	*Criu
	t      *testing.T
	stages chan *Stage

	mu     sync.Mutex
	images map[string]string // captured
	offers map[string]string // to be served
}

// begin starts a fake.
func begin(t *testing.T, mode Mode, behaviour string) *session {
	t.Helper()
	s := prepare(t, mode)
	s.run(behaviour)
	return s
}

// prepare makes what a fake will be served with.
func prepare(t *testing.T, mode Mode) *session {
	t.Helper()
	s := &session{t: t, stages: make(chan *Stage, 10), images: make(map[string]string), offers: make(map[string]string)}
	var err error
	s.Criu, err = New(mode, Handler{
		Offer: func(name string) bool { return s.offers[name] != "" },
		Image: s.image,
		Stage: func(stage *Stage) { s.stages <- stage },
	})
	if err != nil {
		t.Fatal(err)
	}
	dir := s.dir.Path
	t.Cleanup(func() {
		s.Kill()
		s.Close()
		if _, err := os.Lstat(dir); dir != "" && err == nil {
			t.Errorf("%s is left behind", dir)
		}
	})
	return s
}

// run starts a fake.
func (s *session) run(behaviour string, args ...string) {
	s.t.Helper()
	verb := "dump"
	if s.mode == Serve {
		verb = "restore"
		s.offers["inventory.img"], s.offers["pages-1.img"] = "inventory", strings.Repeat("page", 100<<10)
	}
	self, err := os.Executable()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := s.Start(Command{Path: self, Args: append(append([]string{verb}, args...), fakeArg+behaviour),
		Environment: []string{"PATH=/of/criu"}, InSession: s.mode == Serve}); err != nil {
		s.t.Fatal(err)
	}
}

func (s *session) image(name string, pipe int) error {
	dup, err := unix.Dup(pipe) // the pipe is not this function's to close
	if err != nil {
		return err
	}
	file := os.NewFile(uintptr(dup), name)
	defer file.Close()
	if s.mode == Serve {
		if _, err := io.WriteString(file, s.offers[name]); !errors.Is(err, unix.EPIPE) {
			return err
		}
		return nil
	}
	content, err := io.ReadAll(file)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.images[name] = string(content)
	return err
}

// patience is how long anything may take that has to come.
const patience = time.Minute

// stage waits for a stage to be reported.
func (s *session) stage(name string) *Stage {
	s.t.Helper()
	select {
	case stage := <-s.stages:
		if stage.Name != name {
			s.t.Fatalf("stage %s, want %s", stage.Name, name)
		}
		return stage
	case <-s.Done():
		s.t.Fatalf("it ends (%v, %q, %v) before %s", s.Status(), s.Errors(), s.Failure(), name)
	case <-time.After(patience):
		s.t.Fatalf("%s does not come", name)
	}
	return nil
}

// end waits for the end.
func (s *session) end() unix.WaitStatus {
	s.t.Helper()
	select {
	case <-s.Done():
	case <-time.After(patience):
		s.t.Fatal("it does not end")
	}
	s.AwaitImages()
	return s.Status()
}

// says waits for an error in the log.
func (s *session) says(text string) {
	s.t.Helper()
	for deadline := time.Now().Add(patience); !slices.Contains(s.Errors(), text); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Fatalf("it says %q, want %q", s.Errors(), text)
		}
	}
}

// checkEnd checks how criu has ended by itself.
func (s *session) checkEnd(status int) {
	s.t.Helper()
	if end := s.end(); !end.Exited() || end.ExitStatus() != status {
		s.t.Errorf("it ends with %#x, want exit status %d; it says %q, on our side %v", int(end), status, s.Errors(), s.Failure())
	}
}

func TestDump(t *testing.T) {
	s := begin(t, Capture, "dump")
	stage := s.stage(PostDump)
	if stage.Root != 4185 {
		t.Errorf("root %d", stage.Root)
	}
	s.AwaitImages()
	if s.images["inventory.img"] != "inventory" || s.images["pages-1.img"] != strings.Repeat("page", 100<<10) {
		t.Errorf("%d images; inventory.img is %q, pages-1.img has %d bytes", len(s.images), s.images["inventory.img"], len(s.images["pages-1.img"]))
	}
	if !stage.Answer(true) {
		t.Error("the answer does not count")
	}
	if stage.Answer(true) {
		t.Error("a second answer counts")
	}
	s.checkEnd(0)
	if s.Failure() != nil || s.Stopped() {
		t.Errorf("%v, %v", s.Failure(), s.Stopped())
	}
}

// TestLateAnswer: the answer is given by another goroutine, when the function that
// the stage was reported to has long returned. Meanwhile criu waits.
func TestLateAnswer(t *testing.T) {
	for _, yes := range []bool{true, false} {
		t.Run(fmt.Sprint(yes), func(t *testing.T) {
			s := begin(t, Capture, "dump")
			stage := s.stage(PostDump)
			select {
			case <-s.Done():
				t.Fatal("it does not wait")
			case <-time.After(300 * time.Millisecond):
			}
			counts := make(chan bool)
			go func() { counts <- stage.Answer(yes) }()
			if !<-counts {
				t.Error("the answer does not count")
			}
			if yes {
				s.checkEnd(0)
				return
			}
			s.checkEnd(1)
			if !slices.Equal(s.Errors(), []string{"the script said no"}) {
				t.Errorf("errors %q", s.Errors())
			}
		})
	}
}

func TestFiles(t *testing.T) {
	s := begin(t, Files, "files")
	s.stage(PostDump).Answer(true)
	s.checkEnd(0)
}

func TestRestore(t *testing.T) {
	s := begin(t, Serve, "restore")
	s.stage(PostRestore).Answer(true)
	s.stage(PreResume).Answer(true)
	s.checkEnd(0)
	if want := []string{"inventory.img true 9", "missing.img false 0", "pages-1.img true 409600"}; !slices.Equal(s.Errors(), want) {
		t.Errorf("it has read %q, want %q", s.Errors(), want)
	}
}

// TestContinueHeld: where nobody answers the last stage, the action script continues what is
// stopped, and was not to be.
func TestContinueHeld(t *testing.T) {
	tree := exec.Command("/bin/sh", "-c", "sh -c 'kill -STOP $$' & kill -STOP $$; wait")
	tree.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := tree.Start(); err != nil {
		t.Fatal(err)
	}
	root := tree.Process.Pid
	defer tree.Wait()
	defer unix.Kill(-root, unix.SIGKILL)
	state := func(pid int) byte {
		p, err := proc.Read(pid)
		if err != nil {
			return 0
		}
		return p.State
	}
	until := func(what string, is func() bool) {
		t.Helper()
		for begin := time.Now(); !is(); time.Sleep(time.Millisecond) {
			if time.Since(begin) > time.Minute {
				t.Fatalf("waited in vain for %s", what)
			}
		}
	}
	child := 0
	until("both to stop", func() bool {
		children, _ := proc.Children(root)
		for _, pid := range children {
			if child = pid; state(pid) == 'T' && state(root) == 'T' {
				return true
			}
		}
		return false
	})
	run := func(env ...string) {
		t.Helper()
		script := exec.Command(proc.Self())
		script.Env = append(env, stageVar+"="+PostResume, socketVar+"=blcr-cli-none", fmt.Sprintf("CRTOOLS_INIT_PID=%d", root))
		if err := script.Run(); err != nil {
			t.Error(err)
		}
	}
	run()
	if state(root) != 'T' {
		t.Error("continued without having been held")
	}
	run(fmt.Sprintf("%s=1 %d", stoppedVar, child))
	until("the root to run", func() bool { return state(root) == 'S' })
	if state(child) != 'T' {
		t.Error("continued although it was to be stopped")
	}
	_ = unix.Kill(root, unix.SIGSTOP)
	run(stoppedVar + "=")
	until("both to run", func() bool { return state(root) != 'T' && state(child) != 'T' })
}

// TestUnread: criu need not read an image to its end.
func TestUnread(t *testing.T) {
	s := begin(t, Serve, "unread")
	s.stage(PreResume).Answer(true)
	s.checkEnd(0)
	if s.Failure() != nil {
		t.Error(s.Failure())
	}
}

// TestNoScript: a criu that ends without a stage is a criu that ends.
func TestNoScript(t *testing.T) {
	s := begin(t, Capture, "noscript")
	s.checkEnd(0)
	if len(s.stages) > 0 {
		t.Error("a stage was reported")
	}
}

// TestStop: a criu that does not notice that it is no longer served is killed,
// though it sends half a message and waits.
func TestStop(t *testing.T) {
	for _, behaviour := range []string{"hang", "hang-half"} {
		t.Run(behaviour, func(t *testing.T) {
			s := begin(t, Capture, behaviour)
			s.says("here")
			s.Stop()
			s.Insist(func() Hold { return HoldsNothing })
			if end := s.end(); !end.Signaled() || end.Signal() != unix.SIGKILL {
				t.Errorf("it ends with %#x", int(end))
			}
			if s.Failure() != nil || !s.Stopped() {
				t.Errorf("%v, %v", s.Failure(), s.Stopped())
			}
		})
	}
}

// TestInsistHarmful: criu is not killed while it holds a process.
func TestInsistHarmful(t *testing.T) {
	s := begin(t, Capture, "hang")
	s.says("here")
	s.Stop()
	asked := 0
	s.Insist(func() Hold {
		asked++
		if asked < 3 {
			return HoldsRunning
		}
		select {
		case <-s.process.done:
			t.Error("it was killed before")
		default:
		}
		if asked == 4 { // it has seized a process just before it was stopped
			return HoldsRunning
		}
		return HoldsNothing
	})
	if asked < 6 {
		t.Errorf("it was killed after %d answers, of which one said that it holds a process", asked)
	}
	s.end()
}

// TestInsistFrozen: a criu whose processes cannot run is left alone, and goes on.
func TestInsistFrozen(t *testing.T) {
	s := begin(t, Capture, "hang")
	s.says("here")
	s.Stop()
	begin := time.Now()
	if s.Insist(func() Hold { return HoldsFrozen }) {
		t.Error("it is said to be over")
	}
	if took := time.Since(begin); took < leaveAfter || !s.Stopped() {
		t.Errorf("left after %v", took)
	}
	if err := unix.Kill(s.PID(), 0); err != nil {
		t.Error(err)
	}
	s.Kill()
	s.end()
}

// TestForbidFiles: a criu that writes its files itself fails at once when it is stopped.
func TestForbidFiles(t *testing.T) {
	s := begin(t, Files, "writes")
	s.says("here")
	s.Stop()
	s.checkEnd(27)
}

// TestStopped: a criu that was stopped by a signal is continued, to notice that it
// is no longer served.
func TestStopped(t *testing.T) {
	s := begin(t, Capture, "stopped")
	s.says("here")
	s.Stop()
	s.Insist(func() Hold { return HoldsRunning })
	s.checkEnd(7)
}

// TestStopStage: a stage that waits for its answer is answered by Stop.
func TestStopStage(t *testing.T) {
	s := begin(t, Capture, "dump")
	stage := s.stage(PostDump)
	s.Stop()
	if stage.Answer(true) {
		t.Error("an answer after Stop counts")
	}
	s.checkEnd(1)
}

// TestDies: an image ends where criu was killed, and that is no failure on our
// side.
func TestDies(t *testing.T) {
	s := begin(t, Capture, "dies")
	if end := s.end(); !end.Signaled() || end.Signal() != unix.SIGKILL {
		t.Errorf("it ends with %#x", int(end))
	}
	if s.images["pages-1.img"] != "half" || s.Failure() != nil {
		t.Errorf("%q, %v", s.images, s.Failure())
	}
}

func TestKilledInStage(t *testing.T) {
	s := begin(t, Capture, "dump")
	stage := s.stage(PostDump)
	s.Kill()
	if end := s.end(); !end.Signaled() {
		t.Errorf("it ends with %#x", int(end))
	}
	if stage.Answer(true) {
		t.Error("the answer to a criu that was killed counts")
	}
}

// TestDiesAsking: the end of a criu in the middle of a message is told by how it has ended.
func TestDiesAsking(t *testing.T) {
	s := begin(t, Capture, "dies-asking")
	s.checkEnd(5)
	if err := s.Failure(); err != nil {
		t.Errorf("failure %v", err)
	}
}

// TestLeftChild: a process that criu leaves behind in the middle of a message keeps
// nothing up, and is ended as an orphan if it is known.
func TestLeftChild(t *testing.T) {
	s := begin(t, Capture, "child")
	s.checkEnd(3)
	var pid int
	fmt.Sscan(s.Errors()[0], &pid)
	s.EndOrphans(func(p int) bool { return p == pid })
	if err := unix.Kill(pid, 0); err != unix.ESRCH {
		t.Errorf("process %d: %v", pid, err)
	}
}

func TestWrongBytes(t *testing.T) {
	for _, behaviour := range []string{"wrong-length", "wrong-message", "wrong-name", "wrong-descriptor"} {
		t.Run(behaviour, func(t *testing.T) {
			s := begin(t, Capture, behaviour)
			for deadline := time.Now().Add(patience); !s.Stopped(); time.Sleep(time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatal("it is not stopped")
				}
			}
			s.Kill()
			s.end()
			var errno syscall.Errno
			if err := s.Failure(); !errors.As(err, &errno) || errno != unix.EPROTO {
				t.Errorf("failure %v", err)
			}
		})
	}
}

// TestSilentCaller: what connects as an action script and sends nothing keeps
// neither images nor the script up: not at all as long as there are few, and not
// for ever where there are many.
func TestSilentCaller(t *testing.T) {
	for _, many := range []bool{false, true} {
		t.Run(fmt.Sprint(many), func(t *testing.T) {
			s := prepare(t, Capture)
			if many {
				s.callerLimit = 2 * time.Second
				s.run("shy")
			} else {
				s.callerLimit = time.Hour
				s.run("shy", "few")
			}
			s.stage(PostDump).Answer(true)
			s.checkEnd(0)
			if s.images["inventory.img"] != "inventory" {
				t.Errorf("images %q", s.images)
			}
		})
	}
}

// TestEnvironment: criu gets no configuration and no variable of the caller's.
func TestEnvironment(t *testing.T) {
	for _, name := range []string{"HOME", "CRIU_CONFIG_FILE", "LD_LIBRARY_PATH", "PATH", "CRTOOLS_SCRIPT_ACTION"} {
		t.Setenv(name, "/somebody/else")
	}
	for _, mode := range []Mode{Capture, Serve, Files} {
		s := begin(t, mode, "tells")
		s.checkEnd(0)
		if want := []string{"PATH=/of/criu"}; !slices.Equal(s.Errors(), want) {
			t.Errorf("environment %q, want %q", s.Errors(), want)
		}
	}
}

// TestGroupSignals: a criu does not end by a signal that was sent to its process group, or to
// all processes of a batch job, nor does what it starts.
func TestGroupSignals(t *testing.T) {
	script := "true"
	for _, sig := range groupSignals {
		script += fmt.Sprintf("; kill -%d $$; /bin/sh -c 'kill -%[1]d $$'", int(sig))
	}
	for mode, inSession := range map[Mode]bool{Serve: true, Capture: false, Files: false} {
		s := prepare(t, mode)
		if err := s.Start(Command{Path: "/bin/sh", Args: []string{"-c", script + " && exit 7"}, InSession: inSession}); err != nil {
			t.Fatal(err)
		}
		s.checkEnd(7)
	}
}

// TestImageFails: an image that cannot be moved stops criu.
func TestImageFails(t *testing.T) {
	c, err := New(Capture, Handler{
		Image: func(string, int) error { return unix.ENOSPC },
		Stage: func(s *Stage) { s.Answer(true) },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(Command{Path: self, Args: []string{"dump", fakeArg + "dump"}}); err != nil {
		t.Fatal(err)
	}
	<-c.Done()
	if c.Failure() != unix.ENOSPC || c.Status() == 0 {
		t.Errorf("%v, status %#x", c.Failure(), int(c.Status()))
	}
}

// TestNotStarted: what does not exist cannot be run, and nothing is left behind.
func TestNotStarted(t *testing.T) {
	c, err := New(Capture, Handler{})
	if err != nil {
		t.Fatal(err)
	}
	dir := c.dir.Path
	if err := c.Start(Command{Path: "/nonexistent"}); !errors.Is(err, unix.ENOENT) {
		t.Error(err)
	}
	if log := c.Errors(); log != nil {
		t.Errorf("it has logged %q", log)
	}
	c.Stop()
	c.Insist(func() Hold { return HoldsNothing })
	c.Close()
	if _, err := os.Lstat(dir); !os.IsNotExist(err) {
		t.Errorf("%s: %v", dir, err)
	}
}

func TestLog(t *testing.T) {
	var l log
	l.add([]byte("(00.1) 12: Error (criu/a.c:1): one\nWarn  (criu/b.c:2): two\nError (criu/c.c:3): rlimit: Can't setup RLIMIT_NOFILE for 1: no\nErr"))
	l.add([]byte("or (criu/d.c:4):  three \n"))
	l.add(bytes.Repeat([]byte("x"), 2*longestLine))
	l.add([]byte("\n"))
	if want := []string{"one", "three"}; !slices.Equal(l.Errors(), want) {
		t.Errorf("%q, want %q", l.Errors(), want)
	}
	for i := range 100 {
		l.add(fmt.Appendf(nil, "Error (e.c:5): %d\n", i))
	}
	if e := l.Errors(); len(e) != mostErrors || e[0] != "one" || e[len(e)-1] != "99" {
		t.Errorf("%d lines, %q", len(e), e)
	}
}
