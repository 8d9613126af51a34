package stream

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/proc"
	"blcr-cli/internal/reexec"
	"blcr-cli/internal/signals"
)

// Criu runs an action script at certain stages of its work and waits for it. The
// script is this program: it connects to the process that has started criu,
// sends the stage, and exits with the answer. Criu closes the script's
// descriptors, so the name of the socket is in the environment. It is in the
// abstract namespace, where nothing is left behind.

// socketVar is the variable that has the name of the socket, without its NUL.
const socketVar = "_BLCR_CLI_HOOK"

// stoppedVar is the variable that has Command.Stopped.
const stoppedVar = "_BLCR_CLI_STOPPED"

// stageVar is the variable by which criu tells its action script the stage.
const stageVar = "CRTOOLS_SCRIPT_ACTION"

// The stages that are reported, by criu's names.
const (
	PostDump    = "post-dump"    // everything is written, the processes are frozen
	PostRestore = "post-restore" // all processes are there, none runs
	PreResume   = "pre-resume"   // the same, and they have left criu's code
	PostResume  = "post-resume"  // criu has let go of them; the answer does not matter
)

// Exit statuses of the script. Criu fails at any other than 0: it lets the
// processes run on after a dump, and kills them after a restore; see KillRestored.
const (
	scriptYes = 0
	scriptNo  = 1
)

func init() {
	reexec.Register(reexec.Role{
		Name: "action-script",
		// Criu starts it.
		Asked: func() bool { return os.Getenv(socketVar) != "" && os.Getenv(stageVar) != "" },
		Run: func([]int, []string) int {
			// A signal to the whole process group is not for this process.
			signals.KeepIgnored()
			return script()
		},
	})
}

// script is the action script. On amd64 the commands do the same in their entry point,
// without the Go runtime (hook_amd64.s in package entry), but for what follows where nobody
// answers PreResume, and a no to PostResume. It returns the exit status that tells criu the
// answer: no if the process that has started criu is gone.
func script() int {
	switch stage := os.Getenv(stageVar); stage {
	case PostDump, PostRestore:
		return ask(stage)
	case PreResume:
		answer := ask(stage)
		if answer != scriptYes {
			KillRestored(root())
		}
		return answer
	case PostResume:
		if ask(stage) != scriptYes {
			continueHeld()
		}
	}
	return scriptYes
}

// root is the root process, in the pid namespace of criu and its script, 0 if it is not known.
func root() int {
	pid, _ := strconv.Atoi(os.Getenv("CRTOOLS_INIT_PID"))
	return max(pid, 0)
}

// KillRestored kills the root process where PreResume is not answered with yes: criu lets the
// processes run all the same, but not where the first one is gone: then it fails, and kills the
// others.
func KillRestored(root int) {
	if root > 0 {
		_ = unix.Kill(root, unix.SIGKILL)
	}
}

// continueHeld continues the processes that Command.Stopped speaks of, children before
// their parents, which then do not find them stopped.
func continueHeld() {
	list, some := os.LookupEnv(stoppedVar)
	root := root()
	if !some || root == 0 {
		return
	}
	stopped := strings.Fields(list)
	tree, _ := proc.Descend(root)
	for _, pid := range slices.Backward(tree) {
		if slices.Contains(stopped, strconv.Itoa(pid)) {
			continue
		}
		p, err := proc.Read(pid)
		if err == nil && (p.State == 'T' || proc.Deliverable(pid)&(1<<(unix.SIGSTOP-1)) != 0) {
			_ = unix.Kill(pid, unix.SIGCONT)
		}
	}
}

// ask asks the process that has started criu, and returns the answer.
func ask(stage string) int {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = unix.Connect(fd, scriptAddress(os.Getenv(socketVar)))
	}
	if err == nil {
		_, err = unix.Write(fd, []byte(stage+" "+os.Getenv("CRTOOLS_INIT_PID")))
	}
	if err != nil {
		return scriptNo
	}
	answer := make([]byte, 1)
	for {
		switch n, err := unix.Read(fd, answer); {
		case err == unix.EINTR:
		case err == nil && n == 1:
			return int(answer[0])
		default:
			return scriptNo
		}
	}
}

