package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"blcr-cli/internal/blcrevents"
	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/ftbclient"
	"blcr-cli/internal/ftbclient/wire"
	"blcr-cli/test/ftbsim"
	"blcr-cli/test/harness"
)

// startAgent starts an agent that the command will find.
func startAgent(t *testing.T, config ftbsim.Config) *ftbsim.Agent {
	t.Helper()
	var agent *ftbsim.Agent
	harness.Poll(t, "the port", func() bool {
		var err error
		agent, err = ftbsim.Start(config)
		return err == nil
	})
	t.Cleanup(agent.Close)
	t.Setenv("FTB_AGENT_PORT", strconv.Itoa(agent.Port()))
	t.Setenv("FTB_BSTRAP_SERVER", "")
	return agent
}

// buffer is a bytes.Buffer for several goroutines.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// watching is a command under way.
type watching struct {
	t           *testing.T
	out, stderr buffer
	status      chan int
}

// start starts the command and waits until the agent knows that it has subscribed.
func start(t *testing.T, agent *ftbsim.Agent, args ...string) *watching {
	t.Helper()
	w := &watching{t: t, status: make(chan int, 1)}
	// An earlier one is still there for a moment.
	harness.Poll(t, "the earlier ones' end", func() bool { return agent.Subscribers() == 0 })
	go func() { w.status <- run(append([]string{name}, args...), &w.out, &w.stderr) }()
	harness.Poll(t, "the subscription", func() bool { return agent.Subscribers() == 1 || len(w.status) > 0 })
	return w
}

// end waits for the end and returns the lines, in which the times are the same.
func (w *watching) end(status int) []string {
	w.t.Helper()
	if got := <-w.status; got != status {
		w.t.Errorf("status %d, want %d: %s", got, status, w.stderr.String())
	}
	text := regexp.MustCompile(`(?m)^\d{4}-\d\d-\d\d `).ReplaceAllString(w.out.String(), "")
	text = regexp.MustCompile(`\d\d:\d\d:\d\d\.\d{3}`).ReplaceAllString(text, "TIME")
	text = regexp.MustCompile(`took=\d+\.\d{3}s`).ReplaceAllString(text, "took=TIME")
	text = strings.ReplaceAll(text, "pid="+strconv.Itoa(os.Getpid()), "pid=PID")
	text = regexp.MustCompile(`host=\S+`).ReplaceAllString(text, "host=HOST")
	return slices.Collect(strings.Lines(text))
}

func (w *watching) want(status int, lines ...string) {
	w.t.Helper()
	got := w.end(status)
	if want := strings.Join(lines, "\n") + "\n"; strings.Join(got, "") != want && len(lines)+len(got) > 0 {
		w.t.Errorf("got:\n%swant:\n%s", strings.Join(got, ""), want)
	}
}

// request publishes the events of a request.
func request(operation blcrevents.Operation, errno int, env ...string) {
	lookup := func(name string) (string, bool) {
		for i := 0; i < len(env); i += 2 {
			if env[i] == name {
				return env[i+1], true
			}
		}
		return os.LookupEnv(name)
	}
	blcrevents.Begin(context.Background(), operation, -1, lookup, func(string) {}).End(syscall.Errno(errno))
}

