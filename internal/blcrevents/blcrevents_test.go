package blcrevents

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/forkexec"
	"blcr-cli/internal/ftbclient/wire"
	"blcr-cli/test/ftbsim"
	"blcr-cli/test/harness"
)

// vars is an environment.
type vars map[string]string

func (v vars) lookup(name string) (string, bool) {
	value, set := v[name]
	return value, set
}

func agentAt(port int) vars { return vars{"FTB_AGENT_PORT": strconv.Itoa(port)} }

func start(t testing.TB, config ftbsim.Config) *ftbsim.Agent {
	t.Helper()
	agent, err := ftbsim.Start(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(agent.Close)
	return agent
}

func faulty(t testing.TB, fault string) *ftbsim.Agent {
	t.Helper()
	f, err := ftbsim.ParseFault(fault)
	if err != nil {
		t.Fatal(err)
	}
	return start(t, ftbsim.Config{Fault: f})
}

// log are the lines that say got.
type log []string

func (l *log) say(line string) { *l = append(*l, line) }

// check compares the log with one line, or with none for "".
func (l *log) check(t testing.TB, pattern string) {
	t.Helper()
	switch {
	case pattern == "" && len(*l) == 0:
	case len(*l) != 1, !regexp.MustCompile(`\A` + pattern + `\z`).MatchString((*l)[0]):
		t.Errorf("said: %q, want %s", *l, pattern)
	}
}

// settled returns the events that the agent got, after all have arrived.
func settled(t testing.TB, agent *ftbsim.Agent) string {
	t.Helper()
	if err := agent.Settle(harness.Patience); err != nil {
		t.Error(err)
	}
	if problems := agent.Problems(); len(problems) > 0 {
		t.Errorf("no client should do this: %s", strings.Join(problems, "; "))
	}
	return agent.EventText()
}

// The events of a request, for each result.
func TestEvents(t *testing.T) {
	for _, operation := range []Operation{Checkpoint, Restart} {
		begin := fmt.Sprintf("1 %s_BEGIN INFO FTB.checkpoint_sw.blcr connection=1 seq=1 type=1\n", operation)
		failed := func(errno int) string {
			return fmt.Sprintf("2 %s_ERROR ERROR FTB.checkpoint_sw.blcr connection=1 seq=2 type=2 answers=1 errno=%d\n", operation, errno)
		}
		for _, c := range []struct {
			name string
			end  func(*Request)
			want string
			said string
		}{
			{"well", func(r *Request) { r.End(0) },
				fmt.Sprintf("2 %s_END INFO FTB.checkpoint_sw.blcr connection=1 seq=2 type=2 answers=1\n", operation), " and OP_END"},
			{"EPERM", func(r *Request) { r.End(unix.EPERM) }, failed(1), " and OP_ERROR"},
			{"ETIME", func(r *Request) { r.End(unix.ETIME) }, failed(62), " and OP_ERROR"},
			{"CR_ETEMPFAIL", func(r *Request) { r.End(ckpt.ETempFail) }, failed(2354), " and OP_ERROR"},
			{"CR_ENOSUPPORT", func(r *Request) { r.End(ckpt.ENoSupport) }, failed(2356), " and OP_ERROR"},
			{"EINTR", func(r *Request) { r.End(unix.EINTR) }, failed(4), " and OP_ERROR"},
			{"forgotten", func(r *Request) { r.Forget() }, "", ""},
			{"forgotten first", func(r *Request) { r.Forget(); r.End(unix.EIO); r.Forget() }, "", ""},
			{"twice", func(r *Request) { r.End(unix.EBUSY); r.End(0); r.End(unix.EIO); r.Forget() }, failed(16), " and OP_ERROR"},
		} {
			t.Run(string(operation)+"/"+c.name, func(t *testing.T) {
				agent := start(t, ftbsim.Config{})
				var said log
				r := Begin(context.Background(), operation, -1, agentAt(agent.Port()).lookup, said.say)
				said.check(t, "")
				c.end(r)
				if got := settled(t, agent); got != begin+c.want {
					t.Errorf("events:\n%swant:\n%s", got, begin+c.want)
				}
				said.check(t, "FTB: published "+strings.ReplaceAll("OP_BEGIN"+c.said, "OP", string(operation)))
				capture := map[Operation]string{Checkpoint: "01-chkpt-begin", Restart: "05-rstrt-begin"}[operation]
				sameAs(t, agent.Events()[0], capture)
			})
		}
	}
}

// sameAs compares an event with one that FTB's own library sent.
func sameAs(t *testing.T, e *ftbsim.Event, capture string) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("../ftbclient/wire/testdata", capture+".c2a.bin"))
	if err != nil {
		t.Fatal(err)
	}
	if err := e.SameAs(b); err != nil {
		t.Error(err)
	}
}

