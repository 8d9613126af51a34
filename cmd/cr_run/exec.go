package main

import (
	"bytes"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/entry"
)

// defaultPath is where the shell looks for programs if there is no PATH.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// launch turns this process into the program argv[0], found as the shell's exec
// finds one. It returns only if that cannot be done.
func launch(argv, env []string) *launchError {
	path, ok := os.LookupEnv("PATH")
	if !ok {
		path = defaultPath
	}
	entry.RestoreSignals()
	failure := &launchError{program: argv[0], errno: unix.ENOENT}
	for _, file := range candidates(argv[0], path) {
		errno := execute(file, argv, env)
		// The error is that of the first file that exists and cannot be executed.
		if missing(failure.errno) {
			failure.errno = errno
		}
	}
	return failure
}

// candidates are the files that a program's name may mean, the preferred one
// first.
func candidates(program, path string) []string {
	switch {
	case program == "":
		return nil
	case strings.Contains(program, "/"):
		return []string{program}
	}
	var files []string
	for dir := range strings.SplitSeq(path, ":") {
		if dir == "" {
			dir = "."
		}
		files = append(files, dir+"/"+program)
	}
	return files
}

// execute execs a file. One that is in no format that the kernel knows is a
// script for the shell, if it is text.
func execute(file string, argv, env []string) syscall.Errno {
	errno := exec(file, argv, env)
	if errno == unix.ENOEXEC && isText(file) {
		exec("/bin/sh", append([]string{"/bin/sh", file}, argv[1:]...), env)
	}
	return errno
}

func exec(file string, argv, env []string) syscall.Errno {
	errno, _ := syscall.Exec(file, argv, env).(syscall.Errno)
	return errno
}

// isText reports whether a file could be a script: its first line, of which 256
// bytes are looked at, has no NUL in it. A file with one is a program for another
// machine, which the shell must not read as a script.
func isText(file string) bool {
	f, err := os.Open(file)
	if err != nil {
		return true // the shell says what it is
	}
	defer f.Close()
	head := make([]byte, 256)
	n, _ := f.Read(head)
	line, _, _ := bytes.Cut(head[:n], []byte("\n"))
	return bytes.IndexByte(line, 0) < 0
}
