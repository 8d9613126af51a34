package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"blcr-cli/internal/cli"
	"blcr-cli/internal/ftbclient"
	"blcr-cli/internal/ftbclient/wire"
	"blcr-cli/test/ftbsim"
	"blcr-cli/test/harness"
)

// testdata/script/ftb-publish tests what a user sees. These tests are for what a script
// cannot reach.

// startAgent starts an agent that the command will find.
func startAgent(t *testing.T, fault ftbsim.Fault) *ftbsim.Agent {
	t.Helper()
	agent, err := ftbsim.Start(ftbsim.Config{Fault: fault})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(agent.Close)
	t.Setenv("FTB_AGENT_PORT", strconv.Itoa(agent.Port()))
	t.Setenv("FTB_BSTRAP_SERVER", "")
	return agent
}

// publish runs the command.
func publish(args ...string) (status int, stdout, stderr string) {
	var out, err bytes.Buffer
	status = run(append([]string{name}, args...), strings.NewReader(""), &out, &err)
	return status, out.String(), err.String()
}

// decode reads the line of --json.
func decode(t *testing.T, line string) map[string]any {
	t.Helper()
	var members map[string]any
	if err := json.Unmarshal([]byte(line), &members); err != nil || strings.Count(line, "\n") != 1 || !strings.HasSuffix(line, "\n") {
		t.Fatalf("%v: %q", err, line)
	}
	return members
}

