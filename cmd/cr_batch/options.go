package main

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"syscall"
	"time"

	urfave "github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"blcr-cli/internal/batch"
	"blcr-cli/internal/cli"
)

// flags are cr_batch's options. BLCR has no such command, so they are urfave's.
func flags() []urfave.Flag {
	return []urfave.Flag{
		&urfave.StringFlag{Name: "dir", Aliases: []string{"d"}},
		&urfave.StringFlag{Name: "interval", Aliases: []string{"i"}, Value: "1h"},
		&urfave.IntFlag{Name: "keep", Aliases: []string{"k"}, Value: 2},
		&urfave.StringFlag{Name: "signal", Aliases: []string{"s"}, Value: "USR1,TERM"},
		&urfave.BoolFlag{Name: "requeue", Aliases: []string{"r"}},
		&urfave.StringFlag{Name: "requeue-command"},
		&urfave.IntFlag{Name: "max-restarts"},
		&urfave.StringFlag{Name: "stage"},
		// Not a list, which would be cut at commas.
		&urfave.GenericFlag{Name: "checkpoint-option", Value: new(words)},
		&urfave.GenericFlag{Name: "restart-option", Value: new(words)},
		&urfave.StringFlag{Name: "log", Aliases: []string{"l"}},
		&urfave.BoolFlag{Name: "quiet", Aliases: []string{"q"}},
		&urfave.BoolFlag{Name: "help", Aliases: []string{"h"}},
		&urfave.BoolFlag{Name: "version"},
	}
}

// words is an option that can be given several times.
type words []string

func (w *words) Set(word string) error { *w = append(*w, word); return nil }
func (w *words) String() string        { return strings.Join(*w, " ") }

// settings is the parsed command line.
type settings struct {
	batch.Options
	log   string // a file; "" for standard error
	quiet bool

	text string // what to print instead: the usage or the version
}

// newApp returns the application, which passes the settings to action.
func newApp(stdout, stderr io.Writer, action func(*settings) error) *urfave.App {
	return cli.FlagApp(name, "run a command through checkpoints and restarts", flags(), stdout, stderr, func(err error) error { return err }, func(c *urfave.Context) error {
		s, err := newSettings(c)
		if err != nil {
			return err
		}
		return action(s)
	})
}

func newSettings(c *urfave.Context) (*settings, error) {
	s := &settings{log: c.String("log"), quiet: c.Bool("quiet")}
	switch {
	case c.Bool("help"):
		s.text = usage
		return s, nil
	case c.Bool("version"):
		s.text = versionLine()
		return s, nil
	}
	s.Command = c.Args().Slice()
	if len(s.Command) == 0 || s.Command[0] == "" {
		return nil, errors.New("there is no command: cr_batch [options] -- COMMAND [ARG...]")
	}
	s.Dir, s.Stage = c.String("dir"), c.String("stage")
	s.Requeue, s.RequeueCommand = c.Bool("requeue"), c.String("requeue-command")
	s.CheckpointOptions, s.RestartOptions = *c.Generic("checkpoint-option").(*words), *c.Generic("restart-option").(*words)
	if s.Keep = c.Int("keep"); s.Keep < 1 {
		return nil, fmt.Errorf("--keep: %d is not a number of generations, at least 1", s.Keep)
	}
	if s.MaxRestarts = c.Int("max-restarts"); s.MaxRestarts < 0 {
		return nil, fmt.Errorf("--max-restarts: %d is not a number of restarts, 0 for no limit", s.MaxRestarts)
	}
	var err error
	if s.Interval, err = parseInterval(c.String("interval")); err != nil {
		return nil, err
	}
	s.Signals, err = parseSignals(c.String("signal"))
	return s, err
}

// parseInterval reads a number of seconds, or Go's notation with units. 0 is for none.
func parseInterval(text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if n, e := strconv.ParseFloat(text, 64); e == nil && n < 1e9 {
		d, err = time.Duration(n*float64(time.Second)), nil
	}
	if err != nil || d < 0 {
		return 0, fmt.Errorf("--interval: %s is not a time such as 900, 15m or 1h30m, 0 for none", text)
	}
	return d, nil
}

// parseSignals reads names and numbers separated by commas.
func parseSignals(text string) (list []syscall.Signal, err error) {
	for word := range strings.SplitSeq(text, ",") {
		sig := syscall.Signal(cli.SignalNumber(word))
		if n, err := strconv.Atoi(word); err == nil && n > 0 && n < 64 {
			sig = syscall.Signal(n)
		}
		switch sig {
		case 0, unix.SIGKILL, unix.SIGSTOP, unix.SIGCHLD, unix.SIGURG, unix.SIGCONT,
			unix.SIGILL, unix.SIGTRAP, unix.SIGABRT, unix.SIGBUS, unix.SIGFPE, unix.SIGSEGV:
			return nil, fmt.Errorf("--signal: %s is not a signal at which the job can be saved", word)
		}
		list = append(list, sig)
	}
	return list, nil
}
