package main

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"blcr-cli/internal/ftbclient"
	"blcr-cli/test/ftbsim"
)

// roleVar makes the test binary be the command, or a client of it.
const roleVar = "FTBSIM_TEST_ROLE"

func TestMain(m *testing.M) {
	role := os.Getenv(roleVar)
	os.Unsetenv(roleVar)
	switch role {
	case "ftbsim":
		// The program that it runs is a client.
		os.Setenv(roleVar, "client")
		os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
	case "client":
		os.Exit(client())
	}
	os.Exit(m.Run())
}

// client publishes an event with what the environment says.
func client() int {
	config := ftbclient.LoadConfig(os.LookupEnv)
	conn, err := ftbclient.Dial(config, ftbclient.Identity{Space: "FTB.test.ftbsim"}, time.Now().Add(2*time.Second))
	if err == nil {
		_, err = conn.Publish(ftbclient.Event{Name: "E", Severity: "INFO", Type: 1})
	}
	if err == nil {
		err = conn.Close()
	}
	if err != nil {
		fmt.Println(err)
		return 3
	}
	return 0
}

func command(args ...string) *exec.Cmd {
	c := exec.Command("/proc/self/exe", args...)
	c.Env = append(os.Environ(), roleVar+"=ftbsim")
	return c
}

func TestProgram(t *testing.T) {
	const event = `^1 E INFO FTB\.test\.ftbsim connection=1 seq=1 type=1\n`
	for _, test := range []struct {
		args   []string
		status int
		out    string // expression for both streams
	}{
		{[]string{"/proc/self/exe"}, 0, event + `$`},
		{[]string{"-handles", "--", "/proc/self/exe"}, 0, event + `[0-9a-f]{720}\n$`},
		{[]string{"-bootstrap", "0.6.2", "/proc/self/exe"}, 0, event + `$`},
		{[]string{"-bootstrap", "0.6.1", "/proc/self/exe"}, 0, event + `$`},
		{[]string{"-bootstrap", "none", "/proc/self/exe"}, 3, `no FTB agent`},
		{[]string{"-fault", "refuse", "/proc/self/exe"}, 3, `connection refused`},
		{[]string{"-fault", "reset", "/proc/self/exe"}, 3, `connection reset`},
		{[]string{"sh", "-c", "exit 7"}, 7, `^$`},
		{[]string{"sh", "-c", "kill -TERM $$"}, 143, `^$`},
		{[]string{"/nosuch"}, 127, `^ftbsim: `},
		{[]string{"-fault", "nosuch"}, 125, `no such fault(.|\n)*Usage: ftbsim`},
		{[]string{"-bootstrap", "nosuch"}, 125, `no such bootstrap server`},
		{[]string{"-nosuch"}, 125, `Usage: ftbsim`},
		{[]string{"-help"}, 0, `^Usage: ftbsim`},
	} {
		c := command(test.args...)
		out, _ := c.CombinedOutput()
		if c.ProcessState == nil {
			t.Fatalf("%q does not start", test.args)
		}
		if got := c.ProcessState.ExitCode(); got != test.status || !regexp.MustCompile(test.out).Match(out) {
			t.Errorf("%q: status %d, want %d; %q", test.args, got, test.status, out)
		}
	}
}

// Without a program it is there until a signal comes.
func TestAlone(t *testing.T) {
	c := command()
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	c.Stderr = &stderr
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	lines.Scan()
	variable := lines.Text()
	client := exec.Command("/proc/self/exe")
	client.Env = append(os.Environ(), roleVar+"=client", variable)
	if out, err := client.CombinedOutput(); err != nil {
		t.Errorf("%s: %v: %s", variable, err, out)
	}
	lines.Scan()
	if !strings.HasPrefix(lines.Text(), "1 E INFO ") {
		t.Errorf("event %q", lines.Text())
	}
	// What no client should do.
	conn, err := net.Dial("tcp4", "127.0.0.1:"+strings.TrimPrefix(variable, "FTB_AGENT_PORT="))
	if err != nil {
		t.Fatal(err)
	}
	conn.Write([]byte("GET / HTTP/1.0\r\n\r\n"))
	conn.Read(make([]byte, 1))
	conn.Close()
	c.Process.Signal(syscall.SIGTERM)
	if err := c.Wait(); err != nil || !strings.Contains(stderr.String(), "ftbsim: problem: connection 2: ") {
		t.Errorf("%v, %q", err, stderr.String())
	}
}

// The usage has all faults and servers.
func TestUsage(t *testing.T) {
	for _, list := range []string{ftbsim.Faults, ftbsim.Bootstraps} {
		for word := range strings.SplitSeq(list, ", ") {
			word, _, _ = strings.Cut(word, "=")
			if !regexp.MustCompile(`\b` + regexp.QuoteMeta(word) + `\b`).MatchString(usage) {
				t.Errorf("%s: not in the usage", word)
			}
		}
	}
}
