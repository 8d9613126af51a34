package target

import (
	"context"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// unwritable is a system on which even root may not write path.
func unwritable(path string) *system {
	return failing("access "+path, 0, unix.EACCES)
}

// Until Begin, the file that is there is exactly as it was, be it one that is
// written in place or one that is replaced; after Begin it is gone.
func TestClobberBegin(t *testing.T) {
	workdir(t)
	long := time.Unix(1000000000, 0)
	for name, sys := range map[string]*system{"in place": {}, "replaced": unwritable("c")} {
		empty(t)
		files{"c": "old"}.create(t)
		os.Chtimes("c", long, long)
		before, err := os.Stat("c")
		if err != nil {
			t.Fatal(err)
		}
		same := func() {
			t.Helper()
			after, err := os.Stat("c")
			if err != nil || !os.SameFile(before, after) || !after.ModTime().Equal(long) || after.Size() != 3 {
				t.Errorf("%s: changed to %v, %v", name, after, err)
			}
		}
		tg := mustOpen(t, Spec{Path: "c", Policy: Clobber}, sys)
		same()
		checkError(t, tg.Abort(), nil)
		same()
		files{"c": "old"}.check(t)

		tg = mustOpen(t, Spec{Path: "c", Policy: Clobber}, sys)
		checkError(t, tg.Begin(), nil)
		files{"c": ""}.check(t)
		checkError(t, tg.Begin(), nil)
		checkError(t, tg.Abort(), nil)
		files{}.check(t)
	}
}

func TestClobberCreated(t *testing.T) {
	workdir(t)
	for _, policy := range []Policy{Clobber, NoClobber} {
		for _, begin := range []bool{false, true} {
			tg := mustOpen(t, Spec{Path: "c", Policy: policy}, &system{})
			files{"c": ""}.check(t)
			if begin {
				mustWrite(t, tg, "half")
			}
			checkError(t, tg.Abort(), nil)
			files{}.check(t)
		}
	}
}

func TestClobberUnwritable(t *testing.T) {
	workdir(t)
	for _, tt := range []struct {
		before files
		after  files
		err    *Error
	}{
		{files{"c": "old"}, files{"c": "new"}, nil},
		{files{"c": "old", ".c.tmp": "stale"}, files{"c": "new"}, nil},
		{files{"c": "fifo"}, files{"c": "new"}, nil},
		{files{"c": "-> v", "v": "precious"}, files{"c": "new", "v": "precious"}, nil},
		{files{"c": "dir"}, files{"c": "dir"}, &Error{OpRemove, "c", "", unix.EISDIR}},
	} {
		empty(t)
		tt.before.create(t)
		checkError(t, save(Spec{Path: "c", Policy: Clobber, Sync: true}, unwritable("c"), "new"), tt.err)
		tt.after.check(t)
	}

	_, err := openFile(Spec{Path: "/dev/null", Policy: Clobber}, unwritable("/dev/null"))
	checkError(t, err, &Error{OpType, "/dev/null", "", unix.EINVAL})

	// The hidden file is another run's.
	empty(t)
	files{"c": "old"}.create(t)
	other := mustOpen(t, Spec{Path: "c"}, &system{})
	_, err = openFile(Spec{Path: "c", Policy: Clobber}, unwritable("c"))
	checkError(t, err, &Error{OpOpen, "./.c.tmp", "", unix.EBUSY})
	checkError(t, other.Abort(), nil)

	// The hidden file is gone when it is needed.
	tg := mustOpen(t, Spec{Path: "c", Policy: Clobber}, unwritable("c"))
	os.Remove(".c.tmp")
	checkError(t, tg.Begin(), &Error{OpRemove, "c", "", unix.ENOENT})
	checkError(t, tg.Abort(), nil)
	files{"c": "old"}.check(t)
}

// The same with a file that really may not be written.
func TestClobberReadOnlyFile(t *testing.T) {
	workdir(t)
	files{"c": "old"}.create(t)
	os.Chmod("c", 0o400)
	tg := mustOpen(t, Spec{Path: "c", Policy: Clobber}, &system{})
	mustWrite(t, tg, "new")
	checkError(t, tg.Commit(), nil)
	files{"c": "new"}.check(t)
}

func TestClobberLinks(t *testing.T) {
	workdir(t)

	// Our own link is followed, and the file behind it is what Abort removes.
	files{"v": "old", "c": "-> v"}.create(t)
	spec := Spec{Path: "c", Policy: Clobber, Sync: true}
	checkError(t, save(spec, &system{}, "new"), nil)
	files{"v": "new", "c": "-> v"}.check(t)
	tg := mustOpen(t, spec, writable())
	checkError(t, tg.Abort(), nil)
	files{"v": "new", "c": "-> v"}.check(t)
	tg = mustOpen(t, spec, writable())
	mustWrite(t, tg, "half")
	checkError(t, tg.Abort(), nil)
	files{"c": "-> v"}.check(t)

	// It may lead nowhere.
	tg = mustOpen(t, spec, &system{})
	files{"v": "", "c": "-> v"}.check(t)
	checkError(t, tg.Abort(), nil)
	files{"c": "-> v"}.check(t)
	checkError(t, save(spec, &system{}, "new"), nil)
	files{"v": "new", "c": "-> v"}.check(t)

	// A file that the kernel does not name is left alone.
	os.Chmod("v", 0o600)
	tg = mustOpen(t, spec, failing("readlink", 1, unix.ENOENT))
	mustWrite(t, tg, "half")
	checkError(t, tg.Abort(), nil)
	files{"v": "half", "c": "-> v"}.check(t)

	// The directory to sync is that of the file.
	empty(t)
	files{"d": "dir", "c": "-> d/v"}.create(t)
	_, err := saveStages(spec, failing("open .", 1, unix.EIO), "new")
	checkError(t, err, nil)

	empty(t)
	files{"c": "-> d", "d": "dir"}.create(t)
	_, err = Open(context.Background(), spec)
	checkError(t, err, &Error{OpOpen, "c", "", unix.EISDIR})

	empty(t)
	files{"c": "-> no/where"}.create(t)
	_, err = Open(context.Background(), spec)
	checkError(t, err, &Error{OpOpen, "c", "", unix.ENOENT})
}

// writable is a system where whoever asks may write: contexts have mode 0400.
func writable() *system {
	sys := &system{}
	sys.hook = func(call string, args ...string) error {
		if call == "access" {
			os.Chmod(args[0], 0o600)
		}
		return nil
	}
	return sys
}

func TestClobberForeignLink(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can make a symbolic link of another user")
	}
	workdir(t)
	files{"v": "precious", "c": "-> v"}.create(t)
	if err := os.Lchown("c", nobody, nobody); err != nil {
		t.Fatal(err)
	}
	_, err := Open(context.Background(), Spec{Path: "c", Policy: Clobber})
	checkError(t, err, &Error{OpOpen, "c", "", unix.ELOOP})
	os.Remove("v")
	_, err = Open(context.Background(), Spec{Path: "c", Policy: Clobber})
	checkError(t, err, &Error{OpOpen, "c", "", unix.ELOOP})
	files{"c": "-> v"}.check(t)
}

