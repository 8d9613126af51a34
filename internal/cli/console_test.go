package cli

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// roleEnv makes this binary write to its stdout through FD.
const roleEnv = "CONSOLE_TEST_ROLE"

func TestMain(m *testing.M) {
	if os.Getenv(roleEnv) == "write" {
		n, err := FD(1).Write([]byte("lost"))
		fmt.Fprintln(os.Stderr, n, err)
		os.Exit(7)
	}
	os.Exit(m.Run())
}

func TestLevels(t *testing.T) {
	for _, c := range []struct {
		level  int
		stderr string
	}{
		{-1, ""},
		{0, "error 1\n- detail 50%\n- \n"},
		{1, "error 1\nnote 2\n- detail 50%\n- \n"},
		{2, "error 1\nnote 2\n- detail 50%\n- \n"},
	} {
		var stdout, stderr bytes.Buffer
		con := &Console{Stdout: &stdout, Stderr: &stderr, Level: c.level}
		con.Errorf("error %d\n", 1)
		con.Notef("note %d\n", 2)
		con.Details([]string{"detail 50%", ""})
		con.Details(nil)
		if stderr.String() != c.stderr || stdout.Len() != 0 {
			t.Errorf("level %d: stderr %q, stdout %q; want %q and nothing", c.level, stderr.String(), stdout.String(), c.stderr)
		}
	}
}

// TestZero: the zero Console prints errors, and the log of requests that fail.
func TestZero(t *testing.T) {
	var stderr bytes.Buffer
	con := &Console{Stderr: &stderr}
	con.Notef("note\n")
	con.Errorf("error\n")
	if stderr.String() != "error\n" {
		t.Errorf("stderr %q", stderr.String())
	}
	if kmsg := Kmsg(0); kmsg != KmsgError {
		t.Errorf("the zero level of kernel messages is %d", kmsg)
	}
}

// TestFDFull: a write to a full non-blocking pipe waits until there is room, and loses
// nothing.
func TestFDFull(t *testing.T) {
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pipe[0])
	text := []byte(strings.Repeat("0123456789abcde\n", 20_000)) // more than a pipe holds
	type result struct {
		n   int
		err error
	}
	written := make(chan result)
	go func() {
		n, err := FD(pipe[1]).Write(text)
		unix.Close(pipe[1])
		written <- result{n, err}
	}()
	var got []byte
	buf := make([]byte, 4096)
	for deadline := time.Now().Add(10 * time.Second); ; {
		n, err := unix.Read(pipe[0], buf)
		if err == unix.EAGAIN || err == unix.EINTR {
			if time.Now().After(deadline) {
				t.Fatalf("after %d bytes nothing more comes", len(got))
			}
			unix.Poll([]unix.PollFd{{Fd: int32(pipe[0]), Events: unix.POLLIN}}, 100)
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			break
		}
		got = append(got, buf[:n]...)
	}
	if r := <-written; r.n != len(text) || r.err != nil {
		t.Errorf("Write = %d, %v; want %d", r.n, r.err, len(text))
	}
	if !bytes.Equal(got, text) {
		t.Errorf("%d bytes came out, not the %d that went in", len(got), len(text))
	}
}

// TestFDErrors: an error is returned with the number of bytes written before it.
func TestFDErrors(t *testing.T) {
	full, err := unix.Open("/dev/full", unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(full)
	for _, c := range []struct {
		fd   FD
		text string
		want error
	}{
		{FD(full), "x", unix.ENOSPC},
		{FD(full), "", nil}, // writing nothing is not an error
		{FD(-1), "x", unix.EBADF},
	} {
		if n, err := c.fd.Write([]byte(c.text)); n != 0 || err != c.want {
			t.Errorf("FD(%d).Write(%q) = %d, %v; want %v", c.fd, c.text, n, err, c.want)
		}
	}
	var _ io.Writer = FD(0)
}

// TestFDBroken: a program continues if the reader of its output has gone. With
// os.Stdout it would die of SIGPIPE.
func TestFDBroken(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), roleEnv+"=write")
	cmd.Stdout = w
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	err = cmd.Run()
	w.Close()
	if e, ok := err.(*exec.ExitError); !ok || e.Sys().(syscall.WaitStatus) != 7<<8 || stderr.String() != "0 broken pipe\n" {
		t.Errorf("%v, stderr %q", err, stderr.String())
	}
}
