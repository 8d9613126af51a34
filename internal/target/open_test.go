package target

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"blcr-cli/test/harness"
)

var policies = []Policy{Atomic, Backup, Clobber, NoClobber}

func TestSave(t *testing.T) {
	workdir(t)
	for _, sync := range []bool{false, true} {
		for _, tt := range []struct {
			spec   Spec
			before files
			after  files
			err    *Error
		}{
			{Spec{Policy: Atomic}, files{}, files{"c": "new"}, nil},
			{Spec{Policy: Atomic}, files{"c": "old"}, files{"c": "new"}, nil},
			{Spec{Policy: Backup}, files{}, files{"c": "new"}, nil},
			{Spec{Policy: Backup}, files{"c": "old"}, files{"c": "new", "c.~1~": "old"}, nil},
			{Spec{Policy: Clobber}, files{}, files{"c": "new"}, nil},
			{Spec{Policy: Clobber}, files{"c": "old and longer"}, files{"c": "new"}, nil},
			{Spec{Policy: NoClobber}, files{}, files{"c": "new"}, nil},
			{Spec{Policy: NoClobber}, files{"c": "old"}, files{"c": "old"}, &Error{OpOpen, "c", "", unix.EEXIST}},
			{Spec{Policy: NoClobber}, files{"c": "-> x"}, files{"c": "-> x"}, &Error{OpOpen, "c", "", unix.EEXIST}},
		} {
			empty(t)
			tt.before.create(t)
			tt.spec.Path, tt.spec.Sync = "c", sync
			checkError(t, save(tt.spec, &system{}, "new"), tt.err)
			tt.after.check(t)
		}
	}
}

// A second run over what the first one left, which only root may write.
func TestSaveAgain(t *testing.T) {
	workdir(t)
	for _, policy := range []Policy{Atomic, Backup, Clobber} {
		empty(t)
		spec := Spec{Path: "c", Policy: policy, Sync: true}
		for _, content := range []string{"one", "two", "three"} {
			checkError(t, save(spec, &system{}, content), nil)
		}
		want := files{"c": "three"}
		if policy == Backup {
			want["c.~1~"], want["c.~2~"] = "one", "two"
		}
		want.check(t)
	}
}

func TestModes(t *testing.T) {
	workdir(t)
	for _, umask := range []int{0, 0o022, 0o077, 0o400, 0o777} {
		for _, policy := range policies {
			empty(t)
			old := unix.Umask(umask)
			err := save(Spec{Path: "c", Policy: policy}, &system{}, "")
			unix.Umask(old)
			if err != nil {
				t.Fatal(err)
			}
			fi, err := os.Stat("c")
			if err != nil {
				t.Fatal(err)
			}
			if want := os.FileMode(0o400 &^ umask); fi.Mode() != want {
				t.Errorf("policy %d, umask %#o: mode %v, want %v", policy, umask, fi.Mode(), want)
			}
		}
	}
}

func TestFlags(t *testing.T) {
	workdir(t)
	for _, policy := range policies {
		empty(t)
		tg := mustOpen(t, Spec{Path: "c", Policy: policy}, &system{})
		flags, err := unix.FcntlInt(uintptr(tg.FD()), unix.F_GETFL, 0)
		if err != nil {
			t.Fatal(err)
		}
		const want = unix.O_WRONLY | unix.O_NONBLOCK
		if flags&(unix.O_ACCMODE|unix.O_NONBLOCK|unix.O_APPEND) != want {
			t.Errorf("policy %d: flags %#x", policy, flags)
		}
		if cloexec, _ := unix.FcntlInt(uintptr(tg.FD()), unix.F_GETFD, 0); cloexec != unix.FD_CLOEXEC {
			t.Errorf("policy %d: not close-on-exec", policy)
		}
		tg.Abort()
		if fd := tg.FD(); fd != -1 {
			t.Errorf("policy %d: descriptor %d after Abort", policy, fd)
		}
	}
}

