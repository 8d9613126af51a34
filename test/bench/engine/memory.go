package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"blcr-cli/internal/proc"
)

// peak is the largest resident memory of the commands, for one size of the target.
type peak struct {
	size                int64
	checkpoint, restart int64
}

// peakAt measures it, separately from the times, because the observation takes time.
// (The value of wait for a command includes criu and the restored process.)
func (b *bench) peakAt(c *command, size int64) (peak, error) {
	p := peak{size: size}
	v, err := b.start(size)
	if err != nil {
		return p, err
	}
	defer v.file.Close()
	var checkpoints, restarts []int64
	for range b.runs {
		if err := c.clear(); err != nil {
			return p, err
		}
		n, err := watched(c.checkpoint, func() error { return c.save(v) })
		if err != nil {
			return p, err
		}
		checkpoints = append(checkpoints, n)
	}
	if err := v.kill(true); err != nil {
		return p, err
	}
	for range b.runs {
		n, err := watched(c.restart, func() error {
			_, err := c.bringBack(v)
			return err
		})
		if err != nil {
			return p, err
		}
		restarts = append(restarts, n)
	}
	b.setPid(0)
	p.checkpoint, p.restart = median(checkpoints), median(restarts)
	return p, c.clear()
}

// watched calls a function, and returns the largest resident memory of a descendant of
// this process that runs the program path, including the worker and the hooks.
func watched(path string, do func() error) (int64, error) {
	path, err := filepath.EvalSymlinks(path)
	if err == nil {
		path, err = filepath.Abs(path)
	}
	if err != nil {
		return 0, err
	}
	done := make(chan error, 1)
	go func() { done <- do() }()
	most := int64(0)
	for {
		select {
		case err := <-done:
			if err == nil && most == 0 {
				err = fmt.Errorf("%s was never seen", path)
			}
			return most, err
		case <-time.After(time.Millisecond):
			most = max(most, peakBelow(os.Getpid(), path))
		}
	}
}

// peakBelow returns the largest peak of the descendants of pid that run a program.
func peakBelow(pid int, path string) (most int64) {
	children, _ := proc.Children(pid)
	for _, child := range children {
		if proc.Executable(child) == path {
			status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", child))
			most = max(most, kilobytes(status, "VmHWM"))
		}
		most = max(most, peakBelow(child, path))
	}
	return most
}

// kilobytes returns the value of name in a file of /proc, in bytes; 0 if there is none.
func kilobytes(text []byte, name string) int64 {
	_, rest, _ := strings.Cut("\n"+string(text), "\n"+name+":")
	var n int64
	_, _ = fmt.Sscanf(rest, "%d kB", &n)
	return n << 10
}
