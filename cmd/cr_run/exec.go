package main

import (
	"bytes"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/entry"
)

// defaultPath is where the shell searches for programs if PATH is not set.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// launch executes the program argv[0] in place of this process. The program is searched
// for as by the shell's exec. launch returns only if that fails.
func launch(argv, env []string) *launchError {
	path, ok := os.LookupEnv("PATH")
	if !ok {
		path = defaultPath
	}
	entry.RestoreSignals()
	failure := &launchError{program: argv[0], errno: unix.ENOENT}
	if argv[0] == "" {
		failure.errno = unix.EACCES // as dash, which finds the directories of PATH
	}
	for _, file := range candidates(argv[0], path) {
		errno := execute(file, argv, env)
		// The error is that of the first file that exists and cannot be executed.
		if missing(failure.errno) {
			failure.errno = errno
		}
	}
	return failure
}

// candidates returns the files that a program name may refer to, in the order in which
// they are tried.
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

// execute executes a file. If the kernel does not know its format and it is text, the
// shell executes it as a script.
func execute(file string, argv, env []string) syscall.Errno {
	errno := exec(file, argv, env)
	if errno == unix.ENOEXEC && isText(file) {
		exec("/bin/sh", append([]string{"/bin/sh", file}, argv[1:]...), env)
	}
	return errno
}

func exec(file string, argv, env []string) syscall.Errno {
	entry.DiscardPreemption()
	errno, _ := syscall.Exec(file, argv, env).(syscall.Errno)
	return errno
}

// isText reports whether a file could be a script: its first line, of which 256 bytes
// are examined, contains no NUL. A file with a NUL is a program for another machine,
// which the shell must not read as a script.
func isText(file string) bool {
	f, err := os.Open(file)
	if err != nil {
		return true // the shell reports the error
	}
	defer f.Close()
	head := make([]byte, 256)
	n, _ := f.Read(head)
	line, _, _ := bytes.Cut(head[:n], []byte("\n"))
	return bytes.IndexByte(line, 0) < 0
}