// The calls of ordinary runs. Each is one that can fail, so none is added
// without need.
func TestCalls(t *testing.T) {
	workdir(t)
	for _, tt := range []struct {
		spec   Spec
		before files
		want   []string
	}{
		{
			Spec{Policy: Atomic, Sync: true}, files{},
			[]string{
				"lstat c", "open ./.c.tmp", "flock", "fstat",
				"fsync", "open .", "lstat c", "lstat ./.c.old", "unlink ./.c.old", "link c ./.c.old",
				"lstat ./.c.tmp", "rename ./.c.tmp c", "fsync", "close", "close",
			},
		},
		{
			Spec{Policy: Atomic, Sync: true}, files{"c": "old"},
			[]string{
				"lstat c", "open ./.c.tmp", "flock", "fstat",
				"fsync", "open .", "lstat c", "unlink ./.c.old", "link c ./.c.old",
				"lstat ./.c.tmp", "rename ./.c.tmp c", "fsync", "unlink ./.c.old", "close", "close",
			},
		},
		{
			Spec{Policy: Atomic}, files{"c": "old"},
			[]string{
				"lstat c", "open ./.c.tmp", "flock", "fstat",
				"dup", "close", "lstat c", "unlink ./.c.old",
				"lstat ./.c.tmp", "rename ./.c.tmp c", "close",
			},
		},
		{
			Spec{Policy: Backup, Sync: true}, files{"c": "old"},
			[]string{
				"lstat c", "open ./.c.tmp", "flock", "fstat",
				"fsync", "open .", "lstat c", "unlink ./.c.old", "stat c", "link c c.~1~", "fsync",
				"lstat ./.c.tmp", "rename ./.c.tmp c", "fsync", "close", "close",
			},
		},
		{
			Spec{Policy: Backup, BackupNamed: true, BackupName: "b"}, files{"c": "old", "b": "older"},
			[]string{
				"lstat c", "open ./.c.tmp", "flock", "fstat",
				"dup", "close", "lstat c", "unlink ./.c.old", "stat c",
				"link c b", "lstat c", "lstat b",
				"unlink ./.b.bak", "link c ./.b.bak", "rename ./.b.bak b",
				"lstat ./.c.tmp", "rename ./.c.tmp c", "close",
			},
		},
		{
			Spec{Policy: Clobber, Sync: true}, files{},
			[]string{"access c", "open c", "fstat", "fsync", "open .", "fsync", "close", "close"},
		},
		{
			Spec{Policy: Clobber, Sync: true}, files{"c": "old"},
			[]string{"access c", "open c", "fstat", "truncate", "fsync", "open .", "fsync", "close", "close"},
		},
		{
			Spec{Policy: NoClobber}, files{},
			[]string{"open c", "fstat", "dup", "close", "close"},
		},
	} {
		empty(t)
		tt.before.create(t)
		tt.spec.Path = "c"
		var got []string
		checkError(t, save(tt.spec, tracing(&got), "new"), nil)
		if !slices.Equal(got, tt.want) {
			t.Errorf("%+v over %v:\ngot  %q\nwant %q", tt.spec, tt.before, got, tt.want)
		}
	}
}

func TestOpenErrors(t *testing.T) {
	workdir(t)
	files{"file": "", "dir": "dir"}.create(t)
	for _, tt := range []struct {
		path   string
		policy Policy
		want   *Error
	}{
		{"nodir/c", Atomic, &Error{OpOpen, "nodir/.c.tmp", "", unix.ENOENT}},
		{"nodir/c", Backup, &Error{OpOpen, "nodir/.c.tmp", "", unix.ENOENT}},
		{"nodir/c", Clobber, &Error{OpOpen, "nodir/c", "", unix.ENOENT}},
		{"nodir/c", NoClobber, &Error{OpOpen, "nodir/c", "", unix.ENOENT}},
		{"file/c", Atomic, &Error{OpOpen, "file/.c.tmp", "", unix.ENOTDIR}},
		{"file/c", Clobber, &Error{OpRemove, "file/c", "", unix.ENOTDIR}},
		{"nodir/", Atomic, &Error{OpRename, "./.nodir.tmp", "nodir/", unix.ENOTDIR}},
		{"nodir/x/", Atomic, &Error{OpOpen, "nodir/.x.tmp", "", unix.ENOENT}},
		{"/proc/c", NoClobber, &Error{OpOpen, "/proc/c", "", unix.ENOENT}},
		{"dir", Clobber, &Error{OpOpen, "dir", "", unix.EISDIR}},
		{"dir", NoClobber, &Error{OpOpen, "dir", "", unix.EEXIST}},
		{"c", Policy(17), &Error{OpOpen, "c", "", unix.EINVAL}},
		{"/dev/null", Clobber, &Error{OpType, "/dev/null", "", unix.EINVAL}},
		{"/dev/null", Atomic, &Error{OpType, "/dev/null", "", unix.EINVAL}},
		{"/dev/null", Backup, &Error{OpType, "/dev/null", "", unix.EINVAL}},
	} {
		_, err := Open(context.Background(), Spec{Path: tt.path, Policy: tt.policy})
		checkError(t, err, tt.want)
	}
	files{"file": "", "dir": "dir"}.check(t)
	if _, err := os.Lstat("/dev/.null.tmp"); err == nil {
		t.Error("a temporary file was made in /dev")
	}
}

