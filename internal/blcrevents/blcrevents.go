// Package blcrevents publishes BLCR's six events on a Fault Tolerance Backplane: a
// checkpoint or a restart begins, ends or fails.
//
// It knows the events. How they are transmitted belongs to package ftbclient. Its
// functions do not fail: whether there is an agent never changes the result of a
// checkpoint. It can only delay it, up to a deadline.
package blcrevents

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/forkexec"
	"blcr-cli/internal/ftbclient"
	"blcr-cli/internal/ftbclient/wire"
)

// Space is the event space of the six events.
const Space = "FTB.checkpoint_sw.blcr"

// limit is the time that each of the two events may take, including the connection.
const limit = 2 * time.Second

// keep is what holds a connection open when this process may have ended.
var keep = forkexec.Keep

// Operation is the operation that the events report: the first part of their names.
type Operation string

// The operations.
const (
	Checkpoint Operation = "CHKPT"
	Restart    Operation = "RSTRT"
)

// Request is a request whose BEGIN event has been published, if there was an agent. End
// or Forget ends it. Further calls have no effect.
type Request struct {
	operation Operation
	config    ftbclient.Config
	identity  ftbclient.Identity
	say       func(line string)
	begin     wire.Handle
	conn      *ftbclient.Conn // nil: no agent, or everything has been published
	told      string          // the events that were published, for say
}

// Verbose reports whether CR_FTB_VERBOSE in the environment asks for the line about the
// events.
func Verbose(lookup func(string) (string, bool)) bool {
	value, _ := lookup("CR_FTB_VERBOSE")
	return value != ""
}

// JobID returns the job of the environment, CR_FTB_JOBID, for the client_jobid of
// events. What does not fit in there is cut off.
func JobID(lookup func(string) (string, bool)) string {
	id, _ := lookup("CR_FTB_JOBID")
	return id[:min(len(id), wire.MaxJobID)]
}

// Begin publishes the event that a request is about to be issued. lookup is
// os.LookupEnv. CR_FTB is "on", which is the default, or "off"; with any other value
// nothing is published. Package ftbclient documents the other variables. At the end say gets one line about the result, without a line feed. It
// gets nothing if no backplane was configured and none was found.
//
// The Request has a socket open, which is close-on-exec. The socket never has the
// number fd, which is the descriptor of the context: the request has to find that as it
// is, even if it is closed.
//
// Cancelling ctx ends the wait. The Request is nil then, and its methods do nothing.
func Begin(ctx context.Context, operation Operation, fd int, lookup func(string) (string, bool), say func(line string)) *Request {
	r := &Request{
		operation: operation, say: say,
		identity: ftbclient.Identity{Space: Space, JobID: JobID(lookup)},
	}
	switch mode, _ := lookup("CR_FTB"); mode {
	case "", "on":
	case "off":
		return r
	default:
		r.report(fmt.Errorf("CR_FTB is %q, which is neither \"on\" nor \"off\"", mode))
		return r
	}
	begun := make(chan struct{})
	go func() {
		defer close(begun)
		r.publishBegin(fd, lookup)
	}()
	select {
	case <-begun:
		return r
	case <-ctx.Done():
		return nil
	}
}

// publishBegin connects and publishes the first event.
func (r *Request) publishBegin(fd int, lookup func(string) (string, bool)) {
	defer occupy(fd)()
	if !spare() {
		return
	}
	r.config = ftbclient.LoadConfig(lookup)
	err := r.connect(time.Now().Add(limit))
	if err == nil {
		r.begin, err = r.publish("_BEGIN", "INFO", wire.Normal, nil)
	}
	if err != nil {
		r.drop()
		if errors.Is(err, ftbclient.ErrNoAgent) && !configured(lookup) {
			return
		}
		for _, doubt := range r.config.Doubts() {
			err = fmt.Errorf("%w; %s", err, doubt)
		}
		r.report(err)
	}
}

// placeholder opens a descriptor that only occupies a number. BLCR's module, which may
// ask this process to take part in a checkpoint at any moment, can save it.
func placeholder() (int, error) { return unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0) }

