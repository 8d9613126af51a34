package ftbsim

import (
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ftbclient/wire"
)

// Config is how an [Agent] is to be. The zero value is one without faults.
type Config struct {
	// Port is the one to listen on, of 127.0.0.1; 0 is any that is free.
	Port int
	// Fault is what the agent does wrong.
	Fault Fault
	// Location is what it says it is; the zero value is made up.
	Location wire.Location
	// Lag, if not 0, is how long the agent takes for each message behind the
	// handshake. It then has the real one's bug as well: one that reads the end of a
	// connection before it has come to the messages of that drops them.
	Lag time.Duration
	// OnEvent is called with each event as it arrives, one at a time; nil is nothing.
	OnEvent func(*Event)
}

// Agent is an FTB agent, running until [Agent.Close].
type Agent struct {
	config   Config
	port     int
	listener *net.TCPListener // nil with Refuse
	reserved int              // a socket that has the port as well, and -1 after Close
	running  sync.WaitGroup
	ended    chan struct{} // closed when the agent is

	mu          sync.Mutex
	changed     *sync.Cond
	closed      bool
	flushes     int // connections of Settle that have been seen
	connections []*Connection
	events      []*Event
	problems    []string
	queue       []*queued // only with Lag
	dropped     int
}

// queued is a message that the agent has read and has not come to yet.
type queued struct {
	from *Connection
	raw  []byte
}

// Connection is a connection to an [Agent], and what came on it. It is not to be
// looked at before the client has closed it; see [Agent.Settle].
type Connection struct {
	Number   int         // from 1
	Hello    *wire.Hello // nil if none came
	Answered bool        // the agent's whole answer was sent
	Messages []wire.Message
	Bytes    []byte // all that was read
	Err      error  // how reading ended; nil for the client's close and for the agent's

	agent         *Agent
	conn          *net.TCPConn
	open          bool
	registered    bool // as far as the agent knows the process
	leaving       bool // it has deregistered, and is closed when there is something else to do
	events        int
	last          []sequence
	subscriptions []subscription
}

// sequence is the last seqnum of a client.
type sequence struct {
	client wire.ClientID
	last   uint16
}

// Start starts an agent.
func Start(config Config) (*Agent, error) {
	a := &Agent{config: config, reserved: -1, ended: make(chan struct{})}
	a.changed = sync.NewCond(&a.mu)
	if a.config.Location == (wire.Location{}) {
		a.config.Location = wire.Location{
			Hostname: "127.0.0.1", StartTime: time.Now().Format("Mon_Jan_02_002_15:04:05"), PID: int32(os.Getpid()),
		}
	}
	if err := a.reserve(); err != nil {
		return nil, err
	}
	if config.Fault.Kind == Refuse {
		return a, nil
	}
	var err error
	a.listener, err = net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: a.port})
	if err != nil {
		unix.Close(a.reserved)
		return nil, err
	}
	if config.Fault.Kind != Starting {
		a.running.Go(a.accept)
		if config.Lag > 0 {
			a.running.Go(a.work)
		}
	}
	return a, nil
}

// reserve takes the port without listening, so that connections are refused as
// long as nobody else does, and nobody is given the port who asks for any.
func (a *Agent) reserve() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	// Package net sets it too, and the port can then be shared with the listener.
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		unix.Close(fd)
		return os.NewSyscallError("setsockopt", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Port: a.config.Port, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		unix.Close(fd)
		return os.NewSyscallError("bind", err)
	}
	addr, err := unix.Getsockname(fd)
	if err != nil {
		unix.Close(fd)
		return os.NewSyscallError("getsockname", err)
	}
	a.reserved, a.port = fd, addr.(*unix.SockaddrInet4).Port
	return nil
}

// Port is where the agent listens, of 127.0.0.1, or with Refuse does not.
func (a *Agent) Port() int { return a.port }

// Location is what the agent answers handshakes with.
func (a *Agent) Location() wire.Location { return a.config.Location }

// Close ends the agent, closes all connections, and waits for that.
func (a *Agent) Close() {
	a.mu.Lock()
	a.stop()
	if a.reserved >= 0 {
		unix.Close(a.reserved)
		a.reserved = -1
	}
	a.mu.Unlock()
	a.running.Wait()
}

// stop ends the agent as a signal would: the kernel closes its sockets. The port
// stays taken. The caller has the lock.
func (a *Agent) stop() {
	if a.closed {
		return
	}
	a.closed = true
	close(a.ended)
	if a.listener != nil {
		shutdown(a.listener)
		a.listener.Close()
	}
	for _, c := range a.connections {
		shutdown(c.conn)
		c.conn.Close()
	}
	a.changed.Broadcast()
}

