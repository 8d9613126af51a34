package landlock

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/proc"
	"blcr-cli/internal/reexec"
	"blcr-cli/internal/thread"
)

const (
	kindEnv = "LANDLOCK_TEST_KIND"
	userEnv = "LANDLOCK_TEST_USER"
)

func init() {
	reexec.Register(reexec.Role{Name: "subject", Asked: func() bool { return os.Getenv(kindEnv) != "" }, Run: func([]int, []string) int {
		runtime.LockOSThread()
		if user, err := strconv.Atoi(os.Getenv(userEnv)); err == nil {
			must(syscall.Setresgid(user, user, user))
			must(syscall.Setresuid(user, user, user))
		}
		subjects[os.Getenv(kindEnv)]()
		return 0
	}})
}

func TestMain(m *testing.M) {
	if status, inner := reexec.Main(); inner {
		os.Exit(status)
	}
	os.Exit(m.Run())
}

// subjects are what the process is that is asked. It says a line when it is that, and another
// one at its end, if it comes to it.
var subjects = map[string]func(){
	"plain": func() { say("ready"); readAll() },
	"free":  func() { noNewPrivileges(); say("ready"); readAll() },
	"confined": func() {
		confine()
		say("ready")
		readAll()
	},
	"thread": func() {
		noNewPrivileges()
		done := make(chan bool)
		go func() {
			runtime.LockOSThread()
			confine()
			done <- true
			select {}
		}()
		<-done
		say("ready")
		readAll()
	},
	"filtered": func() {
		noNewPrivileges()
		const load, equal, give = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, unix.BPF_RET | unix.BPF_K
		filter := []unix.SockFilter{{Code: load}, {Code: equal, K: unix.SYS_KCMP, Jf: 1}, {Code: give, K: unix.SECCOMP_RET_KILL_PROCESS}, {Code: give, K: unix.SECCOMP_RET_ALLOW}}
		program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
		_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&program)))
		must(number(errno))
		say("ready")
		readAll()
		say("over")
	},
	"computes": func() {
		noNewPrivileges()
		ended := make(chan bool)
		go func() { readAll(); close(ended) }()
		want, rounds := compute(), 0
		say("ready")
		for {
			if got := compute(); got != want {
				say(fmt.Sprintf("round %d: %x instead of %x", rounds, got, want))
				return
			}
			rounds++
			select {
			case <-ended:
				say("right")
				return
			default:
			}
		}
	},
	"handles": func() {
		noNewPrivileges()
		caught := make(chan os.Signal, 1)
		signal.Notify(caught, unix.SIGUSR1)
		go func() {
			for range caught {
				say("caught")
			}
		}()
		say("ready")
		readAll()
		say("over")
	},
	"nanosleep": sleeps(0, func() syscall.Errno {
		_, _, errno := unix.Syscall(unix.SYS_NANOSLEEP, timespec(), 0, 0)
		return errno
	}),
	"poll": sleeps(0, func() syscall.Errno {
		_, _, errno := unix.Syscall(unix.SYS_POLL, 0, 0, uintptr(nap.Milliseconds()))
		return errno
	}),
	"ppoll": sleeps(0, func() syscall.Errno {
		var mask uint64
		_, _, errno := unix.Syscall6(unix.SYS_PPOLL, 0, 0, timespec(), uintptr(unsafe.Pointer(&mask)), unsafe.Sizeof(mask), 0)
		return errno
	}),
	"futex": sleeps(unix.ETIMEDOUT, func() syscall.Errno {
		var word uint32
		_, _, errno := unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(&word)), 0, 0, timespec(), 0, 0)
		return errno
	}),
	"read": sleeps(0, func() syscall.Errno {
		var pipe [2]int
		must(unix.Pipe(pipe[:]))
		time.AfterFunc(nap, func() { _, _ = unix.Write(pipe[1], []byte("x")) })
		var b [1]byte
		n, _, errno := unix.Syscall(unix.SYS_READ, uintptr(pipe[0]), uintptr(unsafe.Pointer(&b)), 1)
		if errno == 0 && (n != 1 || b[0] != 'x') {
			return unix.EIO
		}
		return errno
	}),
}

const nap = 400 * time.Millisecond

var napTime unix.Timespec

func timespec() uintptr {
	napTime = unix.NsecToTimespec(int64(nap))
	return uintptr(unsafe.Pointer(&napTime))
}

// sleeps is a process that sleeps once, and says how that ended.
func sleeps(want syscall.Errno, sleep func() syscall.Errno) func() {
	return func() {
		noNewPrivileges()
		say("ready")
		began := time.Now()
		errno := sleep()
		if slept := time.Since(began); errno != want || slept < nap {
			say(fmt.Sprintf("errno %d after %v", errno, slept))
			return
		}
		say("right")
	}
}

