package ftbclient

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ftbclient/wire"
	"blcr-cli/test/harness"
)

func handleBytes(t testing.TB, h wire.Handle) []byte {
	t.Helper()
	b, err := h.Encode(nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Whole connections, compared with those of the C library.
func TestGolden(t *testing.T) {
	fixed := func() wire.Location {
		return wire.Location{Hostname: "192.0.2.2", StartTime: "Fri_Feb_13_044_23:31:30", PID: 4242}
	}
	begin := func(op string) Event { return Event{Name: op + "_BEGIN", Severity: "INFO", Type: wire.Normal} }
	end := func(op string, h []byte) Event {
		return Event{Name: op + "_END", Severity: "INFO", Type: wire.Response, Payload: h}
	}
	fail := func(op string, h []byte) Event {
		return Event{Name: op + "_ERROR", Severity: "ERROR", Type: wire.Response, Payload: binary.LittleEndian.AppendUint32(bytes.Clone(h), 2)}
	}
	chkpt, rstrt := capture(t, "CHKPT_BEGIN.handle.bin"), capture(t, "RSTRT_BEGIN.handle.bin")
	one := capture(t, "oneconn.handle.bin")
	for _, c := range []struct {
		name   string
		id     Identity
		events []Event
		handle []byte // of the first event
	}{
		{"01-chkpt-begin", blcr, []Event{begin("CHKPT")}, chkpt},
		{"02-chkpt-end", blcr, []Event{end("CHKPT", chkpt)}, nil},
		{"04-chkpt-error", blcr, []Event{fail("CHKPT", chkpt)}, nil},
		{"05-rstrt-begin", blcr, []Event{begin("RSTRT")}, rstrt},
		{"06-rstrt-end", blcr, []Event{end("RSTRT", rstrt)}, nil},
		{"08-rstrt-error", blcr, []Event{fail("RSTRT", rstrt)}, nil},
		{"09-oneconn", Identity{blcr.Space, "blcr_client", "job42"}, []Event{begin("CHKPT"), end("CHKPT", one), fail("CHKPT", one)}, one},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg, streams := record(t)
			d := dialer{cfg, soon(), fixed}
			conn, err := d.dial(c.id)
			if err != nil {
				t.Fatal(err)
			}
			for i, ev := range c.events {
				h := handleBytes(t, mustPublish(t, conn, ev))
				if i == 0 && c.handle != nil && !bytes.Equal(h, c.handle) {
					t.Errorf("handle %q", h)
				}
			}
			if err := conn.Close(); err != nil {
				t.Error(err)
			}
			if got := <-streams; !bytes.Equal(got, capture(t, c.name+".c2a.bin")) {
				t.Errorf("sent %q", got)
			}
		})
	}
}

// Pairs of events of one process within a second: only the fields that have to be equal
// are.
func TestPairs(t *testing.T) {
	cfg, streams := record(t)
	seen := map[wire.Location]bool{}
	for i := range 100 {
		conn := mustDial(t, cfg, blcr)
		if want := "127.0.0.1:" + strconv.Itoa(cfg.AgentPort); conn.Agent() != want {
			t.Errorf("agent at %s", conn.Agent())
		}
		h := mustPublish(t, conn, Event{Name: "CHKPT_BEGIN", Severity: "INFO", Type: wire.Normal})
		mustPublish(t, conn, Event{Name: "CHKPT_END", Severity: "INFO", Type: wire.Response, Payload: handleBytes(t, h)})
		if err := conn.Close(); err != nil {
			t.Fatal(err)
		}
		b := <-streams
		if len(b) != wire.HelloSize+5*wire.MessageSize {
			t.Fatalf("%d bytes", len(b))
		}
		var hello wire.Hello
		var begin, end wire.Message
		var about wire.Handle
		if hello.Decode(b) != nil || begin.Decode(b[wire.HelloSize+wire.MessageSize:]) != nil ||
			end.Decode(b[wire.HelloSize+2*wire.MessageSize:]) != nil || about.Decode(end.Event.Payload[:]) != nil {
			t.Fatalf("sent %q", b)
		}
		if seen[hello.Location] {
			t.Errorf("pair %d is of %v too", i, hello.Location)
		}
		seen[hello.Location] = true
		if about != begin.Handle() || about != h || h.Location != hello.Location || h.Seq != 1 || end.Event.Seq != 2 {
			t.Errorf("handles %v, %v, %v", about, begin.Handle(), h)
		}
	}
}

// The sequence number goes from 65535 to 0.
func TestSequence(t *testing.T) {
	cfg, streams := record(t)
	conn := mustDial(t, cfg, blcr)
	conn.seq = 65534
	for _, want := range []uint16{65535, 0, 1} {
		if h := mustPublish(t, conn, Event{Name: "A", Severity: "info", Type: wire.Normal}); h.Seq != want {
			t.Errorf("%d instead of %d", h.Seq, want)
		}
	}
	conn.Close()
	<-streams
}