// What Open refuses is what rename(2) would refuse, with the same errno.
func TestRefusesAsRename(t *testing.T) {
	workdir(t)
	files{"file": "", "dir": "dir", "dirlink": "-> dir", "filelink": "-> file"}.create(t)
	want := listing(t)
	for _, path := range []string{
		"", ".", "..", "./", "../", "dir", "./dir", "dir/", "dir//", "dir/.", "dir/..",
		"none/", "file/", "dirlink/", "filelink/",
		"dir/none", "file", "none", "dirlink", "filelink",
	} {
		tg, err := Open(context.Background(), Spec{Path: path})
		if err == nil {
			tg.Abort()
		}
		want.check(t)

		files{"tmp": ""}.create(t)
		renameErr := unix.Rename("tmp", path)
		if renameErr == nil { // put everything back
			os.Remove(path)
			empty(t)
			want.create(t)
			if err != nil {
				t.Errorf("%q: refused with %v", path, err)
			}
			continue
		}
		os.Remove("tmp")
		checkError(t, err, &Error{OpRename, Spec{Path: path}.Names().Write, path, errno(renameErr)})
	}

	if got := renameRefusal("//"); got != unix.EBUSY { // here, EXDEV is found first
		t.Errorf("the root is refused with %v", got)
	}

	// Where nothing can be created, that is what there is to say.
	_, err := Open(context.Background(), Spec{Path: "dir/none/"})
	checkError(t, err, &Error{OpRename, "dir/.none.tmp", "dir/none/", unix.ENOTDIR})
	_, err = openFile(Spec{Path: "dir/none/"}, failing("access dir", 1, unix.EACCES))
	checkError(t, err, &Error{OpOpen, "dir/.none.tmp", "", unix.EACCES})
}

// Whatever else has the name is replaced itself; nothing is followed.
func TestReplacesSpecialFiles(t *testing.T) {
	workdir(t)
	for _, policy := range []Policy{Atomic, Backup} {
		for _, old := range []string{"fifo", "socket", "-> victim", "-> nowhere", "-> dir"} {
			empty(t)
			files{"victim": "precious", "dir": "dir", "c": old}.create(t)
			want := files{"victim": "precious", "dir": "dir", "c": "new"}
			if policy == Backup && old != "-> nowhere" {
				want["c.~1~"] = old
			}
			checkError(t, save(Spec{Path: "c", Policy: policy, Sync: true}, &system{}, "new"), nil)
			want.check(t)
		}
	}
}

func TestStaleTemp(t *testing.T) {
	workdir(t)
	for _, stale := range []string{"half", "-> victim", "-> nowhere", "fifo", "socket"} {
		for _, perm := range []os.FileMode{0o400, 0o600, 0} {
			empty(t)
			files{"victim": "precious", ".c.tmp": stale}.create(t)
			if stale == "half" {
				os.Chmod(".c.tmp", perm)
			}
			var calls []string
			checkError(t, save(Spec{Path: "c"}, tracing(&calls), "new"), nil)
			files{"victim": "precious", "c": "new"}.check(t)
			// Even a reader would wake up who waits at a FIFO.
			if looked := slices.Index(calls[2:], "open ./.c.tmp") == 1; looked != (stale == "half") {
				t.Errorf("%s: calls %q", stale, calls)
			}
		}
	}

	empty(t)
	files{"c": "old", ".c.tmp": "dir"}.create(t)
	checkError(t, save(Spec{Path: "c"}, &system{}, "new"), &Error{OpOpen, "./.c.tmp", "", unix.EISDIR})
	files{"c": "old", ".c.tmp": "dir"}.check(t)
}

// A failure while a stale file is looked at is not taken for permission to
// remove it.
func TestStaleTempFailures(t *testing.T) {
	workdir(t)
	for _, call := range []string{"lstat ./.c.tmp", "open ./.c.tmp", "fstat", "unlink"} {
		empty(t)
		files{".c.tmp": "half"}.create(t)
		sys := failing(call, 1, unix.EMFILE)
		if strings.HasPrefix(call, "open") {
			sys = failing(call, 2, unix.EMFILE)
		}
		_, err := openFile(Spec{Path: "c"}, sys)
		checkError(t, err, &Error{OpOpen, "./.c.tmp", "", unix.EMFILE})
		files{".c.tmp": "half"}.check(t)
	}
}

