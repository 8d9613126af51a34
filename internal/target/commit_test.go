package target

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestBackup(t *testing.T) {
	workdir(t)
	numbered := Spec{Policy: Backup}
	named := func(name string) Spec {
		return Spec{Policy: Backup, BackupName: name, BackupNamed: true}
	}
	for _, tt := range []struct {
		about  string
		spec   Spec
		before files
		after  files
		err    *Error
	}{
		{
			"the first number that is free", numbered,
			files{"c": "old", "c.~1~": "1", "c.~2~": "2", "c.~4~": "4"},
			files{"c": "new", "c.~1~": "1", "c.~2~": "2", "c.~3~": "old", "c.~4~": "4"}, nil,
		},
		{
			"a dangling link takes a number", numbered,
			files{"c": "old", "c.~1~": "-> no"},
			files{"c": "new", "c.~1~": "-> no", "c.~2~": "old"}, nil,
		},
		{
			"a directory is moved", numbered,
			files{"c": "dir"}, files{"c": "new", "c.~1~": "dir"}, nil,
		},
		{
			"a directory is moved, not onto another", numbered,
			files{"c": "dir", "c.~1~": "dir"}, files{"c": "new", "c.~1~": "dir", "c.~2~": "dir"}, nil,
		},
		{
			"nothing to keep", named("b"),
			files{"b": "older"}, files{"c": "new", "b": "older"}, nil,
		},
		{
			"new name", named("b"),
			files{"c": "old"}, files{"c": "new", "b": "old"}, nil,
		},
		{
			"name that exists", named("b"),
			files{"c": "old", "b": "older"}, files{"c": "new", "b": "old"}, nil,
		},
		{
			"name that exists, and what a killed run left", named("b"),
			files{"c": "old", "b": "older", ".b.bak": "x", ".c.old": "y", ".c.tmp": "z"},
			files{"c": "new", "b": "old"}, nil,
		},
		{
			"name that is a link is replaced", named("b"),
			files{"c": "old", "b": "-> v", "v": "precious"},
			files{"c": "new", "b": "old", "v": "precious"}, nil,
		},
		{
			"name that is the target", named("c"),
			files{"c": "old"}, files{"c": "new"}, nil,
		},
		{
			"name that is the target, otherwise spelled", named("./c"),
			files{"c": "old"}, files{"c": "new"}, nil,
		},
		{
			"a directory to a new name", named("b"),
			files{"c": "dir"}, files{"c": "new", "b": "dir"}, nil,
		},
		{
			"a directory onto a file", named("b"),
			files{"c": "dir", "b": "older"}, files{"c": "dir", "b": "older"},
			&Error{OpRename, "c", "b", unix.ENOTDIR},
		},
		{
			"name of a directory", named("d"),
			files{"c": "old", "d": "dir"}, files{"c": "old", "d": "dir"},
			&Error{OpRename, "c", "d", unix.EISDIR},
		},
		{
			"name without a directory", named("no/b"),
			files{"c": "old"}, files{"c": "old"},
			&Error{OpRename, "c", "no/b", unix.ENOENT},
		},
		{
			"empty name", named(""),
			files{"c": "old"}, files{"c": "old"},
			&Error{OpRename, "c", "", unix.ENOENT},
		},
		{
			"empty name, nothing to keep", named(""),
			files{}, files{"c": "new"}, nil,
		},
		{
			"name of the temporary file", named(".c.tmp"),
			files{"c": "old"}, files{"c": "old", ".c.tmp": "old"},
			&Error{OpRename, "./.c.tmp", "c", unix.EBUSY},
		},
	} {
		for _, sync := range []bool{false, true} {
			t.Run(fmt.Sprint(tt.about, sync), func(t *testing.T) {
				empty(t)
				tt.before.create(t)
				tt.spec.Path, tt.spec.Sync = "c", sync
				checkError(t, save(tt.spec, &system{}, "new"), tt.err)
				tt.after.check(t)
			})
		}
	}
}

