package binary

import (
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/proc"
)

// name is how the program is called, also by our engine where its file has another
// name.
const name = "criu"

// NoCoreFiles is for a criu that has just been started. Its children by which it finds out
// what the machine can do may die, on some machines, and leave no core file in the user's
// directory. Criu gives each process that it restores that process's own limit.
func NoCoreFiles(pid int) {
	var limit unix.Rlimit
	if unix.Prlimit(pid, unix.RLIMIT_CORE, nil, &limit) == nil {
		limit.Cur = 0
		_ = unix.Prlimit(pid, unix.RLIMIT_CORE, &limit, nil)
	}
}

// Runs reports whether a process is a criu, or is about to become one: a script
// or a loader that starts it. It looks at names only, which every user may see of
// every process.
func Runs(pid int) bool {
	p, err := proc.Read(pid)
	if err != nil {
		return false
	}
	if p.Comm == name {
		return true
	}
	// Before criu's own arguments, which come after "dump" or "restore".
	const starting = 6
	args := proc.CommandLine(pid)
	args = args[:min(len(args), starting)]
	for i, arg := range args {
		if filepath.Base(arg) == name && (i == 0 || starter(p.Comm)) {
			return true
		}
	}
	return false
}

// Restores reports whether a process is a criu that restores.
func Restores(pid int) bool {
	if !Runs(pid) {
		return false
	}
	for _, arg := range proc.CommandLine(pid) {
		switch arg {
		case "restore":
			return true
		case "dump":
			return false
		}
	}
	return false
}

// starter tells whether a program of that name starts others: a shell, for a
// script, or the dynamic loader.
func starter(comm string) bool {
	return strings.HasPrefix(comm, "ld-") || strings.HasSuffix(comm, "sh")
}