func TestTempIsLocked(t *testing.T) {
	workdir(t)
	busy := &Error{OpOpen, "./.c.tmp", "", unix.EBUSY}
	for _, policy := range []Policy{Atomic, Backup} {
		first := mustOpen(t, Spec{Path: "c"}, &system{})
		mustWrite(t, first, "first")
		checkError(t, save(Spec{Path: "c", Policy: policy}, &system{}, "second"), busy)
		// NFS locks exclusively only what is open for writing.
		nfs := &system{}
		locks := 0
		nfs.hook = func(call string, _ ...string) error {
			if call == "flock" {
				if locks++; locks == 1 {
					return unix.EBADF
				}
			}
			return nil
		}
		checkError(t, save(Spec{Path: "c", Policy: policy}, nfs, "second"), busy)
		files{".c.tmp": "first"}.check(t)
		checkError(t, first.Commit(), nil)
		files{"c": "first"}.check(t)
		empty(t)
	}
}

func TestKilledRun(t *testing.T) {
	workdir(t)
	files{"c": "old"}.create(t)
	cmd := asRole("hold")
	cmd.Env = append(cmd.Env, "TARGET_TEST_PATH=c")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, _ := bufio.NewReader(out).ReadString('\n')
	if line != "open\n" {
		t.Errorf("the other process says %q", line)
	}
	checkError(t, save(Spec{Path: "c"}, &system{}, "new"), &Error{OpOpen, "./.c.tmp", "", unix.EBUSY})
	cmd.Process.Kill()
	cmd.Wait()
	files{"c": "old", ".c.tmp": "half a con"}.check(t)
	checkError(t, save(Spec{Path: "c"}, &system{}, "new"), nil)
	files{"c": "new"}.check(t)
}

func TestLockFailures(t *testing.T) {
	workdir(t)
	for _, errno := range []syscall.Errno{unix.ENOLCK, unix.EOPNOTSUPP, unix.ENOSYS, unix.EINVAL} {
		empty(t)
		files{".c.tmp": "half"}.create(t)
		checkError(t, save(Spec{Path: "c"}, failing("flock", 0, errno), "new"), nil)
		files{"c": "new"}.check(t)
	}
	empty(t)
	err := save(Spec{Path: "c"}, failing("flock", 1, unix.EIO), "new")
	checkError(t, err, &Error{OpOpen, "./.c.tmp", "", unix.EIO})
	files{}.check(t)
}

// Another run finds the temporary in the moment before it is locked, and takes
// it for a stale one.
func TestTempStolenBeforeLock(t *testing.T) {
	workdir(t)
	for _, how := range []string{"removed", "replaced", "being looked at"} {
		empty(t)
		var other int
		first := true
		sys := &system{}
		sys.hook = func(call string, args ...string) error {
			if call != "flock" || !first {
				return nil
			}
			first = false
			switch how {
			case "removed":
				os.Remove(".c.tmp")
			case "replaced":
				os.Remove(".c.tmp")
				files{".c.tmp": "stale again"}.create(t)
			case "being looked at":
				other, _ = unix.Open(".c.tmp", unix.O_RDONLY, 0)
				unix.Flock(other, unix.LOCK_EX)
			}
			return nil
		}
		err := save(Spec{Path: "c"}, sys, "new")
		if how == "being looked at" {
			checkError(t, err, &Error{OpOpen, "./.c.tmp", "", unix.EBUSY})
			unix.Close(other)
			continue
		}
		checkError(t, err, nil)
		files{"c": "new"}.check(t)
	}
}

// A stale file that is replaced while it is probed is not the one to remove.
func TestStaleTempReplacedDuringProbe(t *testing.T) {
	workdir(t)
	files{".c.tmp": "stale"}.create(t)
	var other *file
	sys := &system{}
	sys.hook = func(call string, _ ...string) error {
		if call == "flock" && other == nil {
			os.Remove(".c.tmp")
			other = mustOpen(t, Spec{Path: "c"}, &system{})
			mustWrite(t, other, "other")
		}
		return nil
	}
	checkError(t, save(Spec{Path: "c"}, sys, "new"), &Error{OpOpen, "./.c.tmp", "", unix.EBUSY})
	checkError(t, other.Commit(), nil)
	files{"c": "other"}.check(t)
}

