package target

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// A directory of images has a file "must", and files that end in ".img".
func isImage(name string) bool { return strings.HasSuffix(name, ".img") || name == "must" }

// tree is files of all levels below the working directory: names, and contents.
// A directory's is "dir" if it is empty, else it is not listed.
type tree map[string]string

func (f tree) create(t *testing.T) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(f)) {
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		files{name: f[name]}.create(t)
	}
}

func forest(t *testing.T) tree {
	t.Helper()
	got := tree{}
	err := filepath.WalkDir(".", func(path string, e fs.DirEntry, err error) error {
		if err != nil || path == "." {
			return err
		}
		switch e.Type() {
		case fs.ModeDir:
			if inside, err := os.ReadDir(path); err == nil && len(inside) == 0 {
				got[path] = "dir"
			}
		case fs.ModeSymlink:
			to, _ := os.Readlink(path)
			got[path] = "-> " + to
		case 0:
			b, _ := os.ReadFile(path)
			got[path] = string(b)
		default:
			got[path] = e.Type().String()
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func (f tree) check(t *testing.T, what string) {
	t.Helper()
	if got := forest(t); !maps.Equal(f, got) {
		t.Errorf("%s: files are %q, want %q", what, got, f)
	}
}

func mustOpenDir(t *testing.T, spec Spec, sys *system) *dir {
	t.Helper()
	d, err := openDir(spec, "must", isImage, sys)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Abort() })
	return d
}

func fill(d *dir, content string) error {
	for _, name := range []string{"must", "pages-1.img"} {
		fd, err := unix.Openat(d.FD(), name, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		_, err = unix.Write(fd, []byte(content))
		unix.Close(fd)
		if err != nil {
			return err
		}
	}
	return nil
}

// saveDir goes the whole way.
func saveDir(spec Spec, sys *system, content string) error {
	d, err := openDir(spec, "must", isImage, sys)
	if err != nil {
		return err
	}
	defer d.Abort()
	if err := d.Begin(); err != nil {
		return err
	}
	if err := fill(d, content); err != nil {
		return err
	}
	return d.Commit()
}

// dirCase is one way to save "new" as d.
type dirCase struct {
	spec   Spec
	before tree
	after  tree
	err    *Error
}

func dirCases() []dirCase {
	fresh := tree{"d/must": "new", "d/pages-1.img": "new"}
	with := func(t tree, more ...string) tree {
		t = maps.Clone(t)
		for i := 0; i < len(more); i += 2 {
			t[more[i]] = more[i+1]
		}
		return t
	}
	old := tree{"d/must": "old", "d/x.img": "old"}
	named := Spec{Policy: Backup, BackupName: "b", BackupNamed: true}
	refused := func(before tree, spec Spec, err *Error) dirCase { return dirCase{spec, before, before, err} }
	foreign := tree{"d/must": "old", "d/letter": "to somebody"}
	cases := []dirCase{
		{Spec{}, tree{}, fresh, nil},
		{Spec{}, tree{"d": "dir"}, fresh, nil},
		{Spec{}, old, fresh, nil},
		{Spec{}, with(old, "d/parent.img", "-> /"), fresh, nil},
		{Spec{}, with(old, ".d.tmp/must", "stale", ".d.tmp/x.img", "half", ".d.old/x.img", "y"), with(fresh, ".d.old/x.img", "y"), nil},
		{Spec{Policy: Clobber}, old, fresh, nil},
		{Spec{Policy: Clobber}, tree{}, fresh, nil},
		{Spec{Policy: NoClobber}, tree{}, fresh, nil},
		{Spec{Policy: Backup}, tree{}, fresh, nil},
		{Spec{Policy: Backup}, tree{"d": "dir"}, fresh, nil},
		{Spec{Policy: Backup}, old, with(fresh, "d.~1~/must", "old", "d.~1~/x.img", "old"), nil},
		{Spec{Policy: Backup}, with(old, "d.~1~/x", "y", "d.~2~", "file"), with(fresh, "d.~1~/x", "y", "d.~2~", "file", "d.~3~/must", "old", "d.~3~/x.img", "old"), nil},
		{named, old, with(fresh, "b/must", "old", "b/x.img", "old"), nil},
		{named, with(old, "b", "dir"), with(fresh, "b/must", "old", "b/x.img", "old"), nil},
		{named, with(old, "b/must", "older"), with(fresh, "b/must", "old", "b/x.img", "old"), nil},
		{Spec{Policy: Backup, BackupName: "./d/", BackupNamed: true}, old, fresh, nil},

		refused(old, Spec{Policy: NoClobber}, &Error{OpOpen, "d", "", unix.EEXIST}),
		refused(tree{"d": "dir"}, Spec{Policy: NoClobber}, &Error{OpOpen, "d", "", unix.EEXIST}),
		refused(tree{"d": "-> nowhere"}, Spec{Policy: NoClobber}, &Error{OpOpen, "d", "", unix.EEXIST}),
		refused(tree{"d": "file"}, Spec{}, &Error{OpOpen, "d", "", unix.ENOTDIR}),
		refused(tree{"d": "-> e", "e": "dir"}, Spec{}, &Error{OpOpen, "d", "", unix.ENOTDIR}),
		refused(foreign, Spec{}, &Error{OpOpen, "d", "", unix.ENOTEMPTY}),
		refused(foreign, Spec{Policy: Backup}, &Error{OpOpen, "d", "", unix.ENOTEMPTY}),
		refused(foreign, Spec{Policy: Clobber}, &Error{OpOpen, "d", "", unix.ENOTEMPTY}),
		refused(tree{"d/x.img": "no must"}, Spec{}, &Error{OpOpen, "d", "", unix.ENOTEMPTY}),
		refused(with(old, "d/sub.img/x", "y"), Spec{}, &Error{OpOpen, "d", "", unix.ENOTEMPTY}),
		refused(with(old, "b", "file"), named, &Error{OpRename, "d", "b", unix.ENOTDIR}),
		refused(with(old, "b/letter", "x"), named, &Error{OpRename, "d", "b", unix.ENOTEMPTY}),
		refused(old, Spec{Policy: Backup, BackupNamed: true}, &Error{OpRename, "d", "", unix.ENOENT}),
		refused(tree{".d.tmp": "file"}, Spec{}, &Error{OpOpen, "./.d.tmp", "", unix.EEXIST}),
		refused(tree{".d.tmp": "-> e", "e/must": "x"}, Spec{}, &Error{OpOpen, "./.d.tmp", "", unix.EEXIST}),
		refused(tree{".d.tmp/sub/x": "y"}, Spec{}, &Error{OpOpen, "./.d.tmp", "", unix.ENOTEMPTY}),
		refused(tree{".d.tmp/sub.img/x": "y"}, Spec{}, &Error{OpOpen, "./.d.tmp", "", unix.ENOTEMPTY}),
		refused(with(old, ".d.tmp/must", "x", ".d.tmp/letter", "to somebody"), Spec{}, &Error{OpOpen, "./.d.tmp", "", unix.ENOTEMPTY}),
	}
	for i := range cases {
		cases[i].spec.Path = "d"
		synced := cases[i]
		synced.spec.Sync = true
		cases = append(cases, synced)
	}
	return cases
}

func TestDir(t *testing.T) {
	workdir(t)
	for _, tt := range dirCases() {
		for name, sys := range map[string]*system{"exchange": {}, "plain rename": failing("renameat2", 0, unix.EINVAL)} {
			empty(t)
			tt.before.create(t)
			checkError(t, saveDir(tt.spec, sys, "new"), tt.err)
			after := maps.Clone(tt.after)
			if name == "plain rename" && tt.err == nil && tt.before["d/must"] != "" {
				delete(after, ".d.old/x.img") // a stale one that was needed
			}
			after.check(t, fmt.Sprintf("%s: %+v over %q", name, tt.spec, tt.before))
		}
	}
}

// TestDirFaults makes each system call fail, one at a time: what was there is
// there again, or the new one is, and nothing else.
func TestDirFaults(t *testing.T) {
	workdir(t)
	for _, tt := range dirCases() {
		if tt.err != nil {
			continue
		}
		for _, plain := range []bool{false, true} {
			for nth := 1; ; nth++ {
				n, failed := 0, ""
				sys := &system{hook: func(call string, args ...string) error {
					if n++; n == nth {
						failed = strings.Join(append([]string{call}, args...), " ")
						return unix.EIO
					}
					if plain && call == "renameat2" {
						return unix.ENOSYS
					}
					return nil
				}}
				empty(t)
				tt.before.create(t)
				err := saveDir(tt.spec, sys, "new")
				if failed == "" {
					break
				}
				got := forest(t)
				// Stale ones may have been removed, or not yet.
				maps.DeleteFunc(got, func(name, content string) bool {
					return strings.HasPrefix(name, ".d.old/") || tt.before[name] == content && strings.HasPrefix(name, ".d.tmp/")
				})
				want := maps.Clone(tt.before)
				if err == nil {
					want = maps.Clone(tt.after)
				}
				maps.DeleteFunc(want, func(name, _ string) bool { return strings.HasPrefix(name, ".d.") })
				if err == nil {
					// What was replaced may be left for the next run.
					maps.DeleteFunc(got, func(name, _ string) bool { return strings.HasPrefix(name, ".d.tmp") })
				}
				if !maps.Equal(got, want) {
					t.Errorf("%+v over %q, %q fails (plain %t), error %v: files are %q", tt.spec, tt.before, failed, plain, err, got)
				}
			}
		}
	}
}

func TestDirNames(t *testing.T) {
	for path, want := range map[string]Names{
		"d":        {"./.d.tmp", ".", "d"},
		"d/":       {"./.d.tmp", ".", "d"},
		"/a/b//":   {"/a/.b.tmp", "/a", "/a/b"},
		"../ckpts": {"../.ckpts.tmp", "..", "../ckpts"},
	} {
		for _, policy := range []Policy{Atomic, Backup, Clobber, NoClobber} {
			if got := (Spec{Path: path, Policy: policy}).DirNames(); got != want {
				t.Errorf("%s: %q, want %q", path, got, want)
			}
		}
	}
}

func TestDirImpossible(t *testing.T) {
	workdir(t)
	for path, want := range map[string]*Error{
		"":      {OpOpen, "", "", unix.ENOENT},
		".":     {OpOpen, ".", "", unix.EBUSY},
		"x/..":  {OpOpen, "x/..", "", unix.EBUSY},
		"/":     {OpOpen, "/", "", unix.EBUSY},
		"no/d":  {OpOpen, "no/.d.tmp", "", unix.ENOENT},
		"no/d/": {OpOpen, "no/.d.tmp", "", unix.ENOENT},
	} {
		for _, policy := range []Policy{Atomic, NoClobber} {
			checkError(t, saveDir(Spec{Path: path, Policy: policy}, &system{}, "new"), want)
		}
	}
	tree{}.check(t, "nothing")
	if err := saveDir(Spec{Path: "d//", Policy: Backup, Sync: true}, &system{}, "1"); err != nil {
		t.Error(err)
	}
	if err := saveDir(Spec{Path: "d/", Policy: Backup, Sync: true}, &system{}, "2"); err != nil {
		t.Error(err)
	}
	tree{"d/must": "2", "d/pages-1.img": "2", "d.~1~/must": "1", "d.~1~/pages-1.img": "1"}.check(t, "slashes")
}

func TestDirMode(t *testing.T) {
	workdir(t)
	checkError(t, saveDir(Spec{Path: "d"}, &system{}, "new"), nil)
	st, err := os.Stat("d")
	if err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", st, err)
	}
}

func TestDirAbort(t *testing.T) {
	workdir(t)
	before := tree{"d/must": "old"}
	before.create(t)
	d := mustOpenDir(t, Spec{Path: "d"}, &system{})
	checkError(t, d.Commit(), &Error{OpWrite, "./.d.tmp", "", unix.EINVAL})
	before.check(t, "Commit without Begin")

	d = mustOpenDir(t, Spec{Path: "d"}, &system{})
	checkError(t, d.Begin(), nil)
	if err := fill(d, "half"); err != nil {
		t.Fatal(err)
	}
	dup, err := unix.Dup(d.FD())
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(dup)
	checkError(t, d.Abort(), nil)
	before.check(t, "Abort")
	if d.FD() != -1 {
		t.Error("FD after Abort")
	}
	checkError(t, d.Abort(), nil)
	checkError(t, d.Begin(), &Error{OpWrite, "./.d.tmp", "", unix.ECANCELED})
	checkError(t, d.Commit(), &Error{OpWrite, "./.d.tmp", "", unix.ECANCELED})
	if _, err := unix.Openat(dup, "more.img", unix.O_CREAT|unix.O_WRONLY, 0o600); err != unix.ENOENT {
		t.Errorf("who goes on filling it gets %v", err)
	}
}

// Somebody fills the directory while it is given up.
func TestDirAbortBusy(t *testing.T) {
	workdir(t)
	d := mustOpenDir(t, Spec{Path: "d"}, &system{})
	dup, err := unix.Dup(d.FD())
	if err != nil {
		t.Fatal(err)
	}
	started, ended := make(chan bool), make(chan bool)
	go func() {
		defer close(ended)
		for n := 0; ; n++ {
			fd, err := unix.Openat(dup, fmt.Sprint(n, ".img"), unix.O_CREAT|unix.O_WRONLY, 0o600)
			if err != nil {
				return
			}
			unix.Close(fd)
			if n == 100 {
				close(started)
			}
		}
	}()
	<-started
	checkError(t, d.Abort(), nil)
	<-ended
	unix.Close(dup)
	tree{}.check(t, "all")
}

func TestDirConcurrent(t *testing.T) {
	workdir(t)
	one := mustOpenDir(t, Spec{Path: "d"}, &system{})
	_, err := openDir(Spec{Path: "d"}, "must", isImage, &system{})
	checkError(t, err, &Error{OpOpen, "./.d.tmp", "", unix.EBUSY})
	_, err = openFile(Spec{Path: "d"}, &system{})
	checkError(t, err, &Error{OpOpen, "./.d.tmp", "", unix.EISDIR})
	checkError(t, one.Begin(), nil)
	if err := fill(one, "one"); err != nil {
		t.Fatal(err)
	}
	checkError(t, one.Commit(), nil)
	tree{"d/must": "one", "d/pages-1.img": "one"}.check(t, "one")
}

// What is at the name changes while the directory is filled.
func TestDirChanged(t *testing.T) {
	workdir(t)
	for _, tt := range []struct {
		policy         Policy
		before, change tree
		errno          syscall.Errno
	}{
		{Atomic, tree{}, tree{"d/letter": "x"}, unix.ENOTEMPTY},
		{Atomic, tree{}, tree{"d": "file"}, unix.ENOTDIR},
		{Atomic, tree{"d/must": "x"}, tree{"d/letter": "x"}, unix.ENOTEMPTY},
		{NoClobber, tree{}, tree{"d": "dir"}, unix.EEXIST},
		{NoClobber, tree{}, tree{"d/must": "x"}, unix.EEXIST},
		{NoClobber, tree{}, tree{"d": "file"}, unix.EEXIST},
	} {
		empty(t)
		tt.before.create(t)
		d := mustOpenDir(t, Spec{Path: "d", Policy: tt.policy}, &system{})
		d.Begin()
		if err := fill(d, "new"); err != nil {
			t.Fatal(err)
		}
		tt.change.create(t)
		checkError(t, d.Commit(), &Error{OpRename, "./.d.tmp", "d", tt.errno})
		want := maps.Clone(tt.before)
		maps.Copy(want, tt.change)
		want.check(t, fmt.Sprint(tt.policy))
	}

	// Another takes the hidden directory away.
	empty(t)
	d := mustOpenDir(t, Spec{Path: "d"}, &system{})
	d.Begin()
	os.Rename(".d.tmp", "elsewhere")
	checkError(t, d.Commit(), &Error{OpRename, "./.d.tmp", "d", unix.ENOENT})
	tree{"elsewhere": "dir"}.check(t, "taken away")
}

// A hidden directory that another user has made is not touched.
func TestDirForeignStale(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can make a directory of another user")
	}
	workdir(t)
	before := tree{".d.tmp/must": "x"}
	before.create(t)
	if err := os.Chown(".d.tmp", nobody, nobody); err != nil {
		t.Fatal(err)
	}
	checkError(t, saveDir(Spec{Path: "d"}, &system{}, "new"), &Error{OpOpen, "./.d.tmp", "", unix.EEXIST})
	before.check(t, "foreign")
}

func TestDirUnwritable(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may write everywhere; TestUnprivileged runs this test")
	}
	workdir(t)
	tree{"d/must": "x"}.create(t)
	os.Chmod("d", 0o500)
	checkError(t, saveDir(Spec{Path: "d"}, &system{}, "new"), &Error{OpOpen, "d", "", unix.EACCES})
	os.Chmod("d", 0o700)
	os.Chmod(".", 0o500)
	checkError(t, saveDir(Spec{Path: "d"}, &system{}, "new"), &Error{OpOpen, "./.d.tmp", "", unix.EACCES})
	os.Chmod(".", 0o700)
	tree{"d/must": "x"}.check(t, "unwritable")
}

