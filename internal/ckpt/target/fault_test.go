package target

import (
	"fmt"
	"maps"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// scenario is one way to save "new" as c, over what is there before.
type scenario struct {
	spec    Spec
	before  files
	refuse  bool // access says that c may not be written
	noLinks bool // link says EPERM
}

func (s scenario) String() string {
	return fmt.Sprintf("%+v over %q refuse=%v noLinks=%v", s.spec, s.before, s.refuse, s.noLinks)
}

// system answers as the scenario has it, and asks fault about the calls that
// would be made.
func (s scenario) system(fault func(call string) error) *system {
	return &system{hook: func(call string, args ...string) error {
		err := fault(strings.Join(append([]string{call}, args...), " "))
		switch {
		case err != nil:
			return err
		case s.refuse && call == "access":
			return unix.EACCES
		case s.noLinks && call == "link":
			return unix.EPERM
		}
		return nil
	}}
}

func scenarios() []scenario {
	var all []scenario
	named := Spec{Policy: Backup, BackupName: "b", BackupNamed: true}
	for _, sync := range []bool{false, true} {
		for _, s := range []scenario{
			{spec: Spec{Policy: Atomic}, before: files{}},
			{spec: Spec{Policy: Atomic}, before: files{"c": "old"}},
			{spec: Spec{Policy: Atomic}, before: files{"c": "old", ".c.tmp": "x", ".c.old": "y"}},
			{spec: Spec{Policy: Backup}, before: files{}},
			{spec: Spec{Policy: Backup}, before: files{"c": "old"}},
			{spec: Spec{Policy: Backup}, before: files{"c": "old", "c.~1~": "older"}},
			{spec: Spec{Policy: Backup}, before: files{"c": "old"}, noLinks: true},
			{spec: named, before: files{}},
			{spec: named, before: files{"c": "old"}},
			{spec: named, before: files{"c": "old", "b": "older"}},
			{spec: named, before: files{"c": "old", "b": "older", ".b.bak": "x"}},
			{spec: named, before: files{"c": "old"}, noLinks: true},
			{spec: Spec{Policy: Clobber}, before: files{}},
			{spec: Spec{Policy: Clobber}, before: files{"c": "old"}},
			{spec: Spec{Policy: Clobber}, before: files{"c": "old"}, refuse: true},
			{spec: Spec{Policy: Clobber}, before: files{"c": "-> v", "v": "old"}},
			{spec: Spec{Policy: Clobber}, before: files{"c": "-> v"}},
			{spec: Spec{Policy: NoClobber}, before: files{}},
			{spec: Spec{Policy: NoClobber}, before: files{"c": "old"}},
		} {
			s.spec.Path, s.spec.Sync = "c", sync
			all = append(all, s)
		}
	}
	return all
}

func (s scenario) inPlace() bool { return s.spec.Names().Rename == "" }

// after is what must be there if the run returned err, with begun telling how
// far it came.
func (s scenario) after(begun bool, err error) files {
	want := maps.Clone(s.before)
	for name := range want {
		// What a killed run left goes, if the run came so far.
		if strings.HasPrefix(name, ".") {
			delete(want, name)
		}
	}
	file := "c"
	if strings.HasPrefix(want["c"], "-> ") {
		file = "v"
	}
	switch {
	case err == nil:
		if old, ok := want["c"]; ok && s.spec.Policy == Backup {
			want[s.backupName()] = old
		}
		want[file] = "new"
	case s.inPlace() && begun:
		delete(want, file)
	}
	return want
}

func (s scenario) backupName() string {
	if s.spec.BackupNamed {
		return s.spec.BackupName
	}
	if _, taken := s.before["c.~1~"]; taken {
		return "c.~2~"
	}
	return "c.~1~"
}

// check holds what is there against what after says, with the freedoms that
// are documented.
func (s scenario) check(t *testing.T, begun bool, err error) {
	t.Helper()
	want, got := s.after(begun, err), listing(t)
	for name, stale := range s.before {
		// A run that failed early has not come to the leavings of others.
		if strings.HasPrefix(name, ".") && err != nil && got[name] == stale {
			delete(got, name)
		}
	}
	if older, had := s.before["b"]; had && err != nil {
		// A backup that was to be replaced: before, after, or given back.
		if now, has := got["b"]; !has || now == older || now == "old" {
			delete(got, "b")
			delete(want, "b")
		}
	}
	if !maps.Equal(got, want) {
		t.Errorf("begun %v, error %v: files are %q, want %q", begun, err, got, want)
	}
}

// Each system call fails once, in every scenario: then the run succeeded all
// the same, or it reports an error and everything is as it was.
func TestEachCallFails(t *testing.T) {
	workdir(t)
	for _, s := range scenarios() {
		for _, errno := range []syscall.Errno{unix.EIO, unix.EPERM, unix.EACCES, unix.ENOSPC, unix.EINTR} {
			for n := 1; ; n++ {
				empty(t)
				s.before.create(t)
				before := openFDs()
				count, failed := 0, ""
				begun, err := saveStages(s.spec, s.system(func(call string) error {
					if count++; count == n {
						failed = call
						return errno
					}
					return nil
				}), "new")
				if failed == "" {
					break
				}
				if s.isTolerated(failed, errno) != (err == nil) {
					t.Errorf("%q: error %v", failed, err)
				}
				s.check(t, begun, err)
				if after := openFDs(); !maps.Equal(before, after) {
					t.Errorf("descriptors before %v, after %v", before, after)
				}
				if t.Failed() {
					t.Fatalf("%v\ncall %d, %q, failed with %v", s, n, failed, errno)
				}
			}
		}
	}
}

// isTolerated tells whether a run may succeed though a call failed.
func (s scenario) isTolerated(call string, errno syscall.Errno) bool {
	name, args, _ := strings.Cut(call, " ")
	_, exists := s.before["c"]
	switch {
	case s.spec.Policy == NoClobber && exists:
		return false // the run fails anyhow
	case name == "close":
		// One of ours, or the flush of a file that is not synced.
		return s.spec.Sync || errno == unix.EINTR
	case errno == unix.EINTR:
		return true
	case call == "lstat c", call == "stat c" && exists, name == "dup", name == "readlink":
		return true
	case name == "unlink":
		// All that are not the removal of a stale temporary: not needed.
		return args != "./.c.tmp"
	case name == "link" && args == "c ./.c.old":
		return true
	case name == "link" && errno == unix.EPERM:
		return true // the old context is renamed instead
	case name == "flock", name == "access":
		// The probe of a stale file; clobber then replaces.
		return s.mayGoOn(name)
	case name == "open" && args == "./.c.tmp" && s.before[".c.tmp"] != "":
		return errno == unix.EPERM || errno == unix.EACCES
	}
	return false
}
