package harness

import (
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const roleVar = "BLCR_CLI_TEST_ROLE"

func TestMain(m *testing.M) {
	if os.Getenv(roleVar) == "started" {
		started()
	}
	os.Exit(Main(m))
}

// started says what is left of a bad start.
func started() {
	Start()
	status, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(status)) {
		if strings.HasPrefix(line, "SigIgn:") {
			os.Stdout.WriteString(line)
		}
	}
	// Where the process group is orphaned the kernel discards this.
	unix.Kill(os.Getpid(), unix.SIGTSTP)
	time.Sleep(2 * Patience) // which thread takes the signal is the kernel's choice
	os.Exit(0)
}

// TestStart starts a process in an orphaned process group, with signals ignored.
func TestStart(t *testing.T) {
	cmd := exec.Command("/bin/sh", "-c", "trap '' INT QUIT TSTP TTIN TTOU HUP; /proc/self/exe & wait $!; echo $?")
	cmd.Args[2] = strings.ReplaceAll(cmd.Args[2], "/proc/self/exe", executable(t))
	cmd.Env = append(os.Environ(), roleVar+"=started")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd.Stdout = w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	defer cmd.Wait()
	defer syscall.Kill(cmd.Process.Pid, syscall.SIGKILL)
	buf := make([]byte, 100)
	n, _ := r.Read(buf)
	if got := string(buf[:n]); got != "SigIgn:\t0000000000000000\n" {
		t.Errorf("%q", got)
	}
	child := stopped(t, cmd.Process.Pid)
	unix.Kill(child, unix.SIGKILL)
}

func executable(t *testing.T) string {
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// stopped waits until a child of pid is stopped, and returns it.
func stopped(t *testing.T, pid int) int {
	t.Helper()
	Poll(t, "a stopped child", func() bool { return childIn(pid, 'T') != 0 })
	return childIn(pid, 'T')
}

func childIn(pid int, state byte) int {
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		b, _ := os.ReadFile("/proc/" + e.Name() + "/stat")
		s := string(b)
		if f := strings.Fields(s[strings.LastIndexByte(s, ')')+1:]); len(f) > 1 && f[0][0] == state {
			var n int
			for _, c := range e.Name() {
				n = 10*n + int(c-'0')
			}
			if p, _, _ := parentOf(n); p == pid {
				return n
			}
		}
	}
	return 0
}

// TestOwnNetwork has the port of the FTB agents twice: nobody else has it there.
func TestOwnNetwork(t *testing.T) {
	if !OwnNetwork(t) {
		return
	}
	l, err := net.Listen("tcp4", "127.0.0.1:10809")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}