// A JSON parser gets every string back unchanged.
func TestJSONStrings(t *testing.T) {
	startAgent(t, ftbsim.Fault{})
	for _, s := range []string{"", `"`, `\`, "\n\t\x01\x7f", "<&>", "é\u2028", "{}[],:"} {
		status, out, _ := publish("--space", "SITE.a.b", "--json", "--client-name", s, "--jobid", s, "X")
		if status != 0 {
			t.Fatalf("%q: status %d", s, status)
		}
		if m := decode(t, out); m["client_name"] != s || m["jobid"] != s || m["published"] != true || m["status"] != 0.0 {
			t.Errorf("%q: %v", s, m)
		}
	}
	// Bytes that are not UTF-8 do not make the JSON invalid.
	_, out, _ := publish("--space", "SITE.a.b", "--json", "--client-name", "a\xffb", "X")
	if m := decode(t, out); m["client_name"] != "a\ufffdb" {
		t.Errorf("%v", m)
	}
}

// The manual page lists the members, and no others.
func TestJSONMembers(t *testing.T) {
	agent := startAgent(t, ftbsim.Fault{})
	_, published, _ := publish("--space", "SITE.a.b", "--json", "X")
	agent.Close()
	_, failed, _ := publish("--space", "SITE.a.b", "--json", "X")
	members := decode(t, published)
	maps.Copy(members, decode(t, failed))

	page, err := os.ReadFile("../../man/ftb-publish.1")
	if err != nil {
		t.Fatal(err)
	}
	var listed []string
	for _, m := range regexp.MustCompile(`(?m)^\.It Cm (.*)$`).FindAllStringSubmatch(string(page), -1) {
		listed = append(listed, strings.Split(m[1], " , ")...)
	}
	slices.Sort(listed)
	if got := slices.Sorted(maps.Keys(members)); !slices.Equal(got, listed) {
		t.Errorf("members %q, in the manual page %q", got, listed)
	}
}

// The handle is the same that a subscriber gets.
func TestHandle(t *testing.T) {
	agent := startAgent(t, ftbsim.Fault{})
	_, out, _ := publish("--space", "SITE.a.b", "--print-handle", "X")
	if err := agent.Settle(harness.Patience); err != nil {
		t.Fatal(err)
	}
	h := agent.Events()[0].Handle()
	b, err := h.Encode(nil)
	if want := fmt.Sprintf("%x\n", b); err != nil || out != want {
		t.Errorf("got %swant %s", out, want)
	}
	if problems := agent.Problems(); len(problems) > 0 {
		t.Error(problems)
	}
}

// The time limit is kept, and without need no time is spent waiting.
func TestTime(t *testing.T) {
	const long = 40 * time.Second // less than the limit of the cases that must not wait
	for _, test := range []struct {
		fault    string
		timeout  string
		min, max time.Duration
		status   int
	}{
		{"stall", "0.3", 300 * time.Millisecond, long, statusTimeout},
		{"starting", "0.3", 300 * time.Millisecond, long, statusTimeout},
		{"part", "0.3", 300 * time.Millisecond, long, statusTimeout},
		{"stall", "", 2 * time.Second, long, statusTimeout},
		{"refuse", "60", 0, long, statusNoAgent},
		{"close", "60", 0, long, statusProtocol},
		{"", "60", 0, long, 0},
	} {
		fault, err := ftbsim.ParseFault(test.fault)
		if err != nil {
			t.Fatal(err)
		}
		startAgent(t, fault)
		args := []string{"--space", "SITE.a.b", "X"}
		if test.timeout != "" {
			args = append(args, "--timeout", test.timeout)
		}
		start := time.Now()
		status, _, stderr := publish(args...)
		if took := time.Since(start); status != test.status || took < test.min || took > test.max {
			t.Errorf("%s: status %d after %v: %s", test.fault, status, took, stderr)
		}
	}
}

// An error while the input is read is an error of the command, not the end of the
// payload.
func TestInput(t *testing.T) {
	agent := startAgent(t, ftbsim.Fault{})
	for _, stdin := range []io.Reader{
		iotest.ErrReader(syscall.EIO),
		io.MultiReader(strings.NewReader("half"), iotest.ErrReader(&os.PathError{Op: "read", Path: "/dev/stdin", Err: syscall.EIO})),
	} {
		var out, err bytes.Buffer
		status := run([]string{name, "--space", "SITE.a.b", "--payload-file", "-", "X"}, stdin, &out, &err)
		if want := "ftb-publish: standard input: input/output error\n"; status != statusArgument || err.String() != want || out.Len() > 0 {
			t.Errorf("status %d, %q", status, err.String())
		}
	}
	if n := len(agent.Connections()); n > 0 {
		t.Errorf("%d connections", n)
	}
}

// Each kind of error has its own exit status, and a message of one line.
func TestFailures(t *testing.T) {
	for _, test := range []struct {
		err    error
		status int
		text   string
	}{
		{&argumentError{"--x", "why"}, 2, "--x: why"},
		{&argumentError{"", "why"}, 2, "why"},
		{&argumentError{"a\nb", "why"}, 2, `a\nb: why`},
		{&ftbclient.Error{Op: "check", Object: `job id "x"`, Kind: ftbclient.ErrInvalid, Err: errors.New("why")}, 2, `job id "x": why`},
		{&ftbclient.Error{Op: "connect", Object: "127.0.0.1:1", Kind: ftbclient.ErrNoAgent, Err: syscall.ECONNREFUSED}, 3, "no FTB agent: connect 127.0.0.1:1: connection refused"},
		{&ftbclient.Error{Op: "handshake", Object: "127.0.0.1:1", Kind: ftbclient.ErrTimeout}, 4, "timed out: handshake 127.0.0.1:1"},
		{&ftbclient.Error{Op: "handshake", Object: "127.0.0.1:1", Kind: ftbclient.ErrProtocol, Err: &wire.FieldError{Field: "hostname", Size: 64, Value: "\n"}}, 5, "not an FTB agent's answer: handshake 127.0.0.1:1: hostname has no end"},
		{&ftbclient.Error{Op: "publish", Object: "127.0.0.1:1", Kind: ftbclient.ErrLost, Err: syscall.EPIPE}, 5, "connection to the FTB agent lost: publish 127.0.0.1:1: broken pipe"},
		{&cli.OutputError{Err: syscall.ENOSPC}, 1, "standard output: no space left on device"},
	} {
		if got := status(test.err); got != test.status {
			t.Errorf("%v: status %d, want %d", test.err, got, test.status)
		}
		if got := message(test.err); got != test.text {
			t.Errorf("message %q, want %q", got, test.text)
		}
	}
}