// NAME is relative to the working directory, the number goes beside the target.
func TestBackupDirectory(t *testing.T) {
	workdir(t)
	files{"d": "dir"}.create(t)
	os.WriteFile("d/c", []byte("old"), 0o600)
	checkError(t, save(Spec{Path: "d/c", Policy: Backup}, &system{}, "new"), nil)
	checkError(t, save(Spec{Path: "d/c", Policy: Backup, BackupName: "b", BackupNamed: true}, &system{}, "newer"), nil)
	files{"b": "new", "d": "dir"}.check(t)
	for name, want := range map[string]string{"d/c": "newer", "d/c.~1~": "old"} {
		if got, _ := os.ReadFile(name); string(got) != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}

// A backup that has the content already, as after a kill between making the
// backup and replacing the target.
func TestBackupIsLinkedAlready(t *testing.T) {
	workdir(t)
	files{"c": "old"}.create(t)
	if err := os.Link("c", "b"); err != nil {
		t.Fatal(err)
	}
	spec := Spec{Path: "c", Policy: Backup, BackupName: "b", BackupNamed: true, Sync: true}
	err := save(spec, failing("fsync", 2, unix.EIO), "new")
	checkError(t, err, &Error{OpSyncDir, ".", "", unix.EIO})
	files{"c": "old", "b": "old"}.check(t)
	checkError(t, save(spec, &system{}, "new"), nil)
	files{"c": "new", "b": "old"}.check(t)
}

func TestBackupElsewhere(t *testing.T) {
	workdir(t)
	elsewhere := filepath.Join(t.TempDir(), "b")
	var here, there unix.Stat_t
	unix.Stat(".", &here)
	unix.Stat(filepath.Dir(elsewhere), &there)
	if here.Dev == there.Dev {
		t.Skip("no second file system at hand")
	}
	files{"c": "old"}.create(t)
	for range 2 { // without and with a file of that name
		err := save(Spec{Path: "c", Policy: Backup, BackupName: elsewhere, BackupNamed: true}, &system{}, "new")
		checkError(t, err, &Error{OpRename, "c", elsewhere, unix.EXDEV})
		files{"c": "old"}.check(t)
		if err := os.WriteFile(elsewhere, []byte("older"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if names, _ := filepath.Glob(filepath.Dir(elsewhere) + "/.*"); len(names) != 0 {
		t.Errorf("left behind: %q", names)
	}
}

func TestBackupNumbersRunOut(t *testing.T) {
	workdir(t)
	files{"c": "old"}.create(t)
	err := save(Spec{Path: "c", Policy: Backup}, failing("link", 0, unix.EEXIST), "new")
	checkError(t, err, &Error{OpRename, "c", "c.~65536~", unix.ERANGE})
	files{"c": "old"}.check(t)
}

func TestNoHardLinks(t *testing.T) {
	workdir(t)
	for _, errno := range []syscall.Errno{unix.EPERM, unix.EOPNOTSUPP, unix.ENOSYS, unix.EMLINK} {
		for _, tt := range []struct {
			spec          Spec
			before, after files
		}{
			{Spec{Policy: Atomic}, files{"c": "old"}, files{"c": "new"}},
			{Spec{Policy: Backup}, files{"c": "old", "c.~1~": "1"}, files{"c": "new", "c.~1~": "1", "c.~2~": "old"}},
			{Spec{Policy: Backup, BackupName: "b", BackupNamed: true}, files{"c": "old"}, files{"c": "new", "b": "old"}},
			{Spec{Policy: Backup, BackupName: "b", BackupNamed: true}, files{"c": "old", "b": "older"}, files{"c": "new", "b": "old"}},
		} {
			empty(t)
			tt.before.create(t)
			tt.spec.Path, tt.spec.Sync = "c", true
			checkError(t, save(tt.spec, failing("link", 0, errno), "new"), nil)
			tt.after.check(t)
		}
	}
}

// What is forgiven: a file that cannot be synced, a directory that cannot.
func TestSyncTolerance(t *testing.T) {
	workdir(t)
	for _, policy := range policies {
		write := Spec{Path: "c", Policy: policy}.Names().Write
		for _, tt := range []struct {
			nth   int // fsync of the file, or of the directory
			errno syscall.Errno
			want  *Error
		}{
			{1, unix.EINVAL, nil},
			{1, unix.EROFS, &Error{OpSync, write, "", unix.EROFS}},
			{1, unix.EIO, &Error{OpSync, write, "", unix.EIO}},
			{2, unix.EINVAL, nil},
			{2, unix.EROFS, nil},
			{2, unix.EIO, &Error{OpSyncDir, ".", "", unix.EIO}},
		} {
			empty(t)
			err := save(Spec{Path: "c", Policy: policy, Sync: true}, failing("fsync", tt.nth, tt.errno), "new")
			checkError(t, err, tt.want)
			if tt.want == nil {
				files{"c": "new"}.check(t)
			} else {
				files{}.check(t)
			}
		}
	}
}

func TestUnopenableDirectory(t *testing.T) {
	workdir(t)
	for _, policy := range policies {
		empty(t)
		want := files{}
		if policy == Atomic || policy == Backup {
			want["c"] = "old"
		}
		want.create(t)
		err := save(Spec{Path: "c", Policy: policy, Sync: true}, failing("open .", 1, unix.EACCES), "new")
		checkError(t, err, &Error{OpOpenDir, ".", "", unix.EACCES})
		want.check(t)
	}
}

// The directory cannot be synced: everything goes back.
func TestRollback(t *testing.T) {
	workdir(t)
	named := Spec{Policy: Backup, BackupName: "b", BackupNamed: true}
	syncFails := func() *system { return failing("fsync", 2, unix.EIO) }
	// There is one more, of the backup's directory.
	afterMove := func() *system { return failing("fsync", 3, unix.EIO) }
	without := func(nth int, unsupported ...string) *system {
		n := 0
		return &system{hook: func(call string, _ ...string) error {
			if slices.Contains(unsupported, call) {
				return map[string]error{"link": unix.EPERM, "renameat2": unix.EINVAL}[call]
			}
			switch call {
			case "fsync":
				if n++; n == nth {
					return unix.EIO
				}
			}
			return nil
		}}
	}
	noLinks := func(nth int) *system { return without(nth, "link") }
	noSwaps := func(nth int) *system { return without(nth, "link", "renameat2") }
	for _, tt := range []struct {
		about         string
		spec          Spec
		sys           *system
		before, after files
	}{
		{"atomic", Spec{}, syncFails(), files{"c": "old"}, files{"c": "old"}},
		{"atomic, stale spare", Spec{}, syncFails(), files{"c": "old", ".c.old": "x"}, files{"c": "old"}},
		{"atomic, nothing there", Spec{}, syncFails(), files{}, files{}},
		{"atomic, spare only", Spec{}, syncFails(), files{".c.old": "old"}, files{"c": "old"}},
		{"numbered", Spec{Policy: Backup}, syncFails(), files{"c": "old"}, files{"c": "old"}},
		{"numbered, after the move", Spec{Policy: Backup}, afterMove(), files{"c": "old"}, files{"c": "old"}},
		{"numbered, nothing there", Spec{Policy: Backup}, syncFails(), files{}, files{}},
		{"numbered, dangling link", Spec{Policy: Backup}, syncFails(), files{"c": "-> no"}, files{"c": "-> no"}},
		{"numbered, no links", Spec{Policy: Backup}, noLinks(2), files{"c": "old"}, files{"c": "old"}},
		{"numbered, no links, after the move", Spec{Policy: Backup}, noLinks(3), files{"c": "old"}, files{"c": "old"}},
		{"named", named, syncFails(), files{"c": "old"}, files{"c": "old"}},
		{"named, after the move", named, afterMove(), files{"c": "old"}, files{"c": "old"}},
		{"named, no links", named, noLinks(2), files{"c": "old"}, files{"c": "old"}},
		{"named, no links, after the move", named, noLinks(3), files{"c": "old"}, files{"c": "old"}},
		{"named as the target", Spec{Policy: Backup, BackupName: "c", BackupNamed: true}, syncFails(), files{"c": "old"}, files{"c": "old"}},
		{"named as the target in other words", Spec{Policy: Backup, BackupName: "./c", BackupNamed: true}, syncFails(), files{"c": "old"}, files{"c": "old"}},
		// A directory cannot be renamed over a file. It is no context.
		{"numbered, directory", Spec{Policy: Backup}, syncFails(), files{"c": "dir"}, files{"c": "dir"}},
		{"numbered, directory, after the move", Spec{Policy: Backup}, afterMove(), files{"c": "dir"}, files{"c": "new", "c.~1~": "dir"}},
		// The former backup is lost: documented.
		{"replaced", named, syncFails(), files{"c": "old", "b": "older"}, files{"c": "old", "b": "old"}},
		{"replaced, after the move", named, afterMove(), files{"c": "old", "b": "older"}, files{"c": "old"}},
		{"atomic, no links", Spec{}, noLinks(2), files{"c": "old"}, files{"c": "old"}},
		{"atomic, no links, stale spare", Spec{}, noLinks(2), files{"c": "old", ".c.old": "x"}, files{"c": "old"}},
		{"atomic, no links, nothing there", Spec{}, noLinks(2), files{}, files{}},
		{"atomic, no links, a link", Spec{}, noLinks(2), files{"c": "-> no"}, files{"c": "-> no"}},
		{"atomic, neither links nor exchange", Spec{}, noSwaps(2), files{"c": "old"}, files{"c": "old"}},
		// What a run that was killed had taken the name from has it again.
		{"atomic, killed before", Spec{}, noSwaps(2), files{".c.old": "old"}, files{"c": "old"}},
	} {
		t.Run(tt.about, func(t *testing.T) {
			empty(t)
			tt.before.create(t)
			tt.spec.Path, tt.spec.Sync = "c", true
			checkError(t, save(tt.spec, tt.sys, "new"), &Error{OpSyncDir, ".", "", unix.EIO})
			tt.after.check(t)
		})
	}
}

// Neither the way back nor the removal at the end touches what a later run put
// at the name.
func TestRollbackAfterLaterRun(t *testing.T) {
	workdir(t)
	for _, tt := range []struct {
		policy        Policy
		syncs         int
		before, after files
	}{
		{Atomic, 2, files{"c": "old"}, files{"c": "later"}},
		{Atomic, 2, files{}, files{"c": "later"}},
		{Backup, 3, files{"c": "old"}, files{"c": "later", "c.~1~": "old"}},
	} {
		empty(t)
		tt.before.create(t)
		n := 0
		sys := &system{}
		sys.hook = func(call string, _ ...string) error {
			if call != "fsync" {
				return nil
			}
			if n++; n < tt.syncs {
				return nil
			}
			checkError(t, save(Spec{Path: "c"}, &system{}, "later"), nil)
			return unix.EIO
		}
		err := save(Spec{Path: "c", Policy: tt.policy, Sync: true}, sys, "new")
		checkError(t, err, &Error{OpSyncDir, ".", "", unix.EIO})
		tt.after.check(t)
	}
}

// The old context cannot be put back: the new one stays, and the old one keeps
// its second name.
func TestRollbackFails(t *testing.T) {
	workdir(t)
	files{"c": "old"}.create(t)
	sys := &system{}
	sys.hook = func(call string, args ...string) error {
		if call == "fsync" && len(listing(t)[".c.old"]) > 0 || call == "rename" && args[0] == "./.c.old" {
			return unix.EIO
		}
		return nil
	}
	err := save(Spec{Path: "c", Sync: true}, sys, "new")
	checkError(t, err, &Error{OpSyncDir, ".", "", unix.EIO})
	files{"c": "new", ".c.old": "old"}.check(t)
}

// What has the spare's name and cannot be removed is no obstacle.
func TestSpareBlocked(t *testing.T) {
	workdir(t)
	files{"c": "old", ".c.old": "dir"}.create(t)
	checkError(t, save(Spec{Path: "c", Sync: true}, &system{}, "new"), nil)
	files{"c": "new", ".c.old": "dir"}.check(t)
}

func TestTempStolen(t *testing.T) {
	workdir(t)
	for _, spec := range []Spec{{}, {Policy: Backup}, {Policy: Backup, BackupName: "b", BackupNamed: true}} {
		for _, sync := range []bool{false, true} {
			spec.Path, spec.Sync = "c", sync
			empty(t)
			files{"c": "old"}.create(t)
			tg := mustOpen(t, spec, &system{})
			mustWrite(t, tg, "new")
			os.Remove(".c.tmp")
			checkError(t, tg.Commit(), &Error{OpRename, "./.c.tmp", "c", unix.ENOENT})
			files{"c": "old"}.check(t)

			tg = mustOpen(t, spec, &system{})
			mustWrite(t, tg, "new")
			os.Remove(".c.tmp")
			files{".c.tmp": "planted"}.create(t)
			checkError(t, tg.Commit(), &Error{OpRename, "./.c.tmp", "c", unix.EBUSY})
			files{"c": "old", ".c.tmp": "planted"}.check(t)
		}
	}
}

// Without Sync, a file system that writes late tells in close.
func TestLateWriteError(t *testing.T) {
	workdir(t)
	for _, policy := range policies {
		empty(t)
		want := files{}
		if policy == Atomic || policy == Backup {
			want["c"] = "old"
		}
		want.create(t)
		spec := Spec{Path: "c", Policy: policy}
		err := save(spec, failing("close", 1, unix.EDQUOT), "new")
		checkError(t, err, &Error{OpWrite, spec.Names().Write, "", unix.EDQUOT})
		want.check(t)
	}
}

func TestOrderOfCalls(t *testing.T) {
	workdir(t)
	files{"c": "old"}.create(t)
	spec := Spec{Path: "c"}

	tg := mustOpen(t, spec, &system{})
	checkError(t, tg.Commit(), &Error{OpWrite, "./.c.tmp", "", unix.EINVAL})
	files{"c": "old"}.check(t)

	tg = mustOpen(t, spec, &system{})
	checkError(t, tg.Abort(), nil)
	checkError(t, tg.Abort(), nil)
	checkError(t, tg.Begin(), &Error{OpWrite, "./.c.tmp", "", unix.ECANCELED})
	checkError(t, tg.Commit(), &Error{OpWrite, "./.c.tmp", "", unix.ECANCELED})
	files{"c": "old"}.check(t)

	tg = mustOpen(t, spec, &system{})
	mustWrite(t, tg, "new")
	checkError(t, tg.Commit(), nil)
	checkError(t, tg.Abort(), nil)
	checkError(t, tg.Commit(), &Error{OpWrite, "./.c.tmp", "", unix.ECANCELED})
	files{"c": "new"}.check(t)
}

// Abort from elsewhere waits for a Commit that has begun.
func TestAbortDuringCommit(t *testing.T) {
	workdir(t)
	inCommit, goOn := make(chan bool), make(chan bool)
	sys := &system{}
	sys.hook = func(call string, _ ...string) error {
		if call == "rename" {
			close(inCommit)
			<-goOn
		}
		return nil
	}
	tg := mustOpen(t, Spec{Path: "c"}, sys)
	mustWrite(t, tg, "new")
	aborted := make(chan error)
	go func() {
		<-inCommit
		go func() { aborted <- tg.Abort() }()
		select {
		case <-aborted:
			t.Error("Abort did not wait")
		case <-time.After(20 * time.Millisecond):
		}
		close(goOn)
	}()
	checkError(t, tg.Commit(), nil)
	checkError(t, <-aborted, nil)
	files{"c": "new"}.check(t)
}

func TestAbortFails(t *testing.T) {
	workdir(t)
	tg := mustOpen(t, Spec{Path: "c"}, failing("unlink", 0, unix.EPERM))
	checkError(t, tg.Abort(), &Error{OpDiscard, "./.c.tmp", "", unix.EPERM})
	checkError(t, tg.Abort(), nil)
}

func TestFromFD(t *testing.T) {
	workdir(t)
	f, err := os.Create("f")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	f.WriteString("before ")
	for _, sync := range []bool{false, true} {
		tg := FromFD(int(f.Fd()), sync)
		if tg.FD() != int(f.Fd()) {
			t.Errorf("FD %d, want %d", tg.FD(), f.Fd())
		}
		mustWrite(t, tg, "new ")
		checkError(t, tg.Commit(), nil)
		tg = FromFD(int(f.Fd()), sync)
		mustWrite(t, tg, "aborted ")
		checkError(t, tg.Abort(), nil)
	}
	if _, err := f.WriteString("after"); err != nil {
		t.Errorf("the descriptor was closed: %v", err)
	}
	files{"f": "before new aborted new aborted after"}.check(t)

	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	tg := FromFD(int(w.Fd()), true)
	mustWrite(t, tg, "new")
	checkError(t, tg.Commit(), nil)

	tg = fromFD(int(f.Fd()), true, failing("fsync", 1, unix.EIO))
	mustWrite(t, tg, "")
	checkError(t, tg.Commit(), &Error{OpSync, "", "", unix.EIO})

	var calls []string
	tg = fromFD(int(f.Fd()), false, tracing(&calls))
	mustWrite(t, tg, "")
	checkError(t, tg.Commit(), nil)
	if len(calls) != 0 {
		t.Errorf("needless calls %q", calls)
	}

	tg = FromFD(1<<20, true)
	if err := errors.Join(tg.Begin(), tg.Commit()); err == nil || !strings.Contains(err.Error(), "bad file descriptor") {
		t.Errorf("bad descriptor: %v", err)
	}
}
