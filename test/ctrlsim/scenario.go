package ctrlsim

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Never as a delay means that the thing does not happen.
const Never = time.Duration(math.MaxInt64)

// DefaultCloneFlags is what the real module was seen to ask for.
const DefaultCloneFlags = 0x410f00

const defaultChkptSize = 4096

// Scenario scripts what the control file does. The package comment describes
// the text form and with it the meaning of each field; the zero value is the
// behaviour of the real module.
type Scenario struct {
	Answers []Answer

	ChkptLog   []string // lines, without newlines
	ChkptDelay time.Duration
	ChkptSize  int64 // 0 is the default
	ChkptPace  time.Duration
	ChkptReap  *int // nil is what really happened; errors are negative

	Ask       bool // everybody in scope is asked by signal 64
	Restarted bool // those who are saved go on as if they were restarted
	Strangers []Stranger

	RstrtLog    []string
	RstrtNoRead bool
	Procs       []int // threads of each; nil is one process with one thread
	CloneFlags  int32 // 0 is DefaultCloneFlags
	ProcsBlock  []Block
	RstrtDelay  time.Duration
	RstrtReap   *int  // nil is the pid of the first process
	Jobs        []Job // nil is Job{Kind: JobExit}
}

// Answer forces the result of an operation.
type Answer struct {
	Op     string // a key of the text form, such as "chkpt-req"
	Nth    int    // only for its Nth time, counted from 1; 0 is every time
	Result int    // errors are negative
}

// Block makes an operation block.
type Block struct {
	Nth int // only its Nth time; 0 is every time
	For time.Duration
}

// JobKind says what a restarted process does.
type JobKind int

// The kinds of job.
const (
	JobExit   JobKind = iota // end with Code
	JobSignal                // kill itself with Signal
	JobSleep                 // sleep until signalled
	JobShell                 // run Script by /bin/sh -c
)

// Job is what a restarted process does.
type Job struct {
	Kind   JobKind
	Code   int
	Signal syscall.Signal
	Script string
}

// The operations whose result an Answer can force.
var answerOps = []string{
	"open", "version", "chkpt-req", "rstrt-req", "rstrt-procs", "rstrt-child", "hand-phase1", "hand-susp",
}

// answer is the forced result of the nth time of op, if there is one. One for
// just this time wins over one for every time.
func (s *Scenario) answer(op string, nth int) (int, bool) {
	res, ok := 0, false
	for _, a := range s.Answers {
		switch {
		case a.Op != op:
		case a.Nth == nth:
			return a.Result, true
		case a.Nth == 0:
			res, ok = a.Result, true
		}
	}
	return res, ok
}

func (s *Scenario) procsBlock(nth int) time.Duration {
	var d time.Duration
	for _, b := range s.ProcsBlock {
		if b.Nth == nth {
			return b.For
		}
		if b.Nth == 0 {
			d = b.For
		}
	}
	return d
}

func (s *Scenario) job(i int) Job {
	if len(s.Jobs) == 0 {
		return Job{Kind: JobExit}
	}
	return s.Jobs[min(i, len(s.Jobs)-1)]
}

func (s *Scenario) procs() []int {
	if s.Procs == nil {
		return []int{1}
	}
	return s.Procs
}

func (s *Scenario) cloneFlags() int32 {
	if s.CloneFlags == 0 {
		return DefaultCloneFlags
	}
	return s.CloneFlags
}

// MustScenario parses a scenario that is known to be good.
func MustScenario(text string) *Scenario {
	s, err := ParseScenario(strings.NewReader(text))
	if err != nil {
		panic(err)
	}
	return s
}