func scriptAddress(name string) *unix.SockaddrUnix { return &unix.SockaddrUnix{Name: "@" + name} }

// listenScripts makes the socket that scripts connect to.
func listenScripts() (fd int, name string, err error) {
	random := make([]byte, 16)
	if _, err := rand.Read(random); err != nil {
		return -1, "", err
	}
	name = "blcr-cli-" + hex.EncodeToString(random)
	fd, err = unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, "", ckpt.SystemError("socket", "", err)
	}
	if err = unix.Bind(fd, scriptAddress(name)); err == nil {
		err = unix.Listen(fd, 4)
	}
	if err != nil {
		unix.Close(fd)
		return -1, "", ckpt.SystemError("bind", "socket", err)
	}
	return fd, name, nil
}

// Stage is a point of criu's work at which it waits for an answer.
type Stage struct {
	Name string // PostDump, PostRestore, PreResume or PostResume
	Root int    // pid of the root process in criu's pid namespace, 0 if criu does not tell

	criu *Criu
	fd   int // -1 once answered
}

// Answer lets criu go on, or makes it fail. It may be called by any goroutine. It
// reports whether this answer counts: not if there was one before, by Stop for
// one, nor if the script is gone, as when criu was killed.
func (s *Stage) Answer(yes bool) bool {
	s.criu.mu.Lock()
	defer s.criu.mu.Unlock()
	return s.answer(yes)
}

// answer is Answer for a caller that holds mu.
func (s *Stage) answer(yes bool) bool {
	if s.fd < 0 {
		return false
	}
	status := []byte{scriptNo}
	if yes {
		status[0] = scriptYes
	}
	err := unix.Sendto(s.fd, status, unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT, nil)
	unix.Close(s.fd)
	s.fd = -1
	delete(s.criu.stages, s)
	return err == nil
}

// caller is a process that has connected as a script and not sent its stage.
type caller struct {
	fd       int
	deadline time.Time
}

// A script sends its stage at once. Another program of the same user may connect
// as well, and send nothing.
const (
	callerLimit = 10 * time.Second
	mostCallers = 16 // at a time; others wait
)

// pollLimit is how long the serving goroutine may wait, in milliseconds, -1 for
// any time.
func (c *Criu) pollLimit() int {
	if len(c.callers) == 0 {
		return -1
	}
	// They are in the order of their deadlines.
	return int(max(time.Until(c.callers[0].deadline).Milliseconds()+1, 0))
}

// acceptScript takes a connection, unless it is of another user. The name of the
// socket is no secret from programs of this one.
func (c *Criu) acceptScript() {
	fd := c.acceptOn(c.scripts)
	if fd < 0 {
		return
	}
	peer, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil || int(peer.Uid) != os.Geteuid() && peer.Uid != 0 {
		unix.Close(fd)
		return
	}
	c.callers = append(c.callers, &caller{fd, time.Now().Add(c.callerLimit)})
}

// hearScripts takes what callers have sent, and drops those that are late. The
// poll results are in the order of the callers.
func (c *Criu) hearScripts(fds []unix.PollFd) {
	now := time.Now()
	before := slices.Clone(c.callers)
	c.callers = c.callers[:0]
	for i, script := range before {
		switch {
		case fds[i].Revents != 0:
			c.hear(script.fd)
		case now.After(script.deadline):
			unix.Close(script.fd)
		default:
			c.callers = append(c.callers, script)
		}
	}
}

// hear reads a script's stage and reports it. It takes fd over.
func (c *Criu) hear(fd int) {
	text := make([]byte, 128)
	n, err := unix.Read(fd, text)
	if err != nil || n <= 0 {
		unix.Close(fd)
		return
	}
	c.endLoan()
	s := &Stage{criu: c, fd: fd}
	var root string
	s.Name, root, _ = strings.Cut(string(text[:n]), " ")
	_, _ = fmt.Sscan(root, &s.Root)
	c.mu.Lock()
	c.stages[s] = true
	if c.stopped {
		s.answer(false)
	}
	waits := s.fd >= 0
	c.mu.Unlock()
	if waits {
		c.handler.Stage(s)
	}
}
