package ftbsim

import (
	"errors"
	"io"
	"net"
	"slices"
	"time"

	"blcr-cli/internal/ftbclient/wire"
)

// serve reads what a client sends until either side closes.
func (c *Connection) serve() {
	a := c.agent
	buf := make([]byte, 1<<16)
	for {
		n, err := c.conn.Read(buf)
		a.mu.Lock()
		done := len(c.Bytes)
		c.Bytes = append(c.Bytes, buf[:n]...)
		if n > 0 && !atUnit(len(c.Bytes)) {
			// A real agent waits for the rest, and everybody waits for it.
			a.problem("connection %d: a unit was sent in pieces, of which one ended at byte %d", c.Number, len(c.Bytes))
		}
		more := c.units(done)
		if err != nil || !more {
			c.end(err)
			a.changed.Broadcast()
			a.mu.Unlock()
			return
		}
		a.mu.Unlock()
		if a.config.Fault.Kind == Deaf && c.Answered {
			return
		}
	}
}

// end is when there is nothing more to read. The caller has the lock.
func (c *Connection) end(err error) {
	a := c.agent
	c.conn.Close()
	a.drop(c)
	a.wake(c)
	c.open, c.registered, c.leaving, c.subscriptions = false, false, false, nil
	if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) {
		err = nil
	}
	c.Err = err
	if err != nil && a.config.Fault.Kind == None {
		// Such as by closing it with the answer not read (section 4).
		a.problem("connection %d: %v", c.Number, err)
	}
}

// atUnit tells whether a unit ends so many bytes after the start.
func atUnit(n int) bool {
	return n >= wire.HelloSize && (n-wire.HelloSize)%wire.MessageSize == 0
}

// units takes the units that have become complete since there were so many
// bytes. It returns false when the connection is to be closed. The caller has
// the lock.
func (c *Connection) units(done int) bool {
	// Judged before the rest of the handshake has come.
	if len(c.Bytes) >= 4 && done < 4 && !c.system() {
		return false
	}
	if len(c.Bytes) >= wire.HelloSize && done < wire.HelloSize {
		done = wire.HelloSize
		if !c.hello() {
			return false
		}
	}
	if done >= wire.HelloSize {
		for at := done - (done-wire.HelloSize)%wire.MessageSize; at+wire.MessageSize <= len(c.Bytes); at += wire.MessageSize {
			// Without an answer there is nothing that it should send.
			raw := c.Bytes[at : at+wire.MessageSize]
			switch {
			case !c.Answered:
			case c.agent.config.Lag > 0:
				c.agent.queue = append(c.agent.queue, &queued{c, raw})
				c.agent.changed.Broadcast()
			case !c.message(raw):
				return false
			}
		}
	}
	return true
}

// system looks at the system id.
func (c *Connection) system() bool {
	if slices.Equal(c.Bytes[:4], []byte{1, 0, 0, 0}) {
		return true
	}
	c.agent.problem("connection %d: system id % x", c.Number, c.Bytes[:4])
	c.reset()
	return false
}

// reset makes the close that follows a reset.
func (c *Connection) reset() { c.conn.SetLinger(0) }

// hello takes the handshake and answers it, or does what the fault is.
func (c *Connection) hello() bool {
	a := c.agent
	var hello wire.Hello
	if err := hello.Decode(c.Bytes); err != nil {
		a.problem("connection %d: handshake: %v", c.Number, err)
		c.reset()
		return false
	}
	c.Hello = &hello
	manager := wire.Manager(hello.Location)
	switch m := &hello.Message; {
	case m.Type != wire.ClientReg:
		a.problem("connection %d: the handshake has a %v", c.Number, m.Type)
	case !m.Src.Equal(&manager):
		a.problem("connection %d: the handshake is not from the process's manager", c.Number)
	}
	for _, other := range a.connections {
		if other != c && other.registered && other.Hello.Location.Equal(&hello.Location) {
			// Section 7.2: it is taken for the same process, and loses events.
			a.problem("connection %d: same location as connection %d", c.Number, other.Number)
			c.reset()
			return false
		}
	}
	c.registered = true

	answer, err := a.config.Location.Encode(nil)
	if err != nil {
		a.problem("the agent's own location: %v", err)
		return false
	}
	half := answer[:len(answer)/2]
	switch f := a.config.Fault; f.Kind {
	case Stall:
		return true
	case Close:
		return false
	case Reset:
		c.reset()
		return false
	case Short:
		c.send(half)
		return false
	case Part:
		c.send(half)
		return true
	case Garbage:
		// Strings without an end.
		answer = slices.Repeat([]byte{0xff}, len(answer))
	case Slow:
		pause := f.Delay / time.Duration(len(answer))
		c.Answered = true
		a.running.Go(func() {
			for i := range answer {
				select {
				case <-time.After(pause):
				case <-a.ended:
					return
				}
				if c.send(answer[i:i+1]) != nil {
					return
				}
			}
		})
		return true
	}
	if c.send(answer) != nil {
		return false
	}
	c.Answered = true
	if a.config.Fault.Kind == Drop && a.config.Fault.Events == 0 {
		return false
	}
	if a.config.Fault.Kind == Die && a.config.Fault.Events == 0 {
		a.stop()
		return false
	}
	return true
}

