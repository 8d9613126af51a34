package main

import (
	"syscall"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt"
)

// This file is the only one that turns errors into messages and exit statuses.
// The statuses are the shell's.

const (
	statusCannot  = 126 // the program exists and cannot be executed
	statusMissing = 127
)

// launchError is the error of executing a program.
type launchError struct {
	program string
	errno   syscall.Errno
}

// missing reports whether an error means that the file does not exist.
func missing(errno syscall.Errno) bool { return errno == unix.ENOENT || errno == unix.ENOTDIR }

func message(e *launchError) string {
	if missing(e.errno) {
		return e.program + ": not found"
	}
	return e.program + ": " + ckpt.Strerror(e.errno)
}

func status(e *launchError) int {
	switch {
	case missing(e.errno), e.errno == unix.ELOOP, e.errno == unix.ENAMETOOLONG:
		return statusMissing
	}
	return statusCannot
}