// publish publishes one other event.
func publish(t *testing.T, id ftbclient.Identity, ev ftbclient.Event) wire.Handle {
	t.Helper()
	conn, err := ftbclient.Dial(ftbclient.LoadConfig(os.LookupEnv), id, time.Now().Add(harness.Patience))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	h, err := conn.Publish(ev)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// arrived waits until the agent has so many events. Those of different connections have
// no order before that.
func arrived(t *testing.T, agent *ftbsim.Agent, events int) {
	t.Helper()
	harness.Poll(t, "the events", func() bool { return len(agent.Events()) >= events })
}

const blcr = "FTB.checkpoint_sw.blcr host=HOST pid=PID"

// A line for each event.
func TestLines(t *testing.T) {
	agent := startAgent(t, ftbsim.Config{})
	w := start(t, agent, "-n", "6")
	request(blcrevents.Checkpoint, 0)
	arrived(t, agent, 2)
	request(blcrevents.Restart, int(ckpt.ETempFail), "CR_FTB_JOBID", "4185.head")
	arrived(t, agent, 4)
	publish(t, ftbclient.Identity{Space: "SITE.a.b", Name: "a b", JobID: "\x1b[2J"}, ftbclient.Event{
		Name: "DISK_FILLING", Severity: "warning", Type: wire.Normal, Payload: []byte("91% full\n"),
	})
	arrived(t, agent, 5)
	publish(t, ftbclient.Identity{Space: "SITE.a.b"}, ftbclient.Event{Name: "X_ERROR", Severity: "error", Type: wire.Normal, Payload: []byte{1}})
	w.want(0,
		"TIME CHKPT_BEGIN INFO "+blcr,
		"TIME CHKPT_END INFO "+blcr+" answers=CHKPT_BEGIN,seq=1,pid=PID",
		"TIME RSTRT_BEGIN INFO "+blcr+" job=4185.head",
		"TIME RSTRT_ERROR ERROR "+blcr+" job=4185.head errno=2354 CR_ETEMPFAIL answers=RSTRT_BEGIN,seq=1,pid=PID",
		`TIME DISK_FILLING warning SITE.a.b host=HOST pid=PID job="\x1b[2J" client="a b" payload="91% full\n"`,
		`TIME X_ERROR error SITE.a.b host=HOST pid=PID payload="\x01"`)
	if text := w.stderr.String(); text != "" {
		t.Error(text)
	}
	if err := agent.Settle(harness.Patience); err != nil {
		t.Error(err)
	}
	if problems := agent.Problems(); len(problems) > 0 {
		t.Error(problems)
	}
}

// A line for each pair, and at the end one for each BEGIN that is alone.
func TestPairs(t *testing.T) {
	agent := startAgent(t, ftbsim.Config{})
	w := start(t, agent, "--pair", "--count", "4")
	begun := func() *blcrevents.Request {
		return blcrevents.Begin(context.Background(), blcrevents.Checkpoint, -1, os.LookupEnv, func(string) {})
	}
	first, second, third := begun(), begun(), begun()
	arrived(t, agent, 3)
	second.End(28)
	arrived(t, agent, 4)
	first.End(0)
	arrived(t, agent, 5)
	third.Forget()
	id := ftbclient.Identity{Space: "SITE.a.b"}
	// Strings are compared without case; other events are not kept back.
	h := publish(t, id, ftbclient.Event{Name: "stage_begin", Severity: "info", Type: wire.Normal})
	arrived(t, agent, 6)
	h.EventName, h.Client.Comp = "STAGE_begin", "B"
	publish(t, id, ftbclient.Event{Name: "PING", Severity: "info", Type: wire.Normal})
	arrived(t, agent, 7)
	handle, _ := h.Encode(nil)
	publish(t, id, ftbclient.Event{Name: "STAGE_END", Severity: "info", Type: wire.Response, Payload: handle})
	w.want(0,
		"TIME CHKPT_ERROR ERROR "+blcr+" errno=28 ENOSPC began=TIME took=TIME",
		"TIME CHKPT_END INFO "+blcr+" began=TIME took=TIME",
		"TIME PING info SITE.a.b host=HOST pid=PID",
		"TIME STAGE_END info SITE.a.b host=HOST pid=PID began=TIME took=TIME",
		"TIME CHKPT_BEGIN INFO "+blcr)
}

// A response whose BEGIN has not been seen.
func TestPairUnknown(t *testing.T) {
	agent := startAgent(t, ftbsim.Config{})
	r := blcrevents.Begin(context.Background(), blcrevents.Restart, -1, os.LookupEnv, func(string) {})
	arrived(t, agent, 1)
	w := start(t, agent, "--pair", "-n", "1")
	r.End(0)
	w.want(0, "TIME RSTRT_END INFO "+blcr+" answers=RSTRT_BEGIN,seq=1,pid=PID")
}

// Only so many BEGINs are kept.
func TestPairsLimit(t *testing.T) {
	var p pairs
	shown := 0
	for i := range mostWaiting + 5 {
		e := &event{Event: wire.Event{Name: "A_BEGIN", Type: wire.Normal}}
		e.handle.Seq, e.handle.Location.PID = uint16(i), int32(i)
		for _, s := range p.take(e) {
			if s.handle.Seq != uint16(shown) {
				t.Errorf("shown: %d", s.handle.Seq)
			}
			shown++
		}
	}
	if shown != 5 || len(p.left()) != mostWaiting {
		t.Errorf("%d shown, %d left", shown, len(p.left()))
	}
}

// The mask is the agent's to match, as FTB has it.
func TestMask(t *testing.T) {
	agent := startAgent(t, ftbsim.Config{})
	w := start(t, agent, "-n", "2", "event_space=FTB.checkpoint_sw.blcr, severity=error , jobid=7")
	request(blcrevents.Checkpoint, 5)
	request(blcrevents.Checkpoint, 0, "CR_FTB_JOBID", "7")
	request(blcrevents.Checkpoint, 16, "CR_FTB_JOBID", "7")
	arrived(t, agent, 6)
	request(blcrevents.Restart, 22, "CR_FTB_JOBID", "7")
	w.want(0,
		"TIME CHKPT_ERROR ERROR "+blcr+" job=7 errno=16 EBUSY answers=CHKPT_BEGIN,seq=1,pid=PID",
		"TIME RSTRT_ERROR ERROR "+blcr+" job=7 errno=22 EINVAL answers=RSTRT_BEGIN,seq=1,pid=PID")
}

// What the command sends is what FTB's own library sends, but for its identity.
func TestConversation(t *testing.T) {
	agent := startAgent(t, ftbsim.Config{})
	w := start(t, agent, "-n", "1", "event_space=FTB.checkpoint_sw.blcr")
	request(blcrevents.Checkpoint, 0)
	w.end(0)
	// Settle does not wait for one that has subscribed.
	harness.Poll(t, "its end", func() bool { return agent.Subscribers() == 0 })
	if err := agent.Settle(harness.Patience); err != nil {
		t.Fatal(err)
	}
	library, err := os.ReadFile("../../internal/ftbclient/wire/testdata/10-subscriber.c2a.bin")
	if err != nil {
		t.Fatal(err)
	}
	got := slices.Clone(agent.Connections()[0].Bytes)
	if len(got) != len(library) {
		t.Fatalf("%d bytes, of the library %d", len(got), len(library))
	}
	// Of a message: type 0-3, source 4-315, destination 316-627, event 628-1335.
	for at := wire.HelloSize - wire.MessageSize; at < len(got); at += wire.MessageSize {
		var m wire.Message
		if err := m.Decode(got[at:]); err != nil {
			t.Fatal(err)
		}
		event := slices.Equal(got[at+628:at+1336], library[at+628:at+1336])
		if !slices.Equal(got[at:at+4], library[at:at+4]) || !event && m.Type != wire.ClientReg && m.Type != wire.ClientDereg {
			t.Errorf("message at %d differs: %v", at, m)
		}
		if at > 104 && m.Dst.Location != agent.Location() {
			t.Errorf("message at %d goes to %v", at, m.Dst)
		}
	}
}

// --json: an object for each line, with the members that the manual page lists.
func TestJSON(t *testing.T) {
	agent := startAgent(t, ftbsim.Config{})
	w := start(t, agent, "--json", "--pair", "-n", "1")
	request(blcrevents.Checkpoint, 28, "CR_FTB_JOBID", "7")
	<-w.status
	var o map[string]any
	if err := json.Unmarshal([]byte(w.out.String()), &o); err != nil || strings.Count(w.out.String(), "\n") != 1 {
		t.Fatalf("%v: %s", err, w.out.String())
	}
	begin := o["begin"].(map[string]any)
	if o["event"] != "CHKPT_ERROR" || o["severity"] != "ERROR" || o["space"] != blcrevents.Space || o["jobid"] != "7" ||
		o["errno"] != 28.0 || o["errno_name"] != "ENOSPC" || o["type"] != "response" || o["pid"] != float64(os.Getpid()) ||
		o["seqnum"] != 2.0 || o["reply_to"] != begin["handle"] || begin["event"] != "CHKPT_BEGIN" || begin["type"] != "normal" ||
		o["payload"] != fmt.Sprint(o["reply_to"], "1c") || begin["payload"] != "" || o["duration"].(float64) < 0 {
		t.Errorf("%v", o)
	}
	handle := agent.Events()[1].Handle()
	if b, _ := handle.Encode(nil); o["handle"] != fmt.Sprintf("%x", b) {
		t.Errorf("handle %v", o["handle"])
	}
	for _, name := range []string{"time", "begin.time"} {
		value := o["time"]
		if name != "time" {
			value = begin["time"]
		}
		if at, err := time.Parse(time.RFC3339Nano, value.(string)); err != nil || time.Since(at) > harness.Patience {
			t.Errorf("%s: %v, %v", name, value, err)
		}
	}
	page, err := os.ReadFile("../../man/ftb-watch.1")
	if err != nil {
		t.Fatal(err)
	}
	var listed []string
	for _, m := range regexp.MustCompile(`(?m)^\.It Cm (.*)$`).FindAllStringSubmatch(string(page), -1) {
		listed = append(listed, strings.Split(m[1], " , ")...)
	}
	slices.Sort(listed)
	if got := slices.Sorted(maps.Keys(o)); !slices.Equal(got, listed) {
		t.Errorf("members %q, in the manual page %q", got, listed)
	}
}

// The agent dies, and is started again: the command subscribes again.
func TestReconnect(t *testing.T) {
	agent := startAgent(t, ftbsim.Config{})
	w := start(t, agent, "-n", "3")
	request(blcrevents.Checkpoint, 0)
	harness.Poll(t, "the lines", func() bool { return strings.Count(w.out.String(), "\n") == 2 })
	agent.Close()
	harness.Poll(t, "the loss", func() bool { return strings.Contains(w.stderr.String(), "connection to the FTB agent lost") })
	again := startAgent(t, ftbsim.Config{Port: agent.Port()})
	harness.Poll(t, "the subscription", func() bool { return again.Subscribers() == 1 })
	request(blcrevents.Restart, 0)
	w.want(0,
		"TIME CHKPT_BEGIN INFO "+blcr,
		"TIME CHKPT_END INFO "+blcr+" answers=CHKPT_BEGIN,seq=1,pid=PID",
		"TIME RSTRT_BEGIN INFO "+blcr)
	if text := w.stderr.String(); !regexp.MustCompile(`\Aftb-watch: connection to the FTB agent lost: receive [^\n]*; trying again\nftb-watch: the agent is [^\n]*; events in between are lost\n\z`).MatchString(text) {
		t.Error(text)
	}
}

// The limits of time, and what there is no agent for.
func TestEnds(t *testing.T) {
	agent := startAgent(t, ftbsim.Config{})
	start(t, agent, "--timeout", "0.3").want(0)
	start(t, agent, "--timeout", "0.3", "--count", "1").want(4)
	w := start(t, agent, "-t", "20", "-n", "1")
	request(blcrevents.Checkpoint, 0)
	w.want(0, "TIME CHKPT_BEGIN INFO "+blcr)
	agent.Close()
	for fault, status := range map[string]int{"refuse": 3, "close": 5, "stall": 4} {
		f, err := ftbsim.ParseFault(fault)
		if err != nil {
			t.Fatal(err)
		}
		agent := startAgent(t, ftbsim.Config{Fault: f})
		w := start(t, agent, "--timeout", "0.5")
		if w.end(status); strings.Count(w.stderr.String(), "\n") != 1 {
			t.Errorf("%s: %q", fault, w.stderr.String())
		}
	}
	for _, args := range [][]string{
		{"--nosuch"}, {"-n", "0"}, {"-n", "-1"}, {"-n", "x"}, {"--timeout", "0"}, {"--timeout", "NaN"}, {"--timeout", "1e99"},
		{"a=b"}, {"severity=info", "jobid=7"}, {"severity=info", "--json"},
	} {
		if w := start(t, agent, args...); len(w.end(2)) != 0 || !strings.HasPrefix(w.stderr.String(), "ftb-watch: ") || strings.Count(w.stderr.String(), "\n") != 1 {
			t.Errorf("%q: %q", args, w.stderr.String())
		}
	}
}

// failing is an output that cannot be written to.
type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, os.ErrClosed }