// After an error in an argument nothing is sent and the Conn is still usable. A second
// Close has no effect.
func TestUnbroken(t *testing.T) {
	cfg, streams := record(t)
	conn := mustDial(t, cfg, blcr)
	good := Event{Name: "A", Severity: "info", Type: wire.Normal, Payload: bytes.Repeat([]byte{0xab}, wire.PayloadSize)}
	bad := good
	bad.Payload = append(bad.Payload, 0)
	_, err := conn.Publish(bad)
	checkError(t, err, "check", ErrInvalid)
	if h := mustPublish(t, conn, good); h.Seq != 1 {
		t.Errorf("sequence number %d", h.Seq)
	}
	for range 2 {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
		_, err = conn.Publish(good)
		checkError(t, err, "check", ErrInvalid)
	}
	b := <-streams
	var m wire.Message
	if err := m.Decode(b[wire.HelloSize+wire.MessageSize:]); err != nil || !bytes.Equal(m.Event.Payload[:], good.Payload) {
		t.Errorf("payload %q, %v", m.Event.Payload, err)
	}
}

func TestDescriptor(t *testing.T) {
	cfg, streams := record(t)
	conn := mustDial(t, cfg, blcr)
	if flags, err := unix.FcntlInt(uintptr(conn.fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("not closed on exec: %v", err)
	}
	if v, err := unix.GetsockoptInt(conn.fd, unix.IPPROTO_TCP, unix.TCP_NODELAY); err != nil || v == 0 {
		t.Errorf("TCP_NODELAY is %d, %v", v, err)
	}
	fd := conn.fd
	conn.Close()
	<-streams
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != unix.EBADF {
		t.Errorf("descriptor %d is still open: %v", fd, err)
	}
}

const aloneVar = "FTBCLIENT_TEST_PORT"

// alone is a process that only publishes. Afterwards it must have the same descriptors
// as before, and no poller. It prints errors on its standard output.
func alone(port string) int {
	fds, goroutines := harness.Descriptors(), runtime.NumGoroutine()
	os.Setenv("FTB_AGENT_PORT", port)
	os.Setenv("FTB_CONFIG_FILE", "/proc/self/exe")
	conn, err := Dial(LoadConfig(os.LookupEnv), blcr, time.Now().Add(limit))
	if err != nil {
		fmt.Println(err)
		return 1
	}
	others := harness.Descriptors()
	delete(others, conn.fd)
	if !maps.Equal(others, fds) || runtime.NumGoroutine() != goroutines {
		fmt.Printf("while connected:\n%v\nbefore:\n%v\n", harness.Descriptors(), fds)
		return 1
	}
	if _, err := conn.Publish(Event{Name: "A", Severity: "info", Type: wire.Normal}); err != nil {
		fmt.Println(err)
		return 1
	}
	if err := conn.Close(); err != nil {
		fmt.Println(err)
		return 1
	}
	os.Setenv("FTB_AGENT_PORT", "1") // tcpmux
	os.Setenv("FTB_BSTRAP_SERVER", "localhost")
	os.Setenv("FTB_BSTRAP_PORT", "1")
	if _, err := Dial(LoadConfig(os.LookupEnv), blcr, time.Now().Add(limit)); err == nil {
		fmt.Println("an agent on port 1")
		return 1
	}
	if now := harness.Descriptors(); !maps.Equal(now, fds) || strings.Contains(fmt.Sprint(now), "eventpoll") || runtime.NumGoroutine() != goroutines {
		fmt.Printf("afterwards:\n%v\nbefore:\n%v\n", now, fds)
		return 1
	}
	return 0
}

func TestNothingIsLeft(t *testing.T) {
	cfg, streams := record(t)
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), aloneVar+"="+strconv.Itoa(cfg.AgentPort))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	<-streams
}

func noAgentTimes(t testing.TB, n int) []time.Duration {
	t.Helper()
	cfg := Config{AgentPort: nobody(t)}
	var times []time.Duration
	for range n {
		start := time.Now()
		_, err := Dial(cfg, blcr, start.Add(2*time.Second))
		times = append(times, time.Since(start))
		if e := checkError(t, err, "connect", ErrNoAgent); e.Err != unix.ECONNREFUSED {
			t.Error(err)
		}
	}
	slices.Sort(times)
	return times
}

// Without an agent publishing takes less than a millisecond.
func TestNoAgent(t *testing.T) {
	for range 5 { // the machine may be busy
		times := noAgentTimes(t, 101)
		t.Logf("median %v, worst %v", times[50], times[100])
		if times[50] <= time.Millisecond {
			return
		}
	}
	t.Error("it takes more")
}

func BenchmarkNoAgent(b *testing.B) {
	cfg := Config{AgentPort: nobody(b)}
	for b.Loop() {
		if _, err := Dial(cfg, blcr, time.Now().Add(2*time.Second)); err == nil {
			b.Fatal("an agent")
		}
	}
}

func BenchmarkPair(b *testing.B) {
	cfg, streams := record(b)
	for b.Loop() {
		conn := mustDial(b, cfg, blcr)
		h := mustPublish(b, conn, Event{Name: "CHKPT_BEGIN", Severity: "INFO", Type: wire.Normal})
		mustPublish(b, conn, Event{Name: "CHKPT_END", Severity: "INFO", Type: wire.Response, Payload: handleBytes(b, h)})
		conn.Close()
		<-streams
	}
}
