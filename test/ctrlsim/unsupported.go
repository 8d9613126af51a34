//go:build !(linux && amd64)

package ctrlsim

import (
	"errors"
	"syscall"
	"time"
)

var errUnsupported = errors.New("ctrlsim: only for linux/amd64")

type running struct{}

// Init does nothing here.
func Init() {}

// Supported says why the simulator cannot be used on this machine.
func Supported() error { return errUnsupported }

func (c *Command) start() error { return errUnsupported }

// Wait fails here.
func (c *Command) Wait() (*Result, error) { return nil, errUnsupported }

// Pid is 0 here.
func (c *Command) Pid() int { return 0 }

// Signal fails here.
func (c *Command) Signal(syscall.Signal) error { return errUnsupported }

// Transcript is empty here.
func (c *Command) Transcript() []string { return nil }

// WaitTranscript fails here.
func (c *Command) WaitTranscript(string, time.Duration) error { return errUnsupported }