// send writes to the client, but not for ever.
func (c *Connection) send(b []byte) error {
	c.conn.SetWriteDeadline(time.Now().Add(time.Second))
	_, err := c.conn.Write(b)
	return err
}

// message takes a message that comes after the handshake.
func (c *Connection) message(raw []byte) bool {
	a := c.agent
	a.wake(c)
	var m wire.Message
	if err := m.Decode(raw); err != nil {
		a.problem("connection %d: %v", c.Number, err)
		return true
	}
	c.Messages = append(c.Messages, m)
	if !m.Src.Location.Equal(&c.Hello.Location) {
		a.problem("connection %d: %v from another location than the handshake's", c.Number, m.Type)
	}
	switch m.Type {
	case wire.Notify:
		return c.notify(&m, raw)
	case wire.ClientReg:
	case wire.ClientDereg:
		if m.Src.Client.Ext == wire.ExtLeaf {
			// The process. The agent closes the connection when it is next woken
			// by something else (section 4), which may take as long as it likes.
			c.registered, c.leaving, c.subscriptions = false, true, nil
			break
		}
		c.unsubscribe(func(s *subscription) bool { return s.src.Equal(&m.Src) })
	case wire.RegSubscription:
		c.subscriptions = append(c.subscriptions, subscription{m.Src, m.Event})
	case wire.SubscriptionCancel:
		c.unsubscribe(func(s *subscription) bool { return s.src.Equal(&m.Src) && sameMask(&s.mask, &m.Event) })
	default:
		a.problem("connection %d: %v", c.Number, m.Type)
	}
	return true
}

// notify takes an event.
func (c *Connection) notify(m *wire.Message, raw []byte) bool {
	a := c.agent
	c.yield()
	c.checkSequence(m)
	e := &Event{Message: *m, Raw: slices.Clone(raw), Number: len(a.events) + 1, Connection: c.Number}
	if m.Event.Type == wire.Response {
		var about wire.Handle
		if err := about.Decode(m.Event.Payload[:]); err != nil {
			a.problem("connection %d: a response to no event: %v", c.Number, err)
		}
		for _, earlier := range a.events {
			if h := earlier.Handle(); h.Equal(&about) {
				e.Answers = earlier.Number
			}
		}
	}
	a.events = append(a.events, e)
	c.events++
	if a.config.OnEvent != nil {
		a.config.OnEvent(e)
	}
	a.route(m, raw)
	switch f := a.config.Fault; {
	case f.Kind == Drop && c.events >= f.Events:
		return false
	case f.Kind == Die && len(a.events) >= f.Events:
		a.stop()
		return false
	}
	return true
}

// yield lets those go first who have come before and said nothing yet: what one
// client sends after another has ended is to be noted after it. The caller has the
// lock.
func (c *Connection) yield() {
	a := c.agent
	if a.config.Lag > 0 {
		return // there is one queue for all
	}
	for range 100 {
		if a.closed || !slices.ContainsFunc(a.connections, func(o *Connection) bool {
			return o.Number < c.Number && o.open && o.events == 0 && len(o.subscriptions) == 0
		}) {
			return
		}
		a.mu.Unlock()
		time.Sleep(time.Millisecond)
		a.mu.Lock()
	}
}

// checkSequence sees to it that a client numbers its events from 1 on.
func (c *Connection) checkSequence(m *wire.Message) {
	for i := range c.last {
		if s := &c.last[i]; s.client.Equal(&m.Src.Client) {
			if s.last++; s.last != m.Event.Seq {
				c.agent.problem("connection %d: event number %d after %d", c.Number, m.Event.Seq, s.last-1)
				s.last = m.Event.Seq
			}
			return
		}
	}
	if m.Event.Seq != 1 {
		c.agent.problem("connection %d: the first event has number %d", c.Number, m.Event.Seq)
	}
	c.last = append(c.last, sequence{m.Src.Client, m.Event.Seq})
}
