package main

import (
	"fmt"
	"io"
	"math"
	"strings"
	"time"

	urfave "github.com/urfave/cli/v2"

	"blcr-cli/internal/cli"
	"blcr-cli/internal/ftbclient"
	"blcr-cli/internal/ftbclient/wire"
)

// flags are ftb-watch's options. BLCR has no such command, so they are urfave's.
func flags() []urfave.Flag {
	return []urfave.Flag{
		&urfave.BoolFlag{Name: "json"},
		&urfave.BoolFlag{Name: "pair"},
		&urfave.IntFlag{Name: "count", Aliases: []string{"n"}},
		&urfave.Float64Flag{Name: "timeout", Aliases: []string{"t"}},
		&urfave.BoolFlag{Name: "verbose", Aliases: []string{"v"}},
		&urfave.BoolFlag{Name: "quiet", Aliases: []string{"q"}},
		&urfave.BoolFlag{Name: "help", Aliases: []string{"h"}},
		&urfave.BoolFlag{Name: "version"},
	}
}

const maxTimeout = 365 * 24 * time.Hour

// settings is the parsed command line.
type settings struct {
	mask    wire.Event
	json    bool
	pair    bool
	count   int           // of lines; 0 for no limit
	timeout time.Duration // 0 for none
	level   int           // of the console

	text string // what to print instead of watching: the usage or the version
}

// newApp returns the application, which passes the settings to action.
func newApp(stdout, stderr io.Writer, action func(*settings) error) *urfave.App {
	return cli.FlagApp(name, "show the events of a Fault Tolerance Backplane", flags(), stdout, stderr, func(err error) error { return &argumentError{err.Error()} }, func(c *urfave.Context) error {
		s, err := newSettings(c)
		if err != nil {
			return err
		}
		return action(s)
	})
}

func newSettings(c *urfave.Context) (*settings, error) {
	s := &settings{json: c.Bool("json"), pair: c.Bool("pair"), count: c.Int("count")}
	switch {
	case c.Bool("help"):
		s.text = usage
		return s, nil
	case c.Bool("version"):
		s.text = versionLine()
		return s, nil
	case c.Bool("quiet"):
		s.level = -1
	case c.Bool("verbose"):
		s.level = 1
	}
	if c.IsSet("count") && s.count < 1 {
		return nil, &argumentError{fmt.Sprintf("--count: %d is not a number of events, at least 1", s.count)}
	}
	if c.IsSet("timeout") {
		seconds := c.Float64("timeout")
		if math.IsNaN(seconds) || seconds <= 0 || seconds > maxTimeout.Seconds() {
			return nil, &argumentError{fmt.Sprintf("--timeout: %v is not a number of seconds, more than 0 and at most %d", seconds, maxTimeout/time.Second)}
		}
		s.timeout = max(time.Duration(seconds*float64(time.Second)), 1)
	}
	for i, operand := range c.Args().Slice() {
		switch {
		case i > 0 && strings.HasPrefix(operand, "-"):
			return nil, &argumentError{fmt.Sprintf("%s: options have to precede MASK", operand)}
		case i > 0:
			return nil, &argumentError{"there can be one MASK, whose parts are separated by commas"}
		}
	}
	var err error
	s.mask, err = ftbclient.ParseMask(c.Args().First())
	return s, err
}
