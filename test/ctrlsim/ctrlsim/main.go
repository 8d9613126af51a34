//go:build linux

// Command ctrlsim runs a program under a simulated BLCR control file, for
// end-to-end scripts and for trying things by hand. Package ctrlsim has the
// details, the format of scenarios among them.
//
// The program gets the same standard input, output and error and the same other
// descriptors, and ctrlsim ends as the program did, by the same signal if need
// be. Signals that are sent to ctrlsim go on to the program. Troubles of
// ctrlsim's own give exit status 125 (126 and 127 for a program that cannot be run
// or found).
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"blcr-cli/test/ctrlsim"
)

const usage = `Usage: ctrlsim [option...] [--] program [argument...]
  -scenario <file>    how the control file behaves (default: like BLCR's)
  -set <line>         one line of a scenario, after the file's; may be repeated
  -transcript <file>  write every control operation to <file>, as it happens
  -calls <file>       count system calls and write the list to <file>
  -fail <n>:<errno>   make the <n>th counted call fail (or the <p>.<n>th: of
                      the <p>th process)
  -count <name>,...   what counts
  -pidfile <file>     write the program's pid to <file>
`

func main() {
	ctrlsim.Init()
	// Before anything opens descriptors of its own.
	os.Exit(run(os.Args[1:], inheritedFiles()))
}

type lines []string

func (l *lines) String() string     { return "" }
func (l *lines) Set(s string) error { *l = append(*l, s); return nil }

func run(args []string, inherited []*os.File) int {
	flags := flag.NewFlagSet("ctrlsim", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	var (
		set        lines
		scenario   = flags.String("scenario", "", "")
		transcript = flags.String("transcript", "", "")
		calls      = flags.String("calls", "", "")
		fail       = flags.String("fail", "", "")
		count      = flags.String("count", "", "")
		pidfile    = flags.String("pidfile", "", "")
	)
	flags.Var(&set, "set", "")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		fmt.Print(usage)
		return 0
	case err != nil:
		return fatal("%v\n%s", err, usage)
	case flags.NArg() == 0:
		return fatal("no program\n%s", usage)
	}

	c := &ctrlsim.Command{
		Path: flags.Arg(0), Args: flags.Args()[1:],
		Stdin: inherited[0], Stdout: inherited[1], Stderr: inherited[2],
		ExtraFiles: inherited[3:],
	}
	var text strings.Builder
	if *scenario != "" {
		b, err := os.ReadFile(*scenario)
		if err != nil {
			return fatal("%v", err)
		}
		text.Write(b)
	}
	fmt.Fprintf(&text, "\n%s\n", strings.Join(set, "\n"))
	var err error
	if c.Scenario, err = ctrlsim.ParseScenario(strings.NewReader(text.String())); err != nil {
		return fatal("%v", err)
	}
	if *calls != "" || *fail != "" || *count != "" {
		if c.Faults, err = faults(*fail, *count); err != nil {
			return fatal("%v", err)
		}
	}
	if *transcript != "" {
		f, err := os.Create(*transcript)
		if err != nil {
			return fatal("%v", err)
		}
		defer f.Close()
		c.TranscriptTo = f
	}

	// All that a program may be sent. Not SIGCHLD and SIGURG, which are for
	// this process; SIGPIPE only comes of its own writing.
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2,
		unix.SIGALRM, unix.SIGTERM, unix.SIGCONT, unix.SIGTSTP, unix.SIGWINCH)
	if err := c.Start(); err != nil {
		status := fatal("%v", err)
		switch {
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, exec.ErrNotFound):
			return 127
		case errors.Is(err, fs.ErrPermission), errors.Is(err, unix.ENOEXEC):
			return 126
		}
		return status
	}
	if *pidfile != "" {
		if err := writeWhole(*pidfile, strconv.Itoa(c.Pid())+"\n"); err != nil {
			fatal("%v", err)
		}
	}
	go func() {
		for sig := range signals {
			if fromTerminal(sig) {
				continue // the program has got it, too
			}
			c.Signal(sig.(syscall.Signal))
		}
	}()

	res, err := c.Wait()
	if res != nil && *calls != "" {
		if err := os.WriteFile(*calls, []byte(res.CallsText()), 0o666); err != nil {
			fatal("%v", err)
		}
	}
	switch {
	case err != nil:
		return fatal("%v", err)
	case res.Signal != 0:
		dieOf(res.Signal)
	}
	return res.ExitCode
}

func fatal(format string, args ...any) int {
	fmt.Fprintf(os.Stderr, "ctrlsim: "+format+"\n", args...)
	return 125
}

// faults puts a fault plan together.
func faults(fail, count string) (*ctrlsim.Faults, error) {
	f := new(ctrlsim.Faults)
	if fail != "" {
		at, errno, ok := strings.Cut(fail, ":")
		if !ok {
			return nil, fmt.Errorf("-fail wants <n>:<errno>, not %q", fail)
		}
		var err error
		if f.At, err = ctrlsim.ParsePoint(at); err != nil {
			return nil, err
		}
		n, err := ctrlsim.ParseErrno(errno)
		if err != nil {
			return nil, err
		}
		f.Errno = syscall.Errno(n)
	}
	if count != "" {
		f.Count = strings.Split(count, ",")
	}
	return f, nil
}

// inheritedFiles are the descriptors that an exec would pass on, by number,
// with gaps. At least the first three are there.
func inheritedFiles() []*os.File {
	all := []*os.File{os.Stdin, os.Stdout, os.Stderr}
	d, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return all
	}
	for _, e := range d {
		fd, err := strconv.Atoi(e.Name())
		if err != nil || fd < 3 {
			continue
		}
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC != 0 {
			continue
		}
		for len(all) <= fd {
			all = append(all, nil)
		}
		all[fd] = os.NewFile(uintptr(fd), "inherited")
	}
	return all
}

// writeWhole creates a file that is never seen half-written.
func writeWhole(name, text string) error {
	if err := os.WriteFile(name+".tmp", []byte(text), 0o666); err != nil {
		return err
	}
	return os.Rename(name+".tmp", name)
}

// fromTerminal says whether a signal of the keyboard has gone to the program as
// well, as a member of the terminal's foreground group.
func fromTerminal(sig os.Signal) bool {
	switch sig {
	case unix.SIGINT, unix.SIGQUIT, unix.SIGTSTP, unix.SIGWINCH:
	default:
		return false
	}
	tty, err := unix.Open("/dev/tty", unix.O_RDONLY|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(tty)
	group, err := unix.IoctlGetInt(tty, unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}

// dieOf ends this process by a signal, without another core file.
func dieOf(sig syscall.Signal) {
	unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})
	signal.Reset()
	var act [4]uint64 // struct sigaction: SIG_DFL
	unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(&act)), 0, 8, 0, 0)
	var mask uint64
	unix.RawSyscall6(unix.SYS_RT_SIGPROCMASK, 2, uintptr(unsafe.Pointer(&mask)), 0, 8, 0, 0)
	unix.Kill(unix.Getpid(), sig)
	time.Sleep(time.Second)
	os.Exit(128 + int(sig))
}
