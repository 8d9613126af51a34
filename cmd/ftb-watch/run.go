package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"blcr-cli/internal/cli"
	"blcr-cli/internal/ftbclient"
	"blcr-cli/internal/signals"
)

const name = "ftb-watch"

func versionLine() string { return fmt.Sprintf("%s version %s\n", name, cli.Version) }

// identity is the client that subscribes. It publishes nothing.
var identity = ftbclient.Identity{Space: "FTB.blcr_cli.ftb_watch", Name: name}

const (
	// dialTime is what finding an agent may take.
	dialTime = 2 * time.Second

	// sliceTime is how long this process waits for an event before it looks whether it
	// has to end.
	sliceTime = 200 * time.Millisecond

	// firstPause and lastPause are between attempts to reach an agent again.
	firstPause = 100 * time.Millisecond
	lastPause  = 2 * time.Second
)

// run is the command: args is its whole argument vector. It returns the exit status,
// unless a signal has ended it, of which this process then dies.
func run(args []string, stdout, stderr io.Writer) int {
	signals.KeepIgnored()
	con := &cli.Console{Stdout: stdout, Stderr: stderr}
	app := newApp(stdout, stderr, func(s *settings) error {
		con.Level = s.level
		if s.text != "" {
			return con.Print(s.text)
		}
		// Errors of stdout are known before an agent is asked for events.
		if err := con.Print(""); err != nil {
			return err
		}
		w := &watch{settings: s, con: con}
		return w.do()
	})
	err := app.Run(args)
	var died signalError
	if errors.As(err, &died) {
		signals.DieOf(syscall.Signal(died))
	}
	if err != nil {
		con.Errorf("%s: %s\n", name, message(err))
		if errors.Is(err, ftbclient.ErrNoAgent) {
			config := ftbclient.LoadConfig(os.LookupEnv)
			con.Details(config.Doubts())
		}
	}
	return status(err)
}

// signalError is a signal that has ended the command.
type signalError syscall.Signal

func (e signalError) Error() string { return syscall.Signal(e).String() }

// watch is the command at work.
type watch struct {
	*settings
	con     *cli.Console
	conn    *ftbclient.Conn
	end     time.Time // zero for none
	pairs   pairs
	printer *printer
	shown   int
	signals chan os.Signal
}

// do watches until it has to end.
func (w *watch) do() error {
	w.signals = make(chan os.Signal, 1)
	for _, sig := range []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		if !signal.Ignored(sig) {
			signal.Notify(w.signals, sig)
		}
	}
	if w.timeout > 0 {
		w.end = time.Now().Add(w.timeout)
	}
	if err := w.connect(); err != nil {
		return err
	}
	w.printer = newPrinter(w.con)
	err := w.watch()
	// An agent that does not read is not waited for.
	w.conn.SetDeadline(time.Now().Add(sliceTime))
	_ = w.conn.Close()
	if printed := w.finish(err); printed != nil && (err == nil || errors.Is(err, errTooFew)) {
		return printed
	}
	return err
}

// connect finds an agent and subscribes.
func (w *watch) connect() error {
	conn, err := ftbclient.Dial(ftbclient.LoadConfig(os.LookupEnv), identity, w.until(dialTime))
	if err != nil {
		return err
	}
	if err := conn.Subscribe(w.mask); err != nil {
		_ = conn.Close()
		return err
	}
	w.conn = conn
	w.con.Notef("%s: the agent is %s\n", name, conn.Agent())
	return nil
}

// until returns the time after d, or the end if that comes first.
func (w *watch) until(d time.Duration) time.Time {
	t := time.Now().Add(d)
	if !w.end.IsZero() && w.end.Before(t) {
		return w.end
	}
	return t
}

// over returns whether the command has to end, and why if that is not what was asked
// for.
func (w *watch) over() (bool, error) {
	select {
	case sig := <-w.signals:
		return true, signalError(sig.(syscall.Signal))
	default:
	}
	if err := w.printer.unread(); err != nil {
		return true, err
	}
	switch {
	case w.count > 0 && w.shown >= w.count:
		return true, nil
	case w.end.IsZero() || time.Now().Before(w.end):
		return false, nil
	case w.count > 0:
		return true, errTooFew
	}
	return true, nil
}

// watch receives events until the command has to end.
func (w *watch) watch() error {
	for {
		if over, err := w.over(); over {
			return err
		}
		w.conn.SetDeadline(w.until(sliceTime))
		m, err := w.conn.Receive()
		switch {
		case err == nil:
			w.take(newEvent(m, time.Now()))
		case errors.Is(err, ftbclient.ErrTimeout):
		case errors.Is(err, ftbclient.ErrProtocol):
			w.con.Errorf("%s: an event is lost: %s\n", name, message(err))
		default:
			if over, err := w.reconnect(err); over {
				return err
			}
		}
	}
}

// take shows an event, or keeps it until its response comes.
func (w *watch) take(e *event) {
	events := []*event{e}
	if w.pair {
		events = w.pairs.take(e)
	}
	for _, e := range events {
		w.show(e)
		w.shown++
	}
}

func (w *watch) show(e *event) {
	if w.json {
		w.printer.print(e.json())
	} else {
		w.printer.print(e.line())
	}
}

// reconnect tries to reach an agent again, for the reason why, until there is one or the
// command has to end.
func (w *watch) reconnect(why error) (over bool, err error) {
	w.con.Errorf("%s: %s; trying again\n", name, message(why))
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		for next := time.Now().Add(pause); ; {
			if over, err := w.over(); over {
				return true, err
			}
			left := time.Until(next)
			if left <= 0 {
				break
			}
			time.Sleep(min(left, sliceTime))
		}
		if w.connect() == nil {
			w.con.Errorf("%s: the agent is %s; events in between are lost\n", name, w.conn.Agent())
			return false, nil
		}
	}
}

// finish prints what is left, and waits until everything is printed, or for a signal; if
// a signal is the reason why, it does not wait for long.
func (w *watch) finish(why error) error {
	for _, e := range w.pairs.left() {
		w.show(e)
	}
	close(w.printer.lines)
	var enough <-chan time.Time
	if errors.As(why, new(signalError)) {
		enough = time.After(sliceTime)
	}
	select {
	case <-w.printer.done:
	case sig := <-w.signals:
		return signalError(sig.(syscall.Signal))
	case <-enough:
		return nil
	}
	if w.printer.lost > 0 {
		w.con.Errorf("%s: %d events are not shown, since the output was not read\n", name, w.printer.lost)
	}
	return w.printer.failed()
}