// The second event's payload, to the byte: the handle, the number, zeros.
func TestPayload(t *testing.T) {
	for errno, tail := range map[syscall.Errno][]byte{
		0: {}, unix.ENOSPC: {28, 0, 0, 0}, ckpt.EPermFail: {0x33, 9, 0, 0}, 0x12345678: {0x78, 0x56, 0x34, 0x12},
	} {
		agent := start(t, ftbsim.Config{})
		Begin(context.Background(), Checkpoint, -1, agentAt(agent.Port()).lookup, func(string) {}).End(errno)
		settled(t, agent)
		events := agent.Events()
		handle := events[0].Handle()
		want, err := handle.Encode(nil)
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, tail...)
		want = append(want, make([]byte, wire.PayloadSize-len(want))...)
		if got := events[1].Message.Event.Payload[:]; !bytes.Equal(got, want) {
			t.Errorf("errno %d: payload\n% x, want\n% x", errno, got, want)
		}
		if p := events[0].Message.Event.Payload; p != [wire.PayloadSize]byte{} {
			t.Errorf("errno %d: the first event has a payload: % x", errno, p)
		}
	}
}

// A hundred consecutive requests: no event is lost, and each END has the handle of its
// BEGIN.
func TestPairs(t *testing.T) {
	agent := start(t, ftbsim.Config{})
	env := agentAt(agent.Port())
	const pairs = 100
	for i := range pairs {
		Begin(context.Background(), []Operation{Checkpoint, Restart}[i%2], -1, env.lookup, func(string) {}).End(0)
	}
	settled(t, agent)
	events := agent.Events()
	if len(events) != 2*pairs {
		t.Fatalf("%d events have arrived", len(events))
	}
	// The agent may serve several connections at a time.
	begun := map[int]int{}
	for _, e := range events {
		if strings.HasSuffix(e.Message.Event.Name, "_BEGIN") {
			begun[e.Connection] = e.Number
		} else if e.Answers == 0 || e.Answers != begun[e.Connection] {
			t.Errorf("event %d answers %d, on its connection it is %d that began", e.Number, e.Answers, begun[e.Connection])
		}
	}
	if len(begun) != pairs {
		t.Errorf("%d connections", len(begun))
	}
}

