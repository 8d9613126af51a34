package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"blcr-cli/internal/blcrevents"
	"blcr-cli/internal/cli"
	"blcr-cli/internal/cli/getopt"
	"blcr-cli/internal/ftbclient"
	"blcr-cli/internal/ftbclient/wire"
)

const (
	optSpace = 1 + iota
	optSeverity
	optClientName
	optJobID
	optPayload
	optPayloadHex
	optPayloadFile
	optReplyTo
	optErrno
	optTimeout
	optPrintHandle
	optJSON
	optCheck
)

// options is the table of ftb-publish's options.
var options = getopt.Table{
	{ID: cli.OptVerbose, Short: 'v', Long: []string{"verbose"}},
	{ID: cli.OptQuiet, Short: 'q', Long: []string{"quiet"}},
	{ID: cli.OptHelp, Short: 'h', Long: []string{"help"}},
	{ID: cli.OptVersion, Long: []string{"version"}},
	{ID: optSpace, Long: []string{"space"}, Arg: getopt.RequiredArgument},
	{ID: optSeverity, Long: []string{"severity"}, Arg: getopt.RequiredArgument},
	{ID: optClientName, Long: []string{"client-name"}, Arg: getopt.RequiredArgument},
	{ID: optJobID, Long: []string{"jobid"}, Arg: getopt.RequiredArgument},
	{ID: optPayload, Long: []string{"payload"}, Arg: getopt.RequiredArgument},
	{ID: optPayloadHex, Long: []string{"payload-hex"}, Arg: getopt.RequiredArgument},
	{ID: optPayloadFile, Long: []string{"payload-file"}, Arg: getopt.RequiredArgument},
	{ID: optReplyTo, Long: []string{"reply-to"}, Arg: getopt.RequiredArgument},
	{ID: optErrno, Long: []string{"errno"}, Arg: getopt.RequiredArgument},
	{ID: optTimeout, Long: []string{"timeout"}, Arg: getopt.RequiredArgument},
	{ID: optPrintHandle, Long: []string{"print-handle"}},
	{ID: optJSON, Long: []string{"json"}},
	{ID: optCheck, Long: []string{"check"}},
}

const (
	defaultTimeout = 2 * time.Second
	maxTimeout     = 24 * time.Hour
)

// settings is the parsed command line.
type settings struct {
	identity ftbclient.Identity
	event    ftbclient.Event // without Payload
	payload  payload
	timeout  time.Duration
	output   output
	check    bool // connect and publish nothing
}

// output is what is printed on stdout.
type output int

const (
	outputNone output = iota
	outputHandle
	outputJSON
)

// parse parses the command line. An error is a cli.Text, an *argumentError, or one of
// package ftbclient.
func parse(args []string, con *cli.Console) (*settings, error) {
	s := &settings{
		identity: ftbclient.Identity{Space: blcrevents.Space, JobID: blcrevents.JobID(os.LookupEnv)},
		event:    ftbclient.Event{Type: wire.Normal},
		timeout:  defaultTimeout,
	}
	line := cli.CommandLine{Options: options, Usage: usage, Version: versionLine(), Option: s.option}
	operands, err := line.Parse(args, con)
	var misuse *getopt.Error
	switch {
	case errors.As(err, &misuse):
		return nil, &argumentError{"", err.Error()}
	case err != nil:
		return nil, err
	}
	switch {
	case s.check && (len(operands) > 0 || s.output != outputNone):
		return nil, &argumentError{"--check", "nothing is published, so there is no EVENT, and nothing to be printed about one"}
	case s.check:
		return s, nil
	case len(operands) == 0:
		return nil, &argumentError{"", "no EVENT given"}
	case len(operands) > 1:
		return nil, &argumentError{"", fmt.Sprintf("one EVENT can be published, not %d", len(operands))}
	}
	s.event.Name = operands[0]
	if s.event.Severity == "" {
		s.event.Severity = severity(s.identity.Space, s.event.Name)
	}
	if err := s.event.Check(); err != nil {
		return nil, err
	}
	return s, s.checkSchema()
}

func (s *settings) option(m getopt.Match) error {
	refuse := func(format string, args ...any) error {
		return &argumentError{m.Name, fmt.Sprintf(format, args...)}
	}
	switch m.ID {
	case optSpace:
		s.identity.Space = m.Arg
		return ftbclient.Identity{Space: m.Arg}.Check()
	case optSeverity:
		s.event.Severity = m.Arg
		return ftbclient.CheckSeverity(m.Arg)
	case optClientName:
		s.identity.Name = m.Arg
		return ftbclient.Identity{Space: blcrevents.Space, Name: m.Arg}.Check()
	case optJobID:
		s.identity.JobID = m.Arg
		return ftbclient.Identity{Space: blcrevents.Space, JobID: m.Arg}.Check()

	case optPayload, optPayloadHex, optPayloadFile:
		if s.payload.source != "" {
			return refuse("there is a payload already, by %s", s.payload.source)
		}
		s.payload.source = m.Name
		switch m.ID {
		case optPayload:
			s.payload.data = []byte(m.Arg)
		case optPayloadHex:
			data, err := hex.DecodeString(m.Arg)
			if err != nil {
				return refuse("%q is not pairs of hexadecimal digits", m.Arg)
			}
			s.payload.data = data
		case optPayloadFile:
			s.payload.file, s.payload.isFile = m.Arg, true
		}
	case optReplyTo:
		// The message does not repeat the argument, which is too long for a line.
		handle, err := hex.DecodeString(strings.TrimSpace(m.Arg))
		if err != nil || len(handle) != wire.HandleSize {
			return refuse("a handle is %d hexadecimal digits", 2*wire.HandleSize)
		}
		var h wire.Handle
		if err := h.Decode(handle); err != nil || h.EventName == "" {
			return refuse("not the handle of an event")
		}
		s.event.Type, s.payload.handle = wire.Response, handle
	case optErrno:
		n, err := strconv.ParseInt(m.Arg, 10, 32)
		if err != nil {
			return refuse("%q is not a decimal number of 32 bits", m.Arg)
		}
		s.payload.errno, s.payload.hasErrno = int32(n), true

	case optTimeout:
		timeout, ok := seconds(m.Arg)
		if !ok {
			return refuse("%q is not a number of seconds, more than 0 and at most %d", m.Arg, maxTimeout/time.Second)
		}
		s.timeout = timeout
	case optPrintHandle:
		return s.setOutput(outputHandle)
	case optJSON:
		return s.setOutput(outputJSON)
	case optCheck:
		s.check = true
	}
	return nil
}

func (s *settings) setOutput(o output) error {
	if s.output != outputNone && s.output != o {
		return &argumentError{"", "--json has the handle in it, so there can be no --print-handle"}
	}
	s.output = o
	return nil
}

// severity returns the default severity of an event: ERROR for BLCR's errors, INFO for
// all other events.
func severity(space, event string) string {
	if wire.EqualFold(space, blcrevents.Space) && (wire.EqualFold(event, "CHKPT_ERROR") || wire.EqualFold(event, "RSTRT_ERROR")) {
		return "ERROR"
	}
	return "INFO"
}

// seconds parses a decimal number of seconds, such as "2" or "0.5".
func seconds(s string) (time.Duration, bool) {
	// ParseFloat would also accept exponents, hexadecimal numbers and names.
	if strings.Trim(s, "0123456789.") != "" {
		return 0, false
	}
	n, err := strconv.ParseFloat(s, 64)
	if err != nil || n > maxTimeout.Seconds() {
		return 0, false
	}
	d := time.Duration(n * float64(time.Second))
	return d, d > 0
}
