// Package blcrevents tells a Fault Tolerance Backplane of BLCR's six events: that
// a checkpoint or a restart begins, ends or fails.
//
// It knows the events, and nothing of how they travel (package ftbclient) or of
// what happens in between. Nothing here fails: whether anybody listens changes
// nothing about a checkpoint, but for the time that a deadline allows.
package blcrevents

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ftbclient"
	"blcr-cli/internal/ftbclient/wire"
)

// space is the event space of the six events.
const space = "FTB.checkpoint_sw.blcr"

// limit is how long each of the two events may take, connecting included.
const limit = 2 * time.Second

// Operation is what the events are about, as the first part of their names.
type Operation string

// The operations.
const (
	Checkpoint Operation = "CHKPT"
	Restart    Operation = "RSTRT"
)

// Request is a request whose beginning has been told, if there was anybody to
// tell it to. End or Forget ends it; what comes after the first of them does
// nothing.
type Request struct {
	operation Operation
	config    ftbclient.Config
	say       func(line string)
	begin     wire.Handle
	conn      *ftbclient.Conn // nil: nobody listens, or all has been said
	told      string          // what went well, for say
}

// Begin tells that a request is about to be issued. Lookup is os.LookupEnv:
// CR_FTB=off is for no events, and package ftbclient has the other variables.
// Say gets one line in the end about what happened, without a line end, but
// nothing where no backplane was asked for and none is there.
//
// The Request has a socket open, which is closed on exec, and which does not have
// the number fd: the request is about that, and has to find it as it is, even closed.
//
// Cancelling ctx ends the wait: the Request is nil then, which is one that has not
// begun.
func Begin(ctx context.Context, operation Operation, fd int, lookup func(string) (string, bool), say func(line string)) *Request {
	r := &Request{operation: operation, say: say}
	if mode, _ := lookup("CR_FTB"); mode == "off" {
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
		r.report(err)
	}
}

// placeholder opens a descriptor for nothing. It is one that BLCR's module can save,
// which may ask this process at any moment.
func placeholder() (int, error) { return unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0) }

// occupy keeps a descriptor that is closed from being opened until free is called.
// It does nothing about one that is open.
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
		// A number beyond the limit cannot be had, by nobody else either.
		err = unix.Dup3(spare, fd, unix.O_CLOEXEC)
		unix.Close(spare)
	}
	if err == nil {
		free = func() { unix.Close(fd) }
	}
	return free
}

// spare tells whether there are descriptors left for the request itself while the
// connection takes one.
func spare() bool {
	const enough = 8
	var fds []int
	defer func() {
		for _, fd := range fds {
			unix.Close(fd)
		}
	}()
	for range enough {
		fd, err := placeholder()
		if err != nil {
			return false
		}
		fds = append(fds, fd)
	}
	return true
}

// configured tells whether somebody has said where a backplane is.
func configured(lookup func(string) (string, bool)) bool {
	for _, name := range []string{"FTB_AGENT_PORT", "FTB_BSTRAP_SERVER", "FTB_BSTRAP_PORT", "FTB_CONFIG_FILE"} {
		if _, set := lookup(name); set {
			return true
		}
	}
	return false
}

// End tells how the request ended: with an error number, the system's or BLCR's,
// or well, which is 0. A nil Request is one that has not begun.
func (r *Request) End(errno syscall.Errno) {
	switch {
	case r == nil:
	case errno == 0:
		r.end("_END", "INFO", nil)
	default:
		r.end("_ERROR", "ERROR", binary.NativeEndian.AppendUint32(nil, uint32(errno)))
	}
}

// Forget tells nothing: how the request ended is not ours to say.
func (r *Request) Forget() {
	if r != nil && r.conn != nil {
		r.conn.SetDeadline(time.Now().Add(limit))
		_ = r.conn.Close()
		r.conn = nil
		r.report(nil)
	}
}

// end tells the second event. An agent that has died since the first may have a
// successor, so there is one more try if the event has not been sent; one that has
// been sent may have arrived, and is not sent again.
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
		// Which finds out whether anybody was there.
		err = r.conn.Close()
	}
	r.drop()
	r.report(err)
}

func (r *Request) connect(deadline time.Time) (err error) {
	r.conn, err = ftbclient.Dial(r.config, ftbclient.Identity{Space: space}, deadline)
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

// report says what happened.
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
