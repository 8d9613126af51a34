package target

import (
	"fmt"
	"maps"
	"strings"
	"syscall"
	"testing"

	"blcr-cli/test/harness"

	"golang.org/x/sys/unix"
)

// scenario is one way to save "new" as c, over what is there before.
type scenario struct {
	spec    Spec
	before  files
	refuse  bool // access says that c may not be written
	noLinks bool // link says EPERM
	noSwaps bool // renameat2 says EINVAL
}

func (s scenario) String() string {
	return fmt.Sprintf("%+v over %q refuse=%v noLinks=%v noSwaps=%v", s.spec, s.before, s.refuse, s.noLinks, s.noSwaps)
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
		case s.noSwaps && call == "renameat2":
			return unix.EINVAL
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
			{spec: Spec{Policy: Atomic}, before: files{}, noLinks: true},
			{spec: Spec{Policy: Atomic}, before: files{"c": "old", ".c.old": "y"}, noLinks: true},
			{spec: Spec{Policy: Atomic}, before: files{"c": "old", ".c.old": "y"}, noLinks: true, noSwaps: true},
			{spec: Spec{Policy: Backup}, before: files{}},
			{spec: Spec{Policy: Backup}, before: files{"c": "old"}},
			{spec: Spec{Policy: Backup}, before: files{"c": "old", "c.~1~": "older"}},
			{spec: Spec{Policy: Backup}, before: files{"c": "old"}, noLinks: true},
			{spec: Spec{Policy: Backup, Keep: 2}, before: files{}},
			{spec: Spec{Policy: Backup, Keep: 2}, before: files{"c": "old", "c.~0~": "x", "c.~01~": "y", "b.~1~": "z"}},
			{spec: Spec{Policy: Backup, Keep: 2}, before: files{"c": "old", "c.~1~": "older"}},
			{spec: Spec{Policy: Backup, Keep: 2}, before: files{"c": "old", "c.~1~": "older"}, noLinks: true},
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

// plainResult is the error of the run if nothing is made to fail.
func (s scenario) plainResult() *Error {
	if _, exists := s.before["c"]; exists && s.spec.Policy == NoClobber {
		return &Error{OpOpen, "c", "", unix.EEXIST}
	}
	return nil
}

func (s scenario) inPlace() bool { return s.spec.Names().Rename == "" }

// after is what must be there if the run returned err, begun tells how far it
// came, and failed was the call that was made to fail.
func (s scenario) after(begun bool, err error, failed string) files {
	want := maps.Clone(s.before)
	for name := range want {
		// What a killed run left goes, if the run came so far.
		if strings.HasPrefix(name, ".") {
			delete(want, name)
		}
	}
	file := "c"
	if strings.HasPrefix(want["c"], "-> ") && failed != "access c" {
		file = "v"
	}
	switch {
	case err == nil:
		if old, ok := want["c"]; ok && s.spec.Policy == Backup {
			want[s.backupName()] = old
		}
		want[file] = "new"
		if s.spec.Keep == 2 && s.backupName() == "c.~2~" {
			delete(want, "c.~1~")
		}
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
func (s scenario) check(t *testing.T, begun bool, err error, failed string) {
	t.Helper()
	want, got := s.after(begun, err, failed), listing(t)
	for name, stale := range s.before {
		// A run that failed early has not come to the leavings of others.
		if strings.HasPrefix(name, ".") && err != nil && got[name] == stale {
			delete(got, name)
		}
	}
	if s.spec.Keep > 0 && err == nil && failed != "" && got["c.~1~"] == s.before["c.~1~"] {
		delete(got, "c.~1~") // it may not have been removed
		delete(want, "c.~1~")
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
				before := harness.Descriptors()
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
				if err == nil && errno != unix.EINTR && !tolerated(failed, errno) && !(s.spec.Keep > 0 && forgiven(failed)) && !(s.noLinks && failed == "lstat ./.c.tmp") {
					t.Errorf("%q failed, the run did not", failed)
				}
				if errno == unix.EINTR {
					checkError(t, err, s.plainResult())
					failed = "nothing"
				}
				s.check(t, begun, err, failed)
				if after := harness.Descriptors(); !maps.Equal(before, after) {
					t.Errorf("descriptors before %v, after %v", before, after)
				}
				if t.Failed() {
					t.Fatalf("%v\ncall %d, %q, failed with %v", s, n, failed, errno)
				}
			}
		}
	}
}

// tolerated tells whether a run may succeed though this call failed.
func tolerated(call string, errno syscall.Errno) bool {
	switch call {
	case "lstat c", "stat c", "lstat ./.c.old": // assumes the worse
		return true
	case "link c ./.c.old", "unlink ./.c.old", "unlink ./.b.bak": // not needed
		return true
	case "rename ./.c.tmp ./.c.old", "rename ./.c.old ./.c.tmp", "rename c ./.c.old": // nor these
		return true
	case "renameat2 ./.c.old c": // nor this
		return true
	case "dup", "close", "readlink": // says nothing about the file
		return true
	case "access c": // the file is replaced
		return true
	case "link c c.~1~", "link c c.~2~", "link c b", "link c ./.b.bak": // renamed instead
		return errno == unix.EPERM
	case "open ./.c.tmp": // a stale one
		return errno == unix.EPERM || errno == unix.EACCES
	}
	return false
}

// forgiven tells whether a run with Keep may succeed though this call failed: what looks
// ahead, and what removes.
func forgiven(call string) bool {
	switch call {
	case "open .", "entries", "lstat c.~1~", "lstat c.~2~", "unlink c.~1~":
		return true
	}
	return false
}

// Abort fails in one call: nothing is left behind all the same.
func TestEachCallOfAbortFails(t *testing.T) {
	workdir(t)
	for _, s := range scenarios() {
		for _, begin := range []bool{false, true} {
			for n := 1; ; n++ {
				empty(t)
				s.before.create(t)
				before := harness.Descriptors()
				count, aborting := 0, false
				tg, err := openFile(s.spec, s.system(func(string) error {
					if !aborting {
						return nil
					}
					if count++; count == n {
						return unix.EIO
					}
					return nil
				}))
				if err != nil {
					break // NoClobber
				}
				if begin {
					mustWrite(t, tg, "half")
				}
				aborting = true
				checkError(t, tg.Abort(), nil)
				s.check(t, begin, unix.ECANCELED, "")
				if after := harness.Descriptors(); !maps.Equal(before, after) {
					t.Errorf("descriptors before %v, after %v", before, after)
				}
				if t.Failed() {
					t.Fatalf("%v\nbegun %v, call %d of Abort failed", s, begin, n)
				}
				if count < n {
					break
				}
			}
		}
	}
}

// killed is what a hook panics with: no more calls are made.
type killed struct{}

// The run is killed before each call, in every scenario. With Atomic and Backup
// the name has the old content or the new one, complete, and the old content is
// not lost; and the next run is not in the least disturbed.
func TestKilledAtEachCall(t *testing.T) {
	workdir(t)
	for _, s := range scenarios() {
		for n := 1; ; n++ {
			empty(t)
			s.before.create(t)
			begun, at := saveAndDie(t, s, n)
			if at == "" {
				break
			}
			s.checkKilled(t, begun)
			s.checkNextRun(t)
			if t.Failed() {
				t.Fatalf("%v\nkilled before call %d, %q", s, n, at)
			}
		}
	}
}

// saveAndDie is saveStages, killed at the nth call: at is that call, "" if there
// was none.
func saveAndDie(t *testing.T, s scenario, n int) (begun bool, at string) {
	t.Helper()
	before := harness.Descriptors()
	count := 0
	sys := s.system(func(call string) error {
		if at != "" {
			return unix.EIO // deferred calls: a killed process makes none
		}
		if count++; count == n {
			at = call
			panic(killed{})
		}
		return nil
	})
	defer func() {
		if r := recover(); r != nil && r != (killed{}) {
			panic(r)
		}
		for fd := range harness.Descriptors() {
			if _, ok := before[fd]; !ok {
				unix.Close(fd)
			}
		}
	}()
	tg, err := openFile(s.spec, sys)
	if err != nil {
		return false, at
	}
	if tg.Begin() != nil {
		return false, at
	}
	begun = true
	unix.Write(tg.fd, []byte("new"))
	_ = tg.Commit()
	return begun, at
}

func (s scenario) checkKilled(t *testing.T, begun bool) {
	t.Helper()
	got := listing(t)
	old, existed := s.before["c"]
	now, exists := got["c"]
	switch {
	case s.inPlace():
		// Before Begin nothing has happened to what was there.
		if !begun && existed && now != old {
			t.Errorf("killed before Begin was done: files are %q", got)
		}
		return
	case s.noLinks && existed && !exists:
		// The exception: renamed away, and the new one not there yet.
		if s.spec.Policy == Atomic {
			now = got[".c.old"]
		} else {
			now = got[s.backupName()]
		}
		if now != old || s.spec.Policy == Atomic && !s.noSwaps {
			t.Errorf("the old context is gone: files are %q", got)
		}
		return
	case exists != existed && now != "new", exists && now != old && now != "new":
		t.Errorf("the name is torn: files are %q", got)
	}
	if s.spec.Policy == Backup && existed && now == "new" && got[s.backupName()] != old {
		t.Errorf("no backup: files are %q", got)
	}
}

// checkNextRun makes a run over what the killed one left.
func (s scenario) checkNextRun(t *testing.T) {
	t.Helper()
	spec := s.spec
	if spec.Policy == NoClobber {
		return // what the killed one left is in its way, as it should be
	}
	checkError(t, save(spec, &system{}, "next"), nil)
	got := listing(t)
	if got["c"] != "next" && got["v"] != "next" {
		t.Errorf("after the next run files are %q", got)
	}
	// Clobber looks at the hidden name only if it needs it itself.
	if s.inPlace() {
		spec.Policy = Atomic
		checkError(t, save(spec, &system{}, "next"), nil)
		got = listing(t)
	}
	for name := range got {
		if strings.HasPrefix(name, ".") {
			t.Errorf("after the next run files are %q", got)
		}
	}
}