// compute takes a moment, in registers of all kinds.
func compute() uint64 {
	sum, root := uint64(14695981039346656037), 1.0
	for i := range uint64(200000) {
		sum = (sum ^ i) * 1099511628211
		root += math.Sqrt(float64(sum>>40)) * 1e-3
	}
	return sum ^ math.Float64bits(root)
}

func say(line string) { fmt.Println(line) }

func readAll() { _, _ = io.ReadAll(os.Stdin) }

func must(err error) {
	if err != nil {
		say("error: " + err.Error())
		os.Exit(1)
	}
}

func number(errno syscall.Errno) error {
	if errno != 0 {
		return errno
	}
	return nil
}

func noNewPrivileges() { must(unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) }

// confine confines the thread: it may not make directories.
func confine() {
	noNewPrivileges()
	handled := uint64(unix.LANDLOCK_ACCESS_FS_MAKE_DIR)
	fd, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&handled)), unsafe.Sizeof(handled), 0)
	must(number(errno))
	_, _, errno = unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, fd, 0, 0)
	must(number(errno))
	must(unix.Close(int(fd)))
}

// subject is such a process.
type subject struct {
	*testing.T
	cmd   *exec.Cmd
	pid   int
	lines *bufio.Reader
	stdin io.Closer
}

func newSubject(t *testing.T, kind string, env ...string) *subject {
	t.Helper()
	if _, err := proc.Shares(os.Getpid(), os.Getpid(), proc.SharedMemory); err == unix.ENOSYS {
		t.Skip("this kernel has no kcmp(2)")
	}
	cmd := exec.Command(proc.Self())
	cmd.Env = append(append(os.Environ(), kindEnv+"="+kind), env...)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // for Pdeathsig
		started <- cmd.Start()
		<-t.Context().Done()
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	s := &subject{t, cmd, cmd.Process.Pid, bufio.NewReader(stdout), stdin}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	s.says("ready")
	return s
}

// says reads the next line, which must be that.
func (s *subject) says(want string) {
	s.Helper()
	if line, err := s.lines.ReadString('\n'); line != want+"\n" {
		s.Fatalf("it says %q, %v, and not %q", line, err, want)
	}
}

// ask asks, and returns whether it is found to be confined, and how many threads have
// answered.
func (s *subject) ask() (found bool, answers int) {
	s.Helper()
	in, late := 0, 0
	thread.Run(func() { in, answers, late = find([]int{s.pid}, time.Now().Add(time.Minute)) })
	if late != 0 || in != 0 && in != s.pid {
		s.Fatalf("thread %d is late, process %d is confined", late, in)
	}
	s.released()
	return in != 0, answers
}

// released waits until it is not traced. One that was killed, or was late, is until our
// thread has ended.
func (s *subject) released() {
	s.Helper()
	for range 3000 {
		if tracer, err := proc.Tracer(s.pid); err != nil || tracer == 0 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	s.Fatal("it is still traced")
}

// state waits for one of these states of the process's first thread.
func (s *subject) state(states string) {
	s.Helper()
	for range 3000 {
		if p, err := proc.Read(s.pid); err == nil && strings.IndexByte(states, p.State) >= 0 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	s.Fatalf("it does not get into a state of %s", states)
}

func needs(t *testing.T) {
	t.Helper()
	if !Kernel() {
		t.Skip("this kernel has no Landlock")
	}
}

// TestAnswers: who is asked, and what comes of it. Nobody is left behind.
func TestAnswers(t *testing.T) {
	before, _ := proc.Children(os.Getpid())
	for _, c := range []struct {
		kind    string
		found   bool
		answers int // at least
	}{{"plain", false, 0}, {"free", false, 1}, {"confined", true, 1}, {"thread", true, 1}} {
		for _, user := range []string{"", "65534"} {
			t.Run(c.kind+user, func(t *testing.T) {
				if c.found {
					needs(t)
				}
				if user != "" && os.Getuid() != 0 {
					t.Skip("only root can become another user")
				}
				s := newSubject(t, c.kind, userEnv+"="+user)
				for range 3 {
					if found, answers := s.ask(); found != c.found || answers < c.answers || c.answers == 0 && answers != 0 {
						t.Fatalf("found to be confined: %v; %d answers", found, answers)
					}
				}
				if got := Confined([]int{os.Getpid(), s.pid}); Kernel() && (got == s.pid) != c.found {
					t.Errorf("Confined: %d", got)
				}
			})
		}
	}
	if after, _ := proc.Children(os.Getpid()); len(after) != len(before) {
		t.Errorf("children before: %v, after: %v", before, after)
	}
}

// TestSleeps: a system call that waits goes on waiting, and ends as it would have.
func TestSleeps(t *testing.T) {
	for _, kind := range []string{"nanosleep", "poll", "ppoll", "futex", "read"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := newSubject(t, kind)
			line := make(chan string)
			go func() {
				text, _ := s.lines.ReadString('\n')
				line <- text
			}()
			for asked := 0; ; asked++ {
				select {
				case got := <-line:
					if got != "right\n" || asked == 0 {
						t.Errorf("it says %q; asked %d times", got, asked)
					}
					return
				default:
					if found, _ := s.ask(); found {
						t.Fatal("it is found to be confined")
					}
				}
			}
		})
	}
}