// Only files that belong into such a directory are removed, whenever another one comes.
func TestDirOthersStay(t *testing.T) {
	workdir(t)
	letter := func(dir string) func() {
		return func() { os.WriteFile(dir+"/letter", []byte("to somebody"), 0o600) }
	}
	at := func(call string, nth int, do func()) *system {
		n := 0
		return &system{hook: func(name string, _ ...string) error {
			if name == call {
				if n++; n == nth {
					do()
				}
			}
			return nil
		}}
	}
	old := tree{"d/must": "old", "d/x.img": "old"}
	fresh := tree{"d/must": "new", "d/pages-1.img": "new"}
	with := func(t tree, name, content string) tree {
		t = maps.Clone(t)
		t[name] = content
		return t
	}
	spec := Spec{Path: "d", Sync: true}

	// Before the exchange, too late to be refused in time: it goes back.
	old.create(t)
	err := saveDir(spec, at("renameat2", 1, letter("d")), "new")
	checkError(t, err, &Error{OpRename, "./.d.tmp", "d", unix.ENOTEMPTY})
	with(old, "d/letter", "to somebody").check(t, "before the exchange")

	// After it, by a process that has the directory open: it stays, and the next run
	// does not remove it either.
	empty(t)
	old.create(t)
	err = saveDir(spec, at("fsync", 4, letter(".d.tmp")), "new")
	checkError(t, err, nil)
	both := with(fresh, ".d.tmp/letter", "to somebody")
	maps.Copy(both, tree{".d.tmp/must": "old", ".d.tmp/x.img": "old"})
	both.check(t, "after the exchange")
	checkError(t, saveDir(spec, &system{}, "newer"), &Error{OpOpen, "./.d.tmp", "", unix.ENOTEMPTY})
	both.check(t, "the next run")

	// While ours is filled.
	empty(t)
	old.create(t)
	d := mustOpenDir(t, spec, &system{})
	if err := fill(d, "new"); err != nil {
		t.Fatal(err)
	}
	letter(".d.tmp")()
	checkError(t, d.Abort(), &Error{OpDiscard, "./.d.tmp", "", unix.ENOTEMPTY})
	with(old, ".d.tmp/letter", "to somebody").check(t, "aborted")
}
