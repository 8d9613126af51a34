package main

import (
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/batch"
	"blcr-cli/internal/ckpt/kernel/selfckpt"
	"blcr-cli/internal/cli"
	"blcr-cli/internal/show"
	"blcr-cli/internal/signals"
)

const name = "cr_batch"

func versionLine() string { return fmt.Sprintf("%s version %s\n", name, cli.Version) }

// passed are the signals that go to the job, or have it saved. Others have their default
// action.
var passed = []os.Signal{
	unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2, unix.SIGALRM, unix.SIGTERM,
	unix.SIGCONT, unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU, unix.SIGXCPU, unix.SIGVTALRM,
	unix.SIGPROF, unix.SIGWINCH, unix.SIGIO, unix.SIGPWR,
}

// run is the command: args is its whole argument vector. It returns the exit status,
// unless the job has died of a signal, of which this process then dies.
func run(args []string, stdout, stderr io.Writer) int {
	selfckpt.Save()
	signals.KeepIgnored()
	con := &cli.Console{Stdout: stdout, Stderr: stderr}
	var end batch.End
	app := newApp(stdout, stderr, func(s *settings) error {
		if s.text != "" {
			return con.Print(s.text)
		}
		caught := catch(append(passed, asSignals(s.Signals)...))
		var err error
		if s.Log, err = batch.NewLog(s.log, s.quiet); err != nil {
			return err
		}
		end = batch.Run(&s.Options, caught)
		return nil
	})
	if err := app.Run(args); err != nil {
		con.Errorf("%s: %s\n", name, show.Text(err.Error()))
		return batch.StatusFailed
	}
	if end.Signal != 0 {
		signals.DieOf(end.Signal)
	}
	return end.Status
}

// catch returns a channel with the signals that are caught. However many come while none
// is taken, and for however long, each of them is there once.
func catch(list []os.Signal) <-chan os.Signal {
	caught := make(chan os.Signal)
	for i, sig := range list {
		if signal.Ignored(sig) || slices.Contains(list[:i], sig) {
			continue
		}
		one := make(chan os.Signal, 1)
		signal.Notify(one, sig)
		go func() {
			for sig := range one {
				caught <- sig
			}
		}()
	}
	// A log that cannot be written, to a pipe without a reader or beyond the limit of the
	// size of files, does not matter. To ignore the signals would have the job ignore them.
	for _, sig := range []os.Signal{unix.SIGPIPE, unix.SIGXFSZ} {
		if !signal.Ignored(sig) {
			signal.Notify(make(chan os.Signal, 1), sig)
		}
	}
	return caught
}

func asSignals(list []syscall.Signal) (all []os.Signal) {
	for _, sig := range list {
		all = append(all, sig)
	}
	return all
}