// TestComputes: a program that computes all the time gets the right results.
func TestComputes(t *testing.T) {
	s := newSubject(t, "computes")
	for n := range 200 {
		if found, answers := s.ask(); found || answers == 0 {
			t.Fatalf("question %d: found to be confined: %v; %d answers", n, found, answers)
		}
	}
	s.stdin.Close()
	s.says("right")
}

// TestFiltered: a filter that kills for the question does not see it. Only root can
// suspend it; for others the thread is left alone.
func TestFiltered(t *testing.T) {
	s := newSubject(t, "filtered")
	want := 0
	if proc.Capable(unix.CAP_SYS_ADMIN) {
		want = 1
	}
	if found, answers := s.ask(); found || answers < want {
		t.Errorf("found to be confined: %v; %d answers instead of %d", found, answers, want)
	}
	s.stdin.Close()
	s.says("over")
}

// TestStopped: a stopped process is left alone, and one that is stopped and continued all
// the time ends up as it was told last.
func TestStopped(t *testing.T) {
	s := newSubject(t, "free")
	_ = unix.Kill(s.pid, unix.SIGSTOP)
	s.state("T")
	if found, answers := s.ask(); found || answers != 0 {
		t.Errorf("found to be confined: %v; %d answers", found, answers)
	}
	s.state("T")
	ended, stop := make(chan bool), make(chan bool)
	go func() {
		defer close(ended)
		for n := 0; ; n++ {
			select {
			case <-stop:
				return
			default:
				_ = unix.Kill(s.pid, unix.SIGCONT)
				time.Sleep(time.Duration(n%7) * 100 * time.Microsecond)
				_ = unix.Kill(s.pid, unix.SIGSTOP)
				time.Sleep(time.Duration(n%5) * 100 * time.Microsecond)
			}
		}
	}()
	for range 50 {
		s.ask()
	}
	close(stop)
	<-ended
	s.state("T")
	_ = unix.Kill(s.pid, unix.SIGCONT)
	s.state("SR")
	if found, answers := s.ask(); found || answers == 0 {
		t.Errorf("found to be confined: %v; %d answers", found, answers)
	}
	s.stdin.Close()
	if err := s.cmd.Wait(); err != nil {
		t.Error(err)
	}
}

// TestSignals: each signal is handled once.
func TestSignals(t *testing.T) {
	s := newSubject(t, "handles")
	sent, stop := make(chan int), make(chan bool)
	go func() {
		n := 0
		defer func() { sent <- n }()
		for {
			select {
			case <-stop:
				return
			default:
			}
			for _, tid := range proc.Threads(s.pid) {
				if set, _ := proc.Confined(tid); !set {
					continue
				}
				if err := unix.Tgkill(s.pid, tid, unix.SIGUSR1); err != nil {
					t.Error(err)
					return
				}
				n++
				if line, err := s.lines.ReadString('\n'); line != "caught\n" {
					t.Errorf("signal %d: it says %q, %v", n, line, err)
					return
				}
			}
		}
	}()
	for range 100 {
		if found, _ := s.ask(); found {
			t.Error("found to be confined")
		}
	}
	close(stop)
	if n := <-sent; n == 0 {
		t.Error("no signal was sent")
	}
	s.stdin.Close()
	s.says("over")
}

// TestKilled: the process may be killed at any moment, and its parent is told that.
func TestKilled(t *testing.T) {
	for n := range 20 {
		s := newSubject(t, "free")
		go func() {
			time.Sleep(time.Duration(n) * 500 * time.Microsecond)
			_ = unix.Kill(s.pid, unix.SIGKILL)
		}()
		for range 5 {
			if found, _ := s.ask(); found {
				t.Error("found to be confined")
			}
		}
		_ = s.cmd.Wait()
		if status := s.cmd.ProcessState.Sys().(syscall.WaitStatus); status.Signal() != unix.SIGKILL {
			t.Errorf("its wait status is %#x", status)
		}
	}
}

// TestLate: a thread that does not stop is let go of.
func TestLate(t *testing.T) {
	s := newSubject(t, "computes")
	thread.Run(func() {
		for _, tid := range proc.Threads(s.pid) {
			ask(s.pid, tid, os.Getpid(), false, time.Now().Add(-time.Second))
		}
	})
	s.released()
	if _, answers := s.ask(); answers == 0 {
		t.Error("it does not answer after that")
	}
	s.stdin.Close()
	s.says("right")
}