// occupy keeps the number of a closed descriptor from being used until free is called.
// It does nothing if the descriptor is open.
func occupy(fd int) (free func()) {
	free = func() {}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); fd < 0 || err != unix.EBADF {
		return free
	}
	spare, err := placeholder()
	if err != nil {
		return free
	}
	if spare != fd {
		// A number above the limit cannot be opened, so it need not be occupied.
		err = unix.Dup3(spare, fd, unix.O_CLOEXEC)
		unix.Close(spare)
	}
	if err == nil {
		free = func() { unix.Close(fd) }
	}
	return free
}

// spare reports whether there are enough free descriptors for the request itself if the
// connection uses one.
func spare() bool {
	const enough = 8
	fd, err := placeholder()
	if err != nil {
		return false
	}
	fds := []int{fd}
	defer func() {
		for _, fd := range fds {
			unix.Close(fd)
		}
	}()
	for len(fds) < enough {
		fd, err := unix.FcntlInt(uintptr(fds[0]), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return false
		}
		fds = append(fds, fd)
	}
	return true
}

// configured reports whether the environment configures a backplane.
func configured(lookup func(string) (string, bool)) bool {
	for _, name := range []string{"FTB_AGENT_PORT", "FTB_BSTRAP_SERVER", "FTB_BSTRAP_PORT", "FTB_CONFIG_FILE"} {
		if _, set := lookup(name); set {
			return true
		}
	}
	return false
}

// End publishes the result of the request: an error number, the system's or BLCR's, or
// 0 for success. The connection may stay open for a moment after it has returned, in
// another process; see ftbclient.Conn.Finish. It does nothing for a nil Request.
func (r *Request) End(errno syscall.Errno) {
	switch {
	case r == nil:
	case errno == 0:
		r.end("_END", "INFO", nil)
	default:
		r.end("_ERROR", "ERROR", wire.AppendErrno(nil, int32(errno)))
	}
}

// Forget closes the connection without a second event: this process must not report the
// result.
func (r *Request) Forget() {
	if r != nil && r.conn != nil {
		r.conn.SetDeadline(time.Now().Add(limit))
		_ = r.conn.Finish(keep)
		r.conn = nil
		r.report(nil)
	}
}

// end publishes the second event. If the agent has died since the first event, another
// one may have been started, so an event that could not be sent is tried once more. An
// event that has been sent may have arrived, and is not sent again.
func (r *Request) end(suffix, severity string, payload []byte) {
	if r.conn == nil {
		return
	}
	deadline := time.Now().Add(limit)
	r.conn.SetDeadline(deadline)
	handle, err := r.begin.Encode(nil)
	if err == nil {
		payload = append(handle, payload...)
		_, err = r.publish(suffix, severity, wire.Response, payload)
	}
	if errors.Is(err, ftbclient.ErrLost) {
		if err = r.connect(deadline); err == nil {
			_, err = r.publish(suffix, severity, wire.Response, payload)
		}
	}
	if err == nil {
		// Finish detects an agent that has died.
		err = r.conn.Finish(keep)
	}
	r.drop()
	r.report(err)
}

func (r *Request) connect(deadline time.Time) (err error) {
	r.conn, err = ftbclient.Dial(r.config, r.identity, deadline)
	return err
}

func (r *Request) publish(suffix, severity string, t wire.EventType, payload []byte) (wire.Handle, error) {
	name := string(r.operation) + suffix
	handle, err := r.conn.Publish(ftbclient.Event{Name: name, Severity: severity, Type: t, Payload: payload})
	if err == nil {
		if r.told != "" {
			r.told += " and "
		}
		r.told += name
	}
	return handle, err
}

func (r *Request) drop() {
	if r.conn != nil {
		_ = r.conn.Close()
		r.conn = nil
	}
}

// report passes the result to say.
func (r *Request) report(err error) {
	switch {
	case err == nil:
		r.say(fmt.Sprintf("FTB: published %s", r.told))
	case r.told == "":
		r.say(fmt.Sprintf("FTB: no event published: %v", err))
	default:
		r.say(fmt.Sprintf("FTB: published %s, and then: %v", r.told, err))
	}
}