func TestOutput(t *testing.T) {
	agent := startAgent(t, ftbsim.Config{})
	var stderr buffer
	status := make(chan int)
	go func() { status <- run([]string{name}, failing{}, &stderr) }()
	if got := <-status; got != 1 {
		t.Errorf("status %d: %s", got, stderr.String())
	}
	// One that is not read: the command goes on receiving.
	const events = 8000 // more than the kernel's buffers hold
	block := make(chan struct{})
	w := &watching{t: t, status: make(chan int, 1)}
	go func() { w.status <- run([]string{name, "-n", strconv.Itoa(events)}, blocked(block), &w.stderr) }()
	harness.Poll(t, "the subscription", func() bool { return agent.Subscribers() == 1 })
	conn, err := ftbclient.Dial(ftbclient.LoadConfig(os.LookupEnv), ftbclient.Identity{Space: "SITE.a.b"}, time.Now().Add(harness.Patience))
	if err != nil {
		t.Fatal(err)
	}
	for range events {
		if _, err := conn.Publish(ftbclient.Event{Name: "X", Severity: "info", Type: wire.Normal}); err != nil {
			t.Fatal(err)
		}
	}
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
	harness.Poll(t, "the events", func() bool { return len(agent.Events()) == events })
	close(block)
	w.end(0) // it must not watch the agent of another test
}

// blocked is an output that is not read, after the first, empty write, until it is
// closed.
type blocked chan struct{}

func (b blocked) Write(p []byte) (int, error) {
	if len(p) > 0 {
		<-b
	}
	return len(p), nil
}
