// Package binary finds a criu that works on this machine: where to look, how to
// ask it, and remembering its answer, since asking takes longer than many a
// checkpoint.
//
// What criu is then used for does not belong here. The package knows neither
// requests nor images, and prints nothing.
package binary

import (
	"cmp"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/ckpt/criu/explain"
	"blcr-cli/internal/hints"
	"blcr-cli/internal/proc"
)

// Binary is a criu whose "criu check" succeeded on this machine. It is a value
// without resources behind it.
type Binary struct {
	// Path is what to exec: absolute, as found, so possibly a symbolic link or
	// a script that execs the real one.
	Path string

	// Version is what "criu --version" calls it, such as "4.1.1"; "" if it
	// does not say.
	Version string

	// NoBreakpoints tells that it has to do without hardware breakpoints, because it
	// would wait for ever for one that this machine does not deliver.
	NoBreakpoints bool

	runtimeDir string // criu's XDG_RUNTIME_DIR; "" if it gets none

	// What LendKerndat lends, "" where criu finds its cache by itself, and the name of a
	// file to lock.
	kerndat, kerndatLock string
}

// Find returns the path of a usable criu. If the environment variable CR_CRIU
// is set and not empty it names the only one that is considered, by a path or
// by a name to be looked up. Otherwise that is, in this order, the one that
// "make criu" put beside the build tree's or the installed program, and those
// in PATH, /usr/local/sbin, /usr/sbin and /sbin. Relative directories in PATH
// do not count: who may write to the current directory must not choose what
// root runs.
//
// Of those whose "criu check" succeeds for this caller the one with the newest
// version is returned, of equal ones the first. Answers are remembered until the
// machine restarts, the file changes, or the caller has other capabilities,
// namespaces or another root; bad ones for a minute. With a remembered answer no
// process is started.
//
// The error is a *ckpt.Error whose Detail says of each criu that was found what is wrong
// with it: ENOSYS, or what a limit of this process has as its error.
func Find() (*Binary, error) {
	return newSearch().find()
}

// search is what Find depends on.
type search struct {
	named   string      // CR_CRIU
	private []string    // where "make criu" puts one
	dirs    []string    // where others are
	answers *answerFile // nil if there is no place for answers

	unprivileged bool                     // as the function says
	retried      time.Time                // when the second look began, zero in the first
	recalledBad  bool                     // a remembered answer was a bad one
	learnKerndat func(name string) string // nil where criu keeps its cache by itself
}

func newSearch() *search {
	s := &search{
		named:   os.Getenv("CR_CRIU"),
		dirs:    append(filepath.SplitList(os.Getenv("PATH")), "/usr/local/sbin", "/usr/sbin", "/sbin"),
		answers: &answerFile{answerDir(unix.Geteuid(), os.Getenv("XDG_RUNTIME_DIR"))},

		unprivileged: Unprivileged(),
	}
	if !s.unprivileged && !keepsKerndat() {
		s.learnKerndat = learnKerndat
	}
	if exe, err := os.Executable(); err == nil { // which is without symbolic links
		s.private = privateNames(exe)
	}
	return s
}

// privateNames says where "make criu" and "make install" put a criu for the
// program that is the file exe.
func privateNames(exe string) []string {
	prefix := filepath.Dir(filepath.Dir(exe))
	return []string{
		filepath.Join(prefix, ".criu", "criu"),
		filepath.Join(prefix, "lib", "blcr-cli", "criu", "criu"),
	}
}

// find looks again where no criu is usable by what is remembered: somebody may just have
// done what the last error advised.
func (s *search) find() (*Binary, error) {
	s.retried, s.recalledBad = time.Time{}, false
	found, err := s.look()
	if err != nil && s.recalledBad {
		s.retried = time.Now()
		return s.look()
	}
	return found, err
}

