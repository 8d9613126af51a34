package main

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"blcr-cli/internal/cli"
	"blcr-cli/internal/forkexec"
	"blcr-cli/internal/ftbclient"
	"blcr-cli/internal/ftbclient/wire"
)

const name = "ftb-publish"

func versionLine() string { return fmt.Sprintf("%s version %s\n", name, cli.Version) }

// run is the command: args is its whole argument vector. It returns the exit
// status.
func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	return cli.Run(name, "publish an event on a Fault Tolerance Backplane", args, stdout, stderr,
		func(args []string, con *cli.Console) int {
			err := do(args, stdin, con)
			if err == nil {
				return 0
			}
			con.Errorf("%s: %s\n", name, message(err))
			if errors.Is(err, ftbclient.ErrNoAgent) {
				config := ftbclient.LoadConfig(os.LookupEnv)
				con.Details(config.Doubts())
			}
			return status(err)
		})
}

// do runs the command with these arguments.
func do(args []string, stdin io.Reader, con *cli.Console) error {
	s, err := parse(args, con)
	var text cli.Text
	switch {
	case errors.As(err, &text):
		return con.Print(string(text))
	case err != nil:
		return err
	}
	// The payload is read before connecting: an agent that waits for one client makes
	// all others wait.
	if s.event.Payload, err = s.payload.bytes(stdin); err != nil {
		return err
	}
	config := ftbclient.LoadConfig(os.LookupEnv)
	if s.check {
		return s.connect(config, con)
	}
	done := s.publish(config, con)
	if done.err != nil && status(done.err) == statusArgument {
		return done.err
	}
	if err := s.report(con, done); err != nil && done.err == nil {
		return err
	}
	return done.err
}

// connect is --check: it connects to an agent and publishes nothing.
func (s *settings) connect(config ftbclient.Config, con *cli.Console) error {
	conn, err := ftbclient.Dial(config, s.identity, time.Now().Add(s.timeout))
	if err != nil {
		return err
	}
	con.Notef("%s: the agent is %s\n", name, conn.Agent())
	return conn.Close()
}

// outcome is the result of publishing the event.
type outcome struct {
	agent  string // "" for none
	handle string // in hexadecimal digits; "" if the event was not published
	err    error
}

// publish sends the event to an agent.
func (s *settings) publish(config ftbclient.Config, con *cli.Console) (done outcome) {
	conn, err := ftbclient.Dial(config, s.identity, time.Now().Add(s.timeout))
	if err != nil {
		return outcome{err: err}
	}
	done.agent = conn.Agent()
	con.Notef("%s: the agent is %s\n", name, done.agent)
	handle, err := conn.Publish(s.event)
	// Publish has only handed the event to the kernel. If the agent does not answer
	// the disconnect, it may not have received the event.
	if closing := conn.Finish(forkexec.Keep); err == nil {
		err = closing
	}
	if err == nil {
		done.handle, err = encodeHandle(handle)
	}
	if err != nil {
		done.err = err
		return done
	}
	con.Notef("%s: published %s, severity %s, in %s\n", name, s.event.Name, s.event.Severity, s.identity.Space)
	return done
}

func encodeHandle(h wire.Handle) (string, error) {
	b, err := h.Encode(nil)
	return hex.EncodeToString(b), err
}

// report prints the requested output on stdout.
func (s *settings) report(con *cli.Console, done outcome) error {
	switch {
	case s.output == outputJSON:
		return con.Print(s.json(done))
	case s.output == outputHandle && done.err == nil:
		return con.Print(done.handle + "\n")
	}
	return nil
}

// json returns the line of --json. The names are documented in ftb-publish(1).
func (s *settings) json(done outcome) string {
	line := struct {
		Published  bool   `json:"published"`
		Status     int    `json:"status"`
		Error      string `json:"error,omitempty"`
		Agent      string `json:"agent,omitempty"`
		Event      string `json:"event"`
		Space      string `json:"space"`
		Severity   string `json:"severity"`
		ClientName string `json:"client_name"`
		JobID      string `json:"jobid"`
		Type       string `json:"type"`
		Payload    string `json:"payload"`
		Handle     string `json:"handle,omitempty"`
	}{
		Published: done.err == nil, Agent: done.agent,
		Event: s.event.Name, Space: s.identity.Space, Severity: s.event.Severity,
		ClientName: s.identity.Name, JobID: s.identity.JobID, Type: "normal",
		Payload: hex.EncodeToString(s.event.Payload), Handle: done.handle,
	}
	if s.event.Type == wire.Response {
		line.Type = "response"
	}
	if done.err != nil {
		line.Status, line.Error = status(done.err), message(done.err)
	}
	// All of its types can be encoded.
	b, _ := json.Marshal(line)
	return string(b) + "\n"
}
