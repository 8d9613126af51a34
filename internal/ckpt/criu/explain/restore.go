package explain

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/hints"
	"blcr-cli/internal/proc"
	"blcr-cli/internal/show"
)

// restoreRules is for lines of a restore. For those about a file see also fileFault.
var restoreRules = []rule{
	// This machine.
	{has: "capabilities do not match", expr: pattern(`^(?:cpu: )?CPU (?:instruction )?capabilities do not match run time`), hint: processorHint, say: says(otherProcessor)},
	{has: "xfeatures", expr: pattern(`^(?:cpu: )?CPU xfeatures has unsupported bits`), hint: processorHint, say: says(otherProcessor)},
	{has: "march mismatch", expr: pattern(`^Core march mismatch`), say: says("the context is of another architecture than this machine")},
	noLoopback,

	// What is in use.
	{has: terminalInUse, expr: pattern(`^tty: Unable to open \S+ with specified index (\d+)`), errno: busy, hint: "try again",
		say: func(_ *situation, m []string) string {
			return "the job had a pseudo terminal of its own, /dev/pts/" + m[1] + ", and another program has that number now"
		}},
	{has: "Address already in use", expr: pattern(`^(inet|unix): .*: Address already in use$`), hint: "end that program first",
		say: func(s *situation, m []string) string {
			if m[1] == "unix" {
				return "another program has the address of a UNIX socket of the job"
			}
			s.hint = "end that program first, or try again when a minute is over"
			return "a network address of the job is in use: by another program, see 'ss -lntu', or by connections of the job itself that have just ended, see 'ss -nt state time-wait'"
		}},
	{has: "Cannot assign requested address", expr: pattern(`: Cannot assign requested address$`), say: says("this machine does not have a network address that the job uses")},

	// Files and sockets.
	{has: "Can't change cwd", expr: pattern(`^Can't change cwd: (.*)$`), hint: relocateHint,
		say: func(s *situation, m []string) string {
			for _, dir := range s.needs().Directories {
				if st, err := os.Stat(dir); err != nil || !st.IsDir() {
					return fmt.Sprintf("cannot enter %s: %s", show.Name(dir), m[1])
				}
			}
			return "cannot enter the directory in which a process was: " + m[1]
		}},
	{has: "Unable to map ANON_VMA", expr: pattern(`^Unable to map ANON_VMA: Operation not permitted`), say: (*situation).noExec},
	{has: "unix: Can't bind id", expr: pattern(`^unix: Can't bind id \S+ ino \d+ addr (.*): ([^:]+)$`), hint: "make its directory first, or say by cr_restart --relocate where that is now",
		say: func(_ *situation, m []string) string {
			return fmt.Sprintf("cannot make the UNIX socket %s: %s", show.Name(m[1]), m[2])
		}},
	{has: "unix: Can't connect", expr: pattern(`^unix: Can't connect \d+ socket: (.*)$`), hint: "start that program first",
		say: func(_ *situation, m []string) string {
			return "a UNIX socket of the job led to another program, such as a system logger, that is not there: " + m[1]
		}},

	// Rights.
	{has: "Unable to set real, effective and saved user", expr: pattern(`^Unable to set real, effective and saved user ID`), errno: unix.EPERM, hint: "restart the job as that user, or as root",
		say: func(*situation, []string) string {
			return "the processes belonged to another user, and " + hints.User(os.Geteuid()) + " may not make processes of other users"
		}},
	{has: "Unable to set real, effective and saved group", expr: pattern(`^Unable to set real, effective and saved group ID`), errno: unix.EPERM, hint: "change to that group by newgrp(1) and restart the job, or restart it as root",
		say: func(*situation, []string) string {
			return fmt.Sprintf("the processes had another primary group than %d, and %s may not make processes of other groups", os.Getegid(), hints.User(os.Geteuid()))
		}},
	{has: "can't write lsm profile", expr: pattern(`^can't write lsm profile`), hint: "load the profile here, or restart with a criu that may use it",
		say: says("the processes were confined by a security module's profile (AppArmor, SELinux) that cannot be had here")},

	// Limits.
	{has: "attach to init", expr: pattern(`^Can't attach to init: Operation not permitted$`), errno: unix.EIO, hint: killedHint,
		say: says("criu could not trace the process that it was restoring, which was killed meanwhile")},
	outOfFiles, outOfProcesses, outOfThreads,
	{has: "Unable to reserve memory", expr: pattern(`^Unable to reserve memory \((\d+) bytes\): Cannot allocate memory`), errno: unsupported,
		say: func(_ *situation, m []string) string {
			n, err := strconv.ParseUint(m[1], 10, 64)
			if err != nil || n < 1<<44 {
				return "" // no more than a machine may have
			}
			return fmt.Sprintf("the job has reserved %s of address space, as programs do that were built with -fsanitize=thread: criu has no place left to restore it from", show.Size(n))
		}},
	outOfMemory,
}

// outOfFiles is for too few descriptors, outOfProcesses for a process that CRIU could not make,
// and outOfThreads for a thread.
var (
	outOfFiles = rule{has: "service_fd_base", expr: pattern(`^(?:sfd: )?Can't chose service_fd_base`), errno: unix.EMFILE, hint: moreHint,
		say: func(*situation, []string) string { return strings.Join(hints.Limits(unix.EMFILE), "; ") }}
	outOfProcesses = rule{has: "Resource temporarily unavailable", expr: pattern(`^(?:Can't fork for \d+|fork\(\) failed|fork): Resource temporarily unavailable`), errno: unix.EAGAIN, hint: moreHint, say: noMore}
	outOfThreads   = rule{has: "Unable to create a thread", expr: pattern(`^Unable to create a thread: -11$`), errno: unix.EAGAIN, hint: moreHint, say: noMore}
)

const moreHint = "raise the limit, or end something"

func noMore(*situation, []string) string {
	if said := hints.Processes(); said != nil {
		return strings.Join(said, "; ")
	}
	return "there could be no more processes or threads here at that moment"
}

const (
	killedHint     = "see 'dmesg' for whether this machine has run out of memory"
	processorHint  = "restart it on a machine with such a processor"
	otherProcessor = "the processor of this machine cannot do everything that the one could on which the job was saved, and that it may use"
)

// needs is what the restore needs of the file system.
func (s *situation) needs() Needs {
	if s.Needs == nil {
		return Needs{}
	}
	return s.Needs()
}

// noExec is the sentence for a file that is to be mapped as a program or a library,
// on a file system that allows neither; "" if there is none.
func (s *situation) noExec([]string) string {
	found, device := "", uint64(0)
	for _, name := range s.needs().Mapped {
		var fs unix.Statfs_t
		var st unix.Stat_t
		if unix.Statfs(name, &fs) != nil || fs.Flags&unix.ST_NOEXEC == 0 || unix.Stat(name, &st) != nil {
			continue
		}
		// Data may be mapped from there as well.
		program := st.Mode&0o111 != 0 || strings.Contains(name, ".so")
		if found == "" || program {
			found, device = name, st.Dev
		}
		if program {
			break
		}
	}
	if found == "" {
		return ""
	}
	where := "a file system"
	if point, kind := proc.Mount(device); point != "" {
		where = fmt.Sprintf("the file system %s (%s)", show.Name(point), kind)
		s.hint = "allow programs there: mount -o remount,exec " + show.Name(point)
	}
	return fmt.Sprintf("%s is on %s, which is mounted noexec", show.Name(found), where)
}
