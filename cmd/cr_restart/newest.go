package main

import (
	"context"
	"errors"
	"path/filepath"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt/engines"
	"blcr-cli/internal/cli"
	"blcr-cli/internal/generations"
	"blcr-cli/internal/show"
)

// generations reports whether the context to be restarted is the newest good one of a
// directory. In a directory of CRIU's images it is not, and the engine says so.
func (w *work) generations() bool {
	var st unix.Stat_t
	if unix.Stat(w.file, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return false
	}
	for _, engine := range engines.ToRestore() {
		format := engine.Directories
		if format != nil && unix.Access(filepath.Join(w.file, format.Inventory), unix.F_OK) == nil {
			return false
		}
	}
	return true
}

// openNewest opens the newest good context of a directory. If there is none at all, it
// opens the directory, where only BLCR's own words are to be said of it.
func (w *work) openNewest() error {
	skipped := func(f *generations.Fault) {
		w.con.Details([]string{show.Text(f.Name) + " is skipped: " + show.Text(f.Reason)})
	}
	fd, name, err := generations.Open(context.Background(), w.file, skipped, func(meter generations.Meter) func() {
		return w.con.Progress("verifying", cli.Meter(meter)).Stop
	})
	if err == generations.ErrNone {
		if !w.engine.Expected().Terse {
			return noContextFailure()
		}
		fd, err = unix.Open(w.file, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_DIRECTORY, 0)
	}
	var fault *generations.Fault
	switch {
	case errors.As(err, &fault):
		return faultFailure(fault)
	case err != nil:
		return openFailure(name, err)
	}
	w.request.FD = int32(fd)
	return nil
}