// ParseScenario reads the text form of a scenario.
func ParseScenario(r io.Reader) (*Scenario, error) {
	s := new(Scenario)
	sc := bufio.NewScanner(r)
	sc.Buffer(nil, 1<<20)
	for n := 1; sc.Scan(); n++ {
		line := strings.TrimSpace(sc.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		key, val, _ := strings.Cut(line, " ")
		if err := s.set(key, strings.TrimSpace(val)); err != nil {
			return nil, fmt.Errorf("scenario line %d: %s: %w", n, key, err)
		}
	}
	return s, sc.Err()
}

// set takes in one line.
func (s *Scenario) set(key, val string) error {
	nth := 0
	if k, at, ok := strings.Cut(key, "@"); ok {
		n, err := strconv.Atoi(at)
		if err != nil || n < 1 {
			return fmt.Errorf("bad count %q", at)
		}
		key, nth = k, n
	}
	if slices.Contains(answerOps, key) {
		res, err := parseResult(val)
		s.Answers = append(s.Answers, Answer{Op: key, Nth: nth, Result: res})
		return err
	}
	if key == "procs-block" {
		d, err := parseTime(val)
		s.ProcsBlock = append(s.ProcsBlock, Block{Nth: nth, For: d})
		return err
	}
	if nth != 0 {
		return fmt.Errorf("takes no @%d", nth)
	}
	var err error
	switch key {
	case "chkpt-log":
		s.ChkptLog = append(s.ChkptLog, val)
	case "chkpt-delay":
		s.ChkptDelay, err = parseTime(val)
	case "chkpt-size":
		s.ChkptSize, err = parseSize(val)
	case "chkpt-pace":
		s.ChkptPace, err = parseTime(val)
	case "chkpt-reap":
		s.ChkptReap, err = parseResultPtr(val)
	case "ask":
		s.Ask, err = parseYes(val)
	case "restarted":
		s.Restarted, err = parseYes(val)
		s.Ask = s.Ask || s.Restarted
	case "stranger":
		var st Stranger
		st, err = parseStranger(val)
		s.Strangers = append(s.Strangers, st)
		s.Ask = true
	case "rstrt-log":
		s.RstrtLog = append(s.RstrtLog, val)
	case "rstrt-read":
		var yes bool
		yes, err = parseYes(val)
		s.RstrtNoRead = !yes
	case "procs":
		s.Procs, err = parseProcs(val)
	case "clone-flags":
		var n uint64
		n, err = strconv.ParseUint(val, 0, 32)
		s.CloneFlags = int32(n)
	case "rstrt-delay":
		s.RstrtDelay, err = parseTime(val)
	case "rstrt-reap":
		s.RstrtReap, err = parseResultPtr(val)
	case "job":
		var j Job
		j, err = ParseJob(val)
		s.Jobs = append(s.Jobs, j)
	default:
		return fmt.Errorf("no such key")
	}
	return err
}

func parseYes(s string) (bool, error) {
	switch s {
	case "yes":
		return true, nil
	case "no":
		return false, nil
	}
	return false, fmt.Errorf("want yes or no, not %q", s)
}

// ParseJob reads the text form of a job.
func ParseJob(text string) (Job, error) {
	kind, arg, _ := strings.Cut(text, " ")
	arg = strings.TrimSpace(arg)
	switch kind {
	case "exit":
		n, err := strconv.Atoi(arg)
		if err != nil || n < 0 || n > 255 {
			return Job{}, fmt.Errorf("bad exit status %q", arg)
		}
		return Job{Kind: JobExit, Code: n}, nil
	case "signal":
		sig, err := ParseSignal(arg)
		return Job{Kind: JobSignal, Signal: sig}, err
	case "sleep":
		if arg != "" {
			return Job{}, fmt.Errorf("sleep takes no argument")
		}
		return Job{Kind: JobSleep}, nil
	case "sh":
		if arg == "" {
			return Job{}, fmt.Errorf("sh needs a script")
		}
		return Job{Kind: JobShell, Script: arg}, nil
	}
	return Job{}, fmt.Errorf("no such job: %q", kind)
}

// ParseSignal reads a signal's name, with or without SIG, or number.
func ParseSignal(s string) (syscall.Signal, error) {
	if n, err := strconv.Atoi(s); err == nil {
		if n < 1 || n > 64 {
			return 0, fmt.Errorf("no signal %d", n)
		}
		return syscall.Signal(n), nil
	}
	name := strings.ToUpper(s)
	if !strings.HasPrefix(name, "SIG") {
		name = "SIG" + name
	}
	if sig := unix.SignalNum(name); sig != 0 {
		return sig, nil
	}
	return 0, fmt.Errorf("no signal is called %q", s)
}

func parseTime(s string) (time.Duration, error) {
	if s == "never" {
		return Never, nil
	}
	d, err := time.ParseDuration(s)
	if err == nil && d < 0 {
		err = fmt.Errorf("%s is negative", s)
	}
	return d, err
}

func parseSize(s string) (int64, error) {
	unit := int64(1)
	if s != "" {
		switch s[len(s)-1] {
		case 'K':
			unit = 1 << 10
		case 'M':
			unit = 1 << 20
		}
	}
	if unit > 1 {
		s = s[:len(s)-1]
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 0, err
	}
	if n < 1 || n > math.MaxInt64/unit {
		return 0, fmt.Errorf("bad size %q", s)
	}
	return n * unit, nil
}

func parseResultPtr(s string) (*int, error) {
	n, err := parseResult(s)
	return &n, err
}

func parseProcs(s string) ([]int, error) {
	procs := []int{}
	if s == "none" {
		return procs, nil
	}
	for _, f := range strings.Fields(s) {
		n, err := strconv.Atoi(f)
		if err != nil || n < 1 {
			return nil, fmt.Errorf("bad number of threads %q", f)
		}
		procs = append(procs, n)
	}
	if len(procs) == 0 {
		return nil, fmt.Errorf("needs the number of threads of each process")
	}
	return procs, nil
}