func TestConcurrentRuns(t *testing.T) {
	workdir(t)
	const runs, rounds = 8, 20
	for _, sync := range []bool{false, true} {
		concurrentRuns(t, runs, rounds, sync)
		if got := listing(t); len(got) != 1 || !strings.HasSuffix(got["c"], "complete") {
			t.Errorf("files are %q", got)
		}
	}
}

func concurrentRuns(t *testing.T, runs, rounds int, fsync bool) {
	t.Helper()
	var wg sync.WaitGroup
	done := make([]int, runs)
	for run := range runs {
		wg.Go(func() {
			for round := range rounds {
				content := fmt.Sprintf("%d of %d is complete", round, run)
				err := save(Spec{Path: "c", Sync: fsync}, &system{}, content)
				switch {
				case err == nil:
					done[run]++
				case !errors.Is(err, unix.EBUSY) || err.(*Error).Op != OpOpen:
					t.Errorf("run %d: %v", run, err)
				}
			}
		})
	}
	wg.Wait()
	if slices.Max(done) == 0 {
		t.Error("no run succeeded")
	}
}

func TestUnwritableDirectory(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may write everywhere; TestUnprivileged runs this test")
	}
	workdir(t)
	files{"c": "old", "w": "old", "d": "dir"}.create(t)
	os.Chmod("c", 0o400)
	os.Chmod("d", 0o500)
	os.Chmod(".", 0o500)
	for _, tt := range []struct {
		path   string
		policy Policy
		want   *Error
	}{
		{"c", Atomic, &Error{OpOpen, "./.c.tmp", "", unix.EACCES}},
		{"c", Backup, &Error{OpOpen, "./.c.tmp", "", unix.EACCES}},
		{"c", Clobber, &Error{OpRemove, "c", "", unix.EACCES}},
		{"d", Clobber, &Error{OpRemove, "d", "", unix.EACCES}},
		{"d/", Clobber, &Error{OpRemove, "d/", "", unix.EISDIR}},
		{"/", Clobber, &Error{OpRemove, "/", "", unix.EISDIR}},
		{"w", Clobber, nil},
		{"x", Clobber, &Error{OpOpen, "x", "", unix.EACCES}},
		{"x", NoClobber, &Error{OpOpen, "x", "", unix.EACCES}},
	} {
		if tt.want != nil {
			checkError(t, Examine(Spec{Path: tt.path, Policy: tt.policy}), tt.want)
		}
		checkError(t, save(Spec{Path: tt.path, Policy: tt.policy}, &system{}, "new"), tt.want)
	}
	os.Chmod(".", 0o700)
	checkError(t, save(Spec{Path: "d", Policy: Clobber}, &system{}, "new"), &Error{OpRemove, "d", "", unix.EISDIR})
	files{"c": "old", "w": "new", "d": "dir"}.check(t)
}

// A file system does not answer: Open returns when it is told to, and what comes of it
// in the end is removed.
func TestOpenCanceled(t *testing.T) {
	workdir(t)
	for _, late := range []bool{false, true} {
		for name, open := range map[string]func(*system) (Destination, error){
			"file":      func(sys *system) (Destination, error) { return openFile(Spec{Path: "c"}, sys) },
			"directory": func(sys *system) (Destination, error) { return openDir(Spec{Path: "c"}, "must", isImage, sys) },
		} {
			ctx, cancel := context.WithCancel(context.Background())
			answer := make(chan bool)
			sys := &system{}
			sys.hook = func(call string, _ ...string) error {
				if call == "flock" {
					cancel()
					<-answer
				}
				return nil
			}
			if !late {
				context.AfterFunc(ctx, func() { close(answer) })
			}
			dest, err := interruptible(ctx, Spec{Path: "c"}, func() (Destination, error) { return open(sys) })
			if dest != nil {
				t.Errorf("%s: a destination", name)
			}
			checkError(t, err, &Error{OpOpen, "c", "", unix.ECANCELED})
			if late {
				if len(listing(t)) != 1 {
					t.Errorf("%s: files are %q", name, listing(t))
				}
				close(answer)
				harness.Poll(t, "nothing is left", func() bool {
					left, err := os.ReadDir(".")
					return err == nil && len(left) == 0
				})
			}
			files{}.check(t)
		}
	}
	// What can be opened at once is.
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	d, err := Open(ctx, Spec{Path: "c"})
	if err != nil {
		t.Fatal(err)
	}
	checkError(t, d.Abort(), nil)
}
