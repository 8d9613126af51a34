package atwork

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// roleVar makes the test binary a process with a claim.
const roleVar = "ATWORK_TEST_ROLE"

// dirVar is the directory of the lock file.
const dirVar = "ATWORK_TEST_DIR"

func TestMain(m *testing.M) {
	directories = func(uid int) []string {
		if uid != os.Geteuid() {
			return nil
		}
		return []string{os.Getenv(dirVar) + "/blcr-cli"}
	}
	switch os.Getenv(roleVar) {
	case "":
		dir, err := os.MkdirTemp("", "atwork")
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Setenv(dirVar, dir)
		status := m.Run()
		os.RemoveAll(dir)
		os.Exit(status)
	case "claimed": // claims itself, and starts a process that inherits the claim
		claim := New(os.Getpid(), -1)
		if claim.FD() < 0 {
			fmt.Println("no claim")
			os.Exit(1)
		}
		_, _ = unix.FcntlInt(uintptr(claim.FD()), unix.F_SETFD, 0)
		heir := exec.Command("/proc/self/exe")
		heir.Env = append(os.Environ(), roleVar+"=heir", "FD="+strconv.Itoa(claim.FD()), "CLAIMED="+strconv.Itoa(os.Getpid()))
		heir.Stdin, heir.Stdout, heir.Stderr = os.Stdin, os.Stdout, os.Stderr
		if err := heir.Start(); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		claim.Close()
		os.Stdout.Close() // only the other process keeps it open
		for {
			_ = unix.Pause()
		}
	case "heir": // inherits the claim, and keeps it until its input ends
		fd, _ := strconv.Atoi(os.Getenv("FD"))
		pid, _ := strconv.Atoi(os.Getenv("CLAIMED"))
		Inherited(fd)
		fmt.Println(os.Getpid(), Claimed(pid))
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}
}

// TestClaim checks a claim from its creation to its end.
func TestClaim(t *testing.T) {
	process := exec.Command("/proc/self/exe")
	process.Env = append(os.Environ(), roleVar+"=claimed")
	input, err := process.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	output, err := process.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = process.Process.Kill()
		_ = process.Wait()
	})
	line, err := bufio.NewReader(output).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	var heir int
	var own bool
	if _, err := fmt.Sscan(line, &heir, &own); err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	if own {
		t.Error("the heir takes its own claim for another one's")
	}
	pid := process.Process.Pid
	if !Claimed(pid) {
		t.Error("not claimed, though the heir has the claim")
	}
	if Claimed(os.Getpid()) || Claimed(heir) || Claimed(1<<22) {
		t.Error("a process is claimed that has no claim")
	}
	input.Close()
	// The claim ends with the process that has inherited it. That is an orphan, for
	// which this process cannot wait; but its output ends with it.
	_, _ = io.Copy(io.Discard, output)
	if Claimed(pid) {
		t.Error("still claimed, though the descriptor is closed everywhere")
	}
}

// TestAvoid: the descriptor has another number than the one to avoid.
func TestAvoid(t *testing.T) {
	probe := New(os.Getpid(), -1)
	if probe.FD() < 0 {
		t.Fatal("no claim can be had")
	}
	number := probe.FD()
	probe.Close()
	claim := New(os.Getpid(), number)
	defer claim.Close()
	if claim.FD() < 0 || claim.FD() == number {
		t.Errorf("descriptor %d, to be avoided is %d", claim.FD(), number)
	}
}