// Events are disabled, or there is no agent.
func TestSilence(t *testing.T) {
	agent := start(t, ftbsim.Config{})
	nobody := faulty(t, "refuse")
	port, nowhere := strconv.Itoa(agent.Port()), strconv.Itoa(nobody.Port())
	for _, c := range []struct {
		name string
		env  vars
		said string
	}{
		{"off", vars{"CR_FTB": "off", "FTB_AGENT_PORT": port}, ""},
		{"OFF", vars{"CR_FTB": "OFF", "FTB_AGENT_PORT": port}, `FTB: no event published: CR_FTB is "OFF", which is neither "on" nor "off"`},
		{"0", vars{"CR_FTB": "0"}, `FTB: no event published: CR_FTB is "0", .*`},
		{"nobody there", vars{"FTB_AGENT_PORT": nowhere},
			`FTB: no event published: connect 127\.0\.0\.1:[0-9]+: no FTB agent: connection refused`},
		{"no port", vars{"FTB_AGENT_PORT": "x"}, `FTB: no event published: connect 127\.0\.0\.1:0: no FTB agent: .*; FTB_AGENT_PORT is no number of a port, .*`},
		{"port too large", vars{"FTB_AGENT_PORT": strconv.Itoa(nobody.Port() + 65536)}, fmt.Sprintf(`FTB: .*: connection refused; FTB_AGENT_PORT is %d, which becomes port %d, as in FTB's library`, nobody.Port()+65536, nobody.Port())},
		{"no address", vars{"FTB_AGENT_PORT": nowhere, "FTB_BSTRAP_SERVER": "head.example.org"}, `FTB: no event published: look up .*`},
	} {
		t.Run(c.name, func(t *testing.T) {
			var said log
			r := Begin(context.Background(), Checkpoint, -1, c.env.lookup, said.say)
			r.End(unix.EIO)
			r.Forget()
			said.check(t, c.said)
		})
	}
	if got := settled(t, agent); got != "" {
		t.Errorf("events:\n%s", got)
	}
	var none *Request
	none.End(0)

	r := Begin(context.Background(), Checkpoint, -1, vars{"CR_FTB": "on", "FTB_AGENT_PORT": port}.lookup, func(string) {})
	r.Forget()
	if got := settled(t, agent); !strings.HasPrefix(got, "1 CHKPT_BEGIN ") {
		t.Errorf("events:\n%s", got)
	}
}

// The job is that of the environment, and can be asked for.
func TestJob(t *testing.T) {
	for job, want := range map[string]string{"": "", "4185.head": ` job="4185.head"`, "123456789012345678": ` job="123456789012345"`} {
		agent := start(t, ftbsim.Config{})
		env := agentAt(agent.Port())
		env["CR_FTB_JOBID"] = job
		Begin(context.Background(), Checkpoint, -1, env.lookup, func(string) {}).End(unix.ENOSPC)
		if got, pattern := settled(t, agent), regexp.MustCompile(`\A1 CHKPT_BEGIN INFO FTB.checkpoint_sw.blcr connection=1 seq=1 type=1`+want+`\n2 CHKPT_ERROR ERROR FTB.checkpoint_sw.blcr connection=1 seq=2 type=2`+want+` answers=1 errno=28\n\z`); !pattern.MatchString(got) {
			t.Errorf("%q: events:\n%s", job, got)
		}
	}
}

// Many requests end at the same time, as those of all ranks of a node do, and the agent
// is slower than they are: what its bug can lose arrives. The limit is a longer one, as
// the agent may not get its share of a busy machine.
func TestManyAtOnce(t *testing.T) {
	defer func(f func(int, time.Duration) error) { keep = f }(keep)
	keep = func(fd int, limit time.Duration) error { return forkexec.Keep(fd, 40*limit) }
	rounds, requests, lost := 3, 20, 0
	if harness.All() {
		rounds, requests, lost = 10, 50, 2
	}
	received, told := 0, 0
	for range rounds {
		n, of := atOnce(t, requests)
		received, told = received+n, told+of
	}
	// On a busy machine the agent may be given up, which is told.
	if received < told-lost || told < rounds*requests {
		t.Errorf("%d events of %d have arrived", received, told)
	}
}

// atOnce returns how many events of so many requests arrive, and how many of them are said
// to be published.
func atOnce(t *testing.T, requests int) (received, told int) {
	agent := start(t, ftbsim.Config{Lag: 50 * time.Microsecond})
	defer agent.Close()
	env := agentAt(agent.Port())
	var begun, ended sync.WaitGroup
	var published atomic.Int64
	end := make(chan struct{})
	begun.Add(requests)
	for range requests {
		ended.Go(func() {
			r := Begin(context.Background(), Checkpoint, -1, env.lookup, func(line string) {
				if names, ok := strings.CutPrefix(line, "FTB: published "); ok {
					published.Add(int64(1 + strings.Count(names, " and "+string(Checkpoint))))
				}
			})
			begun.Done()
			<-end
			r.End(unix.EIO)
		})
	}
	begun.Wait()
	close(end)
	ended.Wait()
	settled(t, agent)
	return len(agent.Events()), int(published.Load())
}