func (s *search) look() (*Binary, error) {
	failure := &ckpt.Error{Op: "find", Object: "criu", Errno: syscall.ENOSYS}
	names := slices.Concat(s.private, s.inDirs("criu"))
	if s.named != "" {
		var err error
		if names, err = s.byName(); err != nil {
			failure.Detail = []string{"CR_CRIU=" + excerpt(s.named) + ": " + describe(err), unset}
			return nil, failure
		}
	}
	var newest *Binary
	tried := make(map[string]bool)
	for _, name := range names {
		id, err := identify(name)
		if err == nil && tried[id.path] || err != nil && s.named == "" && absent(err) {
			continue
		}
		var a answer
		if err == nil {
			tried[id.path] = true
			a, err = s.ask(name, id)
		}
		switch {
		case err != nil:
			failure.Errno = cmp.Or(exhausted(err, ""), failure.Errno)
			why := describe(err)
			if missing := loaderMissing(name); missing != "" && errors.Is(err, unix.ENOENT) {
				why += ": " + missing
			}
			failure.Detail = append(failure.Detail, s.blame(name)+": "+why)
			if errors.Is(err, unix.EPERM) && hints.IsProgram(name) {
				failure.Detail = append(failure.Detail, "it has a capability that nothing may have here, as in a container; "+allowed)
			}
			if way := membersOnly(name, err); way != "" {
				failure.Detail = append(failure.Detail, way)
			}
			if s.named != "" && absent(err) {
				failure.Detail = append(failure.Detail, unset)
			}
		case !a.usable:
			failure.Errno = cmp.Or(exhausted(nil, a.why), failure.Errno)
			failure.Detail = append(failure.Detail, s.blame(name)+": check failed: "+a.why)
			if way := remedy(a.why, id.path); way != "" && !slices.Contains(failure.Detail, way) {
				failure.Detail = append(failure.Detail, way)
			}
		case newest == nil || newer(a.version, newest.Version):
			newest = &Binary{Path: name, Version: a.version, NoBreakpoints: a.noBreakpoints, runtimeDir: s.runtimeDir(id)}
			if a.kerndat != "" {
				newest.kerndat, newest.kerndatLock = a.kerndat, filepath.Join(s.answers.dir, "lending")
			}
		}
	}
	if newest != nil {
		return newest, nil
	}
	if failure.Errno != syscall.ENOSYS {
		failure.Detail = append(failure.Detail, hints.Limits(failure.Errno)...)
	}
	if len(failure.Detail) == 0 {
		failure.Detail = []string{
			"no criu was found",
			hints.GetCriu(),
			"if there is one in another place, set CR_CRIU to its path",
		}
	}
	return nil, failure
}

// newer tells whether version a, such as "4.2.1", is later than b. A criu that does
// not say its version is older than any that does.
func newer(a, b string) bool {
	return slices.Compare(numbers(a), numbers(b)) > 0
}

// numbers are the numbers that a version begins with.
func numbers(version string) []int {
	var list []int
	for _, part := range strings.Split(version, ".") {
		n, err := strconv.Atoi(part)
		if err != nil {
			break
		}
		list = append(list, n)
	}
	return list
}

// unset is what to do about a CR_CRIU that names none.
const unset = "CR_CRIU in the environment is the only criu that is tried; without it others are looked for"

// remedy is what to do about a criu whose check failed for that reason, "" where that
// is not known.
func remedy(why, path string) string {
	switch {
	case strings.Contains(why, "CAP_CHECKPOINT_RESTORE") && unix.Geteuid() == 0:
		return "root does not have it, as in a container; " + allowed
	case strings.Contains(why, "CAP_CHECKPOINT_RESTORE") && powerless(path) != "":
		return powerless(path)
	case strings.Contains(why, "CAP_CHECKPOINT_RESTORE"):
		return hints.CriuForUsers(path, hints.IsProgram(path))
	}
	if sentence, hint, ok := explain.Check(why); ok {
		return sentence + "; " + hint
	}
	if _, filtered := proc.Confined(os.Getpid()); filtered {
		return "a filter of system calls (seccomp(2)) may forbid here what it needs: start the container without that, as by 'docker run --security-opt seccomp=unconfined', or save its jobs from outside"
	}
	return ""
}

// allowed is what to do where a container's bounding set is too small.
const allowed = "start that with it, as by 'docker run --cap-add CHECKPOINT_RESTORE --security-opt seccomp=unconfined', or save its jobs from outside"