// shutdown ends what a socket is for. A child that another test has forked, and that
// has not come to its exec, has the socket too, and would keep it alive after a close.
func shutdown(socket syscall.Conn) {
	if raw, err := socket.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { _ = unix.Shutdown(int(fd), unix.SHUT_RDWR) })
	}
}

// Events are those that arrived so far, in that order.
func (a *Agent) Events() []*Event {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.events)
}

// EventText is [Event.String] of each event, one a line.
func (a *Agent) EventText() string {
	var s strings.Builder
	for _, e := range a.Events() {
		fmt.Fprintln(&s, e)
	}
	return s.String()
}

// Dropped is how many messages were lost because their connection had ended before the
// agent came to them.
func (a *Agent) Dropped() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.dropped
}

// Subscribers is how many clients have subscribed to something.
func (a *Agent) Subscribers() (n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, c := range a.connections {
		if len(c.subscriptions) > 0 {
			n++
		}
	}
	return n
}

// Connections are those that were made so far, in that order.
func (a *Agent) Connections() []*Connection {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.connections)
}

// Problems are what clients should not have done, a line each. An agent with a
// fault notes fewer, since the client could not do better.
func (a *Agent) Problems() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.problems)
}

// flusher is the address that Settle connects from, which no client has.
var flusher = net.IPv4(127, 0, 70, 84)

// Settle waits until the agent has seen all that clients have sent which have
// ended by now, and until no client is connected but for those that have deregistered or
// subscribed. It fails if that takes longer than the timeout.
func (a *Agent) Settle(timeout time.Duration) error {
	deadline := time.Now().Add(timeout)
	timer := time.AfterFunc(timeout, func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.changed.Broadcast()
	})
	defer timer.Stop()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.listener == nil || a.config.Fault.Kind == Starting {
		return nil
	}
	// Connections are accepted in their order, so when this one has been, those
	// of the clients have.
	want := a.flushes + 1
	if !a.closed {
		a.mu.Unlock()
		dialer := net.Dialer{Deadline: deadline, LocalAddr: &net.TCPAddr{IP: flusher}}
		conn, err := dialer.Dial("tcp4", a.listener.Addr().String())
		a.mu.Lock()
		if err == nil {
			defer conn.Close()
		} else if !a.closed {
			return err
		}
	}
	for !a.settled(want) {
		if !time.Now().Before(deadline) {
			return fmt.Errorf("ftbsim: clients are still connected after %v", timeout)
		}
		a.changed.Wait()
	}
	return nil
}

func (a *Agent) settled(flushes int) bool {
	if a.flushes < flushes && !a.closed {
		return false
	}
	return !slices.ContainsFunc(a.connections, func(c *Connection) bool {
		return c.open && !c.leaving && len(c.subscriptions) == 0 && a.config.Fault.Kind != Deaf
	})
}

// problem notes one; the caller has the lock.
func (a *Agent) problem(format string, args ...any) {
	a.problems = append(a.problems, fmt.Sprintf(format, args...))
}

// accept takes connections until the agent ends.
func (a *Agent) accept() {
	for {
		conn, err := a.listener.Accept()
		if err != nil {
			return
		}
		a.mu.Lock()
		a.wake(nil)
		switch {
		case a.closed:
			conn.Close()
		case conn.RemoteAddr().(*net.TCPAddr).IP.Equal(flusher):
			a.flushes++
			conn.Close()
		default:
			c := &Connection{Number: len(a.connections) + 1, agent: a, conn: conn.(*net.TCPConn), open: true}
			a.connections = append(a.connections, c)
			a.running.Go(c.serve)
		}
		a.changed.Broadcast()
		a.mu.Unlock()
	}
}

// wake is when the agent has something to do for a connection, or for a new one. It then
// closes those that have deregistered. The caller has the lock.
func (a *Agent) wake(except *Connection) {
	for _, c := range a.connections {
		if c.leaving && c != except {
			c.conn.Close()
		}
	}
}

// work comes to the messages, one after the other, with Lag.
func (a *Agent) work() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for {
		for len(a.queue) == 0 && !a.closed {
			a.changed.Wait()
		}
		if a.closed {
			return
		}
		next := a.queue[0]
		a.mu.Unlock()
		time.Sleep(a.config.Lag)
		a.mu.Lock()
		if len(a.queue) == 0 || a.queue[0] != next {
			continue // dropped meanwhile
		}
		a.queue = a.queue[1:]
		if !next.from.message(next.raw) {
			next.from.conn.Close()
		}
		a.changed.Broadcast()
	}
}

// drop forgets what it has not come to of a connection that has ended. The caller has
// the lock.
func (a *Agent) drop(c *Connection) {
	left := slices.DeleteFunc(slices.Clone(a.queue), func(q *queued) bool { return q.from == c })
	a.dropped += len(a.queue) - len(left)
	a.queue = left
}