func TestClobberFIFO(t *testing.T) {
	workdir(t)
	files{"c": "fifo"}.create(t)
	spec := Spec{Path: "c", Policy: Clobber, Sync: true}
	_, err := Open(context.Background(), spec)
	checkError(t, err, &Error{OpOpen, "c", "", unix.ENXIO})

	r, err := unix.Open("c", unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(r)
	tg := mustOpen(t, spec, &system{})
	mustWrite(t, tg, "half")
	checkError(t, tg.Abort(), nil)
	files{"c": "fifo"}.check(t)

	checkError(t, save(spec, &system{}, "new"), nil)
	buf := make([]byte, 16)
	if n, _ := unix.Read(r, buf); string(buf[:n]) != "halfnew" {
		t.Errorf("the reader got %q", buf[:n])
	}
	files{"c": "fifo"}.check(t)
}

// The name changes between our looking at it and our opening it.
func TestClobberRaces(t *testing.T) {
	workdir(t)
	spec := Spec{Path: "c", Policy: Clobber}
	at := func(call string, times int, do func()) *system {
		sys := &system{}
		sys.hook = func(name string, _ ...string) error {
			if name == call && times > 0 {
				times--
				do()
			}
			return nil
		}
		return sys
	}

	files{"c": "old"}.create(t)
	checkError(t, save(spec, at("open", 1, func() { os.Remove("c") }), "new"), nil)
	files{"c": "new"}.check(t)

	empty(t)
	checkError(t, save(spec, at("open", 1, func() { files{"c": "other"}.create(t) }), "new"), nil)
	files{"c": "new"}.check(t)

	// Somebody who never tires.
	empty(t)
	files{"c": "old"}.create(t)
	sys := &system{}
	sys.hook = func(call string, _ ...string) error {
		switch call {
		case "access":
			os.WriteFile("c", nil, 0o600)
		case "open":
			os.Remove("c")
		}
		return nil
	}
	_, err := openFile(spec, sys)
	checkError(t, err, &Error{OpOpen, "c", "", unix.ENOENT})

	// Our file was replaced by another one: that is not ours to remove.
	empty(t)
	tg := mustOpen(t, spec, &system{})
	mustWrite(t, tg, "half")
	os.Remove("c")
	files{"c": "other"}.create(t)
	checkError(t, tg.Abort(), nil)
	files{"c": "other"}.check(t)
}