// powerless is why a capability of a file has no effect for this process, and what to do;
// "" if there is no such reason.
func powerless(path string) string {
	var fs unix.Statfs_t
	if unix.Statfs(path, &fs) == nil && fs.Flags&unix.ST_NOSUID != 0 {
		return excerpt(path) + " is on a file system that is mounted nosuid, where capabilities of files have no effect: put it on another one"
	}
	if set, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0); err == nil && set != 0 {
		return "no program gets a capability here (no_new_privs): start this shell or container without NoNewPrivileges or no-new-privileges"
	}
	return ""
}

// inDirs is where a program called name may be.
func (s *search) inDirs(name string) []string {
	var names []string
	for _, dir := range s.dirs {
		if filepath.IsAbs(dir) {
			names = append(names, filepath.Join(dir, name))
		}
	}
	return names
}

// byName is what CR_CRIU names: one file.
func (s *search) byName() ([]string, error) {
	if strings.Contains(s.named, "/") {
		// Absolute, since the caller may change its directory.
		name, err := filepath.Abs(s.named)
		return []string{name}, err
	}
	for _, name := range s.inDirs(s.named) {
		if _, err := identify(name); err == nil {
			return []string{name}, nil
		}
	}
	return nil, errors.New("not in PATH")
}

// blame is how a message calls the criu that is the file name.
func (s *search) blame(name string) string {
	if s.named != "" {
		return "CR_CRIU=" + excerpt(s.named)
	}
	return excerpt(name)
}

// membersOnly returns a line about a criu that only a group may run, as blcr-cli-criu
// --group makes one, if err is that this caller may not. Otherwise it returns "".
func membersOnly(name string, err error) string {
	var st unix.Stat_t
	if !errors.Is(err, unix.EACCES) || unix.Stat(name, &st) != nil || st.Mode&0o11 != 0o10 {
		return ""
	}
	return hints.MembersOnly(unix.Geteuid(), int(st.Gid))
}

// ask says whether the criu at name, whose identity is id, is usable: as
// remembered, or else by running it. The error is that of running it, which is
// not remembered: it may be the machine's, out of processes for a moment.
func (s *search) ask(name string, id identity) (answer, error) {
	if a, ok := s.recall(id); ok {
		return a, nil
	}
	// Of many that begin together, as on a node that has just started, one asks.
	defer s.answers.lock()()
	if a, ok := s.recall(id); ok {
		return a, nil
	}
	runtimeDir := s.runtimeDir(id)
	if runtimeDir != "" {
		_ = unix.Mkdir(runtimeDir, 0o700) // the lock has made its parent
	}
	a, err := check(name, runtimeDir)
	if err == nil && a.usable && s.learnKerndat != nil && s.answers != nil {
		a.kerndat = s.learnKerndat(name)
	}
	if err == nil && exhausted(nil, a.why) == 0 {
		s.answers.keep(id, a)
	}
	return a, err
}

// exhausted is which resource a criu has lacked that gave no answer, or a bad one for that
// reason; 0 for others. It says nothing about the criu.
func exhausted(err error, why string) syscall.Errno {
	var exit *exec.ExitError
	for _, errno := range []syscall.Errno{unix.EMFILE, unix.ENFILE, unix.ENOMEM, unix.EAGAIN} {
		if errors.Is(err, errno) || errno != unix.EAGAIN && strings.Contains(why, ckpt.Strerror(errno)) {
			return errno
		}
	}
	if errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == unix.SIGKILL && len(hints.Killed()) > 0 {
		return unix.ENOMEM
	}
	return 0
}

// recall returns the remembered answer, in the second look no bad one from before that.
func (s *search) recall(id identity) (answer, bool) {
	age := badFor
	if !s.retried.IsZero() {
		age = time.Since(s.retried)
	}
	a, ok := s.answers.recall(id, age)
	s.recalledBad = s.recalledBad || ok && !a.usable
	return a, ok
}

// absent is whether identify's err says that there is no criu of that name, or
// none that we could see: a user's PATH may have directories closed to him.
func absent(err error) bool {
	for _, e := range []error{unix.ENOENT, unix.ENOTDIR, unix.EACCES, errNotProgram} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// describe gives the reason of an error without its file name, which goes in
// front.
func describe(err error) string {
	var number syscall.Errno
	if errors.As(err, &number) {
		return ckpt.Strerror(number)
	}
	return excerpt(err.Error())
}