// One of two agents that the bootstrap server knows has died: no request is lost.
func TestDeadAgent(t *testing.T) {
	requests := 20
	if harness.All() {
		requests = 60
	}
	dead, agent := faulty(t, "refuse"), start(t, ftbsim.Config{})
	server, err := ftbsim.StartBootstrap(ftbsim.BootstrapConfig{Agents: []wire.Addr{
		{Name: "127.0.0.1", Port: int32(dead.Port())}, {Name: "127.0.0.1", Port: int32(agent.Port())},
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	env := vars{"FTB_AGENT_PORT": strconv.Itoa(dead.Port()), "FTB_BSTRAP_SERVER": "127.0.0.1", "FTB_BSTRAP_PORT": strconv.Itoa(server.Port())}
	for range requests {
		Begin(context.Background(), Checkpoint, -1, env.lookup, func(string) {}).End(0)
	}
	settled(t, agent)
	if n := len(agent.Events()); n != 2*requests {
		t.Errorf("%d events of %d have arrived", n, 2*requests)
	}
}

// Nothing is reported if no backplane is configured and there is no agent.
func TestUnconfigured(t *testing.T) {
	if !harness.OwnNetwork(t) {
		return
	}
	var said log
	Begin(context.Background(), Checkpoint, -1, vars{}.lookup, said.say).End(0)
	said.check(t, "")
	Begin(context.Background(), Checkpoint, -1, vars{"FTB_CONFIG_FILE": "/nonexistent"}.lookup, said.say).End(0)
	said.check(t, "FTB: no event published: connect 127\\.0\\.0\\.1:10809: .*")
}

// late is the additional time that is allowed on a busy machine. It is shorter than a
// wait for an agent would be.
const late = limit * 9 / 10

// Whatever an agent does wrong, it delays a request by at most two seconds for each
// event, and one line reports what happened.
func TestFaults(t *testing.T) {
	const begun, ended = "FTB: published CHKPT_BEGIN", "FTB: published CHKPT_BEGIN and CHKPT_END"
	const none = "FTB: no event published: "
	for _, c := range []struct {
		fault    string
		said     string
		received int
		begin    time.Duration // at least
	}{
		{"refuse", none + ".*no FTB agent.*", 0, 0},
		{"starting", none + ".*timed out", 0, limit},
		{"stall", none + ".*timed out", 0, limit},
		{"part", none + ".*timed out", 0, limit},
		{"slow=1h", none + ".*timed out", 0, limit},
		{"slow=200ms", ended, 2, 200 * time.Millisecond * 9 / 10},
		{"close", none + ".*not an FTB agent's answer.*", 0, 0},
		{"reset", none + ".*not an FTB agent's answer.*", 0, 0},
		{"short", none + ".*not an FTB agent's answer.*", 0, 0},
		{"garbage", none + ".*not an FTB agent's answer.*", 0, 0},
		{"deaf", ended, 0, 0},
		// The second event goes to the next connection.
		{"drop=1", ended + "(, and then: close .*)?", 2, 0},
		// There is no further agent.
		{"die=1", begun + ", and then: connect .*no FTB agent.*", 1, 0},
		// The event has arrived, which the client cannot know, and is not sent again.
		{"drop=2", ended + "(, and then: close .*)?", 2, 0},
		{"die=2", ended + "(, and then: close .*)?", 2, 0},
	} {
		t.Run(c.fault, func(t *testing.T) {
			t.Parallel()
			agent := faulty(t, c.fault)
			var said log
			at := time.Now()
			r := Begin(context.Background(), Checkpoint, -1, agentAt(agent.Port()).lookup, said.say)
			took := time.Since(at)
			if took < c.begin || took > c.begin+late {
				t.Errorf("beginning took %v, want %v", took, c.begin)
			}
			// The agent that dies has died by now.
			harness.Poll(t, "the first event", func() bool { return c.received == 0 || len(agent.Events()) > 0 })
			time.Sleep(20 * time.Millisecond)
			at = time.Now()
			r.End(0)
			if took := time.Since(at); took > late {
				t.Errorf("ending took %v", took)
			}
			said.check(t, c.said)
			time.Sleep(20 * time.Millisecond)
			if c.fault != "refuse" && c.fault != "starting" && c.fault != "deaf" {
				if err := agent.Settle(harness.Patience); err != nil {
					t.Error(err)
				}
			}
			events := agent.Events()
			if len(events) != c.received {
				t.Errorf("events:\n%swant %d", agent.EventText(), c.received)
			}
			if n := len(events); n == 2 && events[1].Answers != 1 {
				t.Errorf("events:\n%s", agent.EventText())
			}
			if problems := agent.Problems(); len(problems) > 0 {
				t.Errorf("no client should do this: %s", strings.Join(problems, "; "))
			}
		})
	}
}

// The agent dies between the two events, and another one is started on its port. That
// one gets the second event, with the handle of the first. It may take no longer than
// the first.
func TestSuccessor(t *testing.T) {
	for _, c := range []struct {
		fault, said, received string
		took                  time.Duration
	}{
		{"", "FTB: published RSTRT_BEGIN and RSTRT_ERROR",
			"1 RSTRT_ERROR ERROR FTB.checkpoint_sw.blcr connection=1 seq=1 type=2 answers=0 errno=5\n", 0},
		{"stall", "FTB: published RSTRT_BEGIN, and then: .*timed out", "", limit},
		{"starting", "FTB: published RSTRT_BEGIN, and then: .*timed out", "", limit},
		{"reset", "FTB: published RSTRT_BEGIN, and then: .*not an FTB agent's answer.*", "", 0},
		{"drop=0", "FTB: published RSTRT_BEGIN.*", "", 0},
	} {
		t.Run(c.fault, func(t *testing.T) {
			t.Parallel()
			first := start(t, ftbsim.Config{})
			var said log
			r := Begin(context.Background(), Restart, -1, agentAt(first.Port()).lookup, said.say)
			harness.Poll(t, "the first event", func() bool { return len(first.Events()) > 0 })
			first.Close()
			fault, _ := ftbsim.ParseFault(c.fault)
			// A port that was just closed may not be available at once.
			var second *ftbsim.Agent
			harness.Poll(t, "the port", func() bool {
				var err error
				second, err = ftbsim.Start(ftbsim.Config{Port: first.Port(), Fault: fault})
				return err == nil
			})
			t.Cleanup(second.Close)
			at := time.Now()
			r.End(unix.EIO)
			if took := time.Since(at); took < c.took || took > c.took+late {
				t.Errorf("ending took %v, want %v", took, c.took)
			}
			said.check(t, c.said)
			if c.fault == "drop=0" {
				return // whether the event comes in time depends on the scheduler
			}
			if err := second.Settle(harness.Patience); err != nil {
				t.Error(err)
			}
			if got := second.EventText(); got != c.received {
				t.Errorf("the second agent's events:\n%swant:\n%s", got, c.received)
			}
			if n := len(second.Connections()); c.fault != "starting" && n != 1 {
				t.Errorf("%d connections to the second agent", n)
			}
			if c.fault != "" {
				return
			}
			handle := first.Events()[0].Handle()
			want, _ := handle.Encode(nil)
			if got := second.Events()[0].Message.Event.Payload[:wire.HandleSize]; !bytes.Equal(got, want) {
				t.Errorf("handle\n% x, want\n% x", got, want)
			}
		})
	}
}

// TestExec: the socket that is open between the events is closed on exec.
func TestExec(t *testing.T) {
	agent := start(t, ftbsim.Config{})
	before := harness.Descriptors()
	r := Begin(context.Background(), Checkpoint, -1, agentAt(agent.Port()).lookup, func(string) {})
	sockets := 0
	for fd, link := range harness.Descriptors() {
		if before[fd] == link || !strings.HasPrefix(link, "socket:") {
			continue
		}
		name, err := unix.Getpeername(fd)
		if peer, ok := name.(*unix.SockaddrInet4); err != nil || !ok || peer.Port != agent.Port() {
			continue
		}
		sockets++
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("descriptor %d has flags %#x, %v", fd, flags, err)
		}
	}
	if sockets != 1 {
		t.Errorf("%d sockets", sockets)
	}
	r.End(0)
	settled(t, agent)
}

// TestNumber: the socket does not get the number of the request's descriptor, closed or
// open, which stays as it is.
func TestNumber(t *testing.T) {
	agent, nobody := start(t, ftbsim.Config{}), faulty(t, "refuse")
	begin := func(fd int) *Request {
		return Begin(context.Background(), Checkpoint, fd, agentAt(agent.Port()).lookup, func(string) {})
	}
	isOpen := func(fd int) bool {
		_, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		return err == nil
	}
	// The next number, and some that are free.
	next, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(next)
	for _, fd := range []int{next, next + 1, next + 5, 1000, 1 << 30, -1} {
		if isOpen(fd) {
			continue // opened by another test
		}
		r := begin(fd)
		if isOpen(fd) {
			t.Errorf("descriptor %d is open", fd)
		}
		if r.conn == nil {
			t.Errorf("descriptor %d: no connection", fd)
		}
		r.End(0)
	}
	p := make([]int, 2)
	if err := unix.Pipe2(p, unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	r := begin(p[1])
	if _, err := unix.Write(p[1], []byte("x")); err != nil {
		t.Error(err)
	}
	r.End(0)
	if !isOpen(p[1]) {
		t.Error("the descriptor is closed")
	}
	unix.Close(p[0])
	unix.Close(p[1])
	// Also without an agent.
	Begin(context.Background(), Checkpoint, next, agentAt(nobody.Port()).lookup, func(string) {})
	if isOpen(next) {
		t.Errorf("descriptor %d is open", next)
	}
	settled(t, agent)
}

// request is a request with both its events.
func request(env vars) {
	Begin(context.Background(), Checkpoint, -1, env.lookup, func(string) {}).End(0)
}

// cost returns by how much events delay requests: the median of the differences between
// a request with events and one without, right before it.
func cost(env vars) time.Duration {
	off := vars{"CR_FTB": "off"}
	var more []time.Duration
	for range 201 {
		start := time.Now()
		request(off)
		between := time.Now()
		request(env)
		more = append(more, time.Since(between)-between.Sub(start))
	}
	slices.Sort(more)
	return more[len(more)/2]
}

// BenchmarkCost reports by how much events delay a request, in milliseconds. The
// limits are 1 without an agent, and 10 with one.
func BenchmarkCost(b *testing.B) {
	nobody, agent := faulty(b, "refuse"), start(b, ftbsim.Config{})
	var without, with time.Duration
	for b.Loop() {
		without, with = cost(agentAt(nobody.Port())), cost(agentAt(agent.Port()))
	}
	b.ReportMetric(without.Seconds()*1e3, "ms-without-agent")
	b.ReportMetric(with.Seconds()*1e3, "ms-with-agent")
}

func BenchmarkOff(b *testing.B) {
	for b.Loop() {
		request(vars{"CR_FTB": "off"})
	}
}

func BenchmarkNoAgent(b *testing.B) {
	env := agentAt(faulty(b, "refuse").Port())
	for b.Loop() {
		request(env)
	}
}

func BenchmarkAgent(b *testing.B) {
	env := agentAt(start(b, ftbsim.Config{}).Port())
	for b.Loop() {
		request(env)
	}
}
