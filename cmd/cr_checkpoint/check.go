package main

import (
	"context"
	"fmt"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/entry"
	"blcr-cli/internal/hints"
	"blcr-cli/internal/show"
	"blcr-cli/internal/signals"
	"blcr-cli/internal/target"
)

// examine is --check: it says on standard output whether the checkpoint would succeed,
// a line for each reason why not, and touches neither the processes nor the target. It
// returns the exit status that the checkpoint would have.
func (w *work) examine() int {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	guard := signals.NewGuard()
	done := make(chan struct{})
	guard.Create(func() func() {
		return func() {
			cancel()
			<-done
		}
	})
	failures, lines := w.foresee(ctx)
	if ctx.Err() != nil && len(failures) > 0 {
		w.con.Details(failures[len(failures)-1].details) // what it waited for
	}
	close(done)
	guard.Finish()
	const most = 50
	for i, f := range failures {
		if i == most {
			fmt.Fprintf(w.con.Stdout, "and %d more\n", len(failures)-most)
			break
		}
		fmt.Fprintln(w.con.Stdout, f.line())
	}
	for _, line := range lines {
		fmt.Fprintln(w.con.Stdout, line)
	}
	if len(failures) > 0 {
		return failures[0].status
	}
	return 0
}

// line is a failure in one line: what is wrong, and what to do; BLCR's message where
// there is no more to say.
func (f *failure) line() string {
	if len(f.details) > 0 {
		return strings.Join(f.details, "; ")
	}
	message, _, _ := strings.Cut(f.message, "\n")
	return message
}

// foresee returns what the checkpoint would fail with, in the order in which it would
// come upon it, and further lines.
func (w *work) foresee(ctx context.Context) (failures []*failure, lines []string) {
	add := func(err error) {
		if err != nil {
			failures = append(failures, asFailure(err))
		}
	}
	add(w.examineTarget())
	engine, err := w.engine.Open()
	if err != nil {
		add(connectFailure(err))
		return failures, nil
	}
	defer engine.Close()
	request := w.request
	if w.dest == destFd {
		request.Closed = !entry.Inherited(int(request.FD)) || entry.Closed(int(request.FD))
	} else {
		request.FD = -1
	}
	forecast := engine.Forecast(ctx, &request)
	for _, err := range forecast.Failures {
		add(w.captureFailure(err))
	}
	if len(forecast.PIDs) == 0 {
		return failures, nil
	}
	add(w.examineRoom(uint64(forecast.Memory)))
	if len(failures) == 0 {
		by := engine.Describe()
		if by == "" {
			by = "BLCR's module"
		}
		processes := "1 process"
		if n := len(forecast.PIDs); n > 1 {
			processes = fmt.Sprintf("%d processes", n)
		}
		lines = append(lines, fmt.Sprintf("%s with %s of memory would be saved by %s", processes, show.Size(uint64(forecast.Memory)), by))
	}
	return failures, append(lines, forecast.Notes...)
}

// examineTarget returns the failure of open, as far as that can be seen.
func (w *work) examineTarget() error {
	switch {
	case w.dest == destFd && w.request.FD < 0:
		return negativeFD()
	case w.dest == destFd:
		return nil
	case w.dest == destDir:
		format := w.engine.Expected().Directories
		if err := target.ExamineDir(w.target, format.Inventory, format.IsImage); err != nil {
			return w.targetFailure(err)
		}
		return nil
	}
	if err := target.Examine(w.target); err != nil {
		return w.targetFailure(err)
	}
	return nil
}

// examineRoom returns the failure for a file system without room for so many bytes, or a
// limit of the size of files. That compression would make them fewer is not known beforehand.
func (w *work) examineRoom(need uint64) error {
	fd := int(w.request.FD)
	if w.dest != destFd {
		names := []string{w.names().Dir}
		if w.dest != destDir && w.target.Policy == target.Clobber {
			names = []string{w.target.Path, w.names().Dir}
		}
		fd = -1
		for _, name := range names {
			var err error
			if fd, err = unix.Open(name, unix.O_PATH|unix.O_CLOEXEC, 0); err == nil {
				defer unix.Close(fd)
				break
			}
		}
	}
	room, ok := hints.Room(fd)
	if !ok || w.request.Compress > 0 {
		return nil
	}
	errno := syscall.ENOSPC
	var most unix.Rlimit
	switch {
	case unix.Getrlimit(unix.RLIMIT_FSIZE, &most) == nil && most.Cur < need:
		errno = syscall.EFBIG
	case room >= need:
		return nil
	}
	return w.captureFailure(&ckpt.Error{Op: "write", Object: w.written(), Errno: errno, Detail: hints.Space(fd, errno, need)})
}
