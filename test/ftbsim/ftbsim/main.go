// Command ftbsim is an FTB agent for tests and for trying things by hand: it
// prints a line for each event that it is given, until it is ended. Package
// ftbsim has the details.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"blcr-cli/internal/ftbclient/wire"
	"blcr-cli/test/ftbsim"
)

const usage = `Usage: ftbsim [option...] [--] [program [argument...]]
  -port <port>        where to listen, of 127.0.0.1 (default: any free port)
  -fault <fault>      what to do wrong: refuse, starting, stall, close, reset,
                      short, part, garbage, slow=<time>, deaf, drop=<events>
                      or die=<events>
  -bootstrap <kind>   play a bootstrap server too, that knows of the agent:
                      0.6.2 or 0.6.1; or one that is silent, garbage, or knows
                      none
  -handles            print each event's handle behind it

With a program, it is run with FTB_AGENT_PORT set to the agent, or with
-bootstrap with FTB_BSTRAP_SERVER and FTB_BSTRAP_PORT set to the server and
FTB_AGENT_PORT to a port where nobody listens. The events are on stderr then,
problems too, and the exit status is the program's. Without one, the variables
are the first line on stdout, and SIGINT or SIGTERM ends it.
`

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// options is a command line understood.
type options struct {
	port      int
	fault     ftbsim.Fault
	bootstrap string
	handles   bool
	program   []string
}

func parse(args []string) (*options, error) {
	o := &options{}
	flags := flag.NewFlagSet("ftbsim", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.IntVar(&o.port, "port", 0, "")
	fault := flags.String("fault", "", "")
	flags.StringVar(&o.bootstrap, "bootstrap", "", "")
	flags.BoolVar(&o.handles, "handles", false, "")
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	o.program = flags.Args()
	var err error
	o.fault, err = ftbsim.ParseFault(*fault)
	return o, err
}

func run(args []string, stdout, stderr io.Writer) int {
	o, err := parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(stdout, usage)
		return 0
	case err != nil:
		fmt.Fprintf(stderr, "ftbsim: %v\n%s", err, usage)
		return 125
	}
	events := stdout
	if len(o.program) > 0 {
		events = stderr
	}
	agent, err := ftbsim.Start(ftbsim.Config{Port: o.port, Fault: o.fault, OnEvent: func(e *ftbsim.Event) {
		fmt.Fprintln(events, e)
		if h := e.Handle(); o.handles {
			if b, err := h.Encode(nil); err == nil {
				fmt.Fprintf(events, "%x\n", b)
			}
		}
	}})
	if err != nil {
		fmt.Fprintln(stderr, "ftbsim:", err)
		return 125
	}
	defer agent.Close()
	env, stop, err := o.variables(agent)
	if err != nil {
		fmt.Fprintln(stderr, "ftbsim:", err)
		return 125
	}
	defer stop()

	status := 0
	if len(o.program) > 0 {
		status = o.runProgram(env, stderr)
	} else {
		// Before anybody can read that it is there.
		ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
		defer cancel()
		fmt.Fprintln(stdout, strings.Join(env, " "))
		<-ctx.Done()
	}
	if err := agent.Settle(time.Second); err != nil {
		fmt.Fprintln(stderr, err)
	}
	for _, problem := range agent.Problems() {
		fmt.Fprintln(stderr, "ftbsim: problem:", problem)
	}
	return status
}

// variables are what leads clients to the agent. Stop ends what was started for
// that.
func (o *options) variables(agent *ftbsim.Agent) (env []string, stop func(), err error) {
	if o.bootstrap == "" {
		return []string{fmt.Sprintf("FTB_AGENT_PORT=%d", agent.Port())}, func() {}, nil
	}
	config, err := ftbsim.ParseBootstrap(o.bootstrap, wire.Addr{Name: "127.0.0.1", Port: int32(agent.Port())})
	if err != nil {
		return nil, nil, err
	}
	nobody, err := ftbsim.Start(ftbsim.Config{Fault: ftbsim.Fault{Kind: ftbsim.Refuse}})
	if err != nil {
		return nil, nil, err
	}
	server, err := ftbsim.StartBootstrap(config)
	if err != nil {
		nobody.Close()
		return nil, nil, err
	}
	env = []string{
		"FTB_BSTRAP_SERVER=127.0.0.1",
		fmt.Sprintf("FTB_BSTRAP_PORT=%d", server.Port()),
		fmt.Sprintf("FTB_AGENT_PORT=%d", nobody.Port()),
	}
	return env, func() { server.Close(); nobody.Close() }, nil
}

// runProgram returns the program's exit status, as a shell has it.
func (o *options) runProgram(env []string, stderr io.Writer) int {
	c := exec.Command(o.program[0], o.program[1:]...)
	c.Env = append(os.Environ(), env...)
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	err := c.Run()
	if c.ProcessState == nil {
		fmt.Fprintln(stderr, "ftbsim:", err)
		return 127
	}
	end := c.ProcessState.Sys().(syscall.WaitStatus)
	if end.Signaled() {
		return 128 + int(end.Signal())
	}
	return end.ExitStatus()
}
