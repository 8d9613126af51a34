package target

import (
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestBackupNumber(t *testing.T) {
	for name, want := range map[string]string{
		"c.~1~": "c 1 true", "c.~10~": "c 10 true", "c.~1~.~2~": "c.~1~ 2 true", ".c.~3~": ".c 3 true",
		"c": " 0 false", "c.~0~": " 0 false", "c.~01~": " 0 false", "c.~+1~": " 0 false", "c.~-1~": " 0 false",
		"c.~1": " 0 false", "c~1~": " 0 false", ".~1~": " 0 false", "c.~~": " 0 false", "c.~99999999999999999999~": " 0 false",
		"c.~1073741824~": "c 1073741824 true", "c.~1073741825~": " 0 false",
	} {
		base, n, ok := BackupNumber(name)
		if got := fmt.Sprint(base, " ", n, " ", ok); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}

// With Keep the contexts that stay are the newest ones, and numbers grow.
func TestKeep(t *testing.T) {
	workdir(t)
	spec := Spec{Path: "c", Policy: Backup, Keep: 3, Sync: true}
	for i := range 6 {
		checkError(t, save(spec, &system{}, fmt.Sprint(i)), nil)
	}
	files{"c": "5", "c.~5~": "4", "c.~4~": "3"}.check(t)

	// Fewer from now on; names that only look alike, and directories, are not touched.
	files{"c.~1~": "dir", "c.~x~": "x", "d.~1~": "d", "c.~007~": "james"}.create(t)
	spec.Keep = 2
	checkError(t, save(spec, &system{}, "6"), nil)
	files{"c": "6", "c.~6~": "5", "c.~1~": "dir", "c.~x~": "x", "d.~1~": "d", "c.~007~": "james"}.check(t)
	spec.Keep = 1
	checkError(t, save(spec, &system{}, "7"), nil)
	files{"c": "7", "c.~1~": "dir", "c.~x~": "x", "d.~1~": "d", "c.~007~": "james"}.check(t)

	// Without a context of that name the backups count as well.
	empty(t)
	files{"c.~1~": "1", "c.~2~": "2", "c.~3~": "3"}.create(t)
	spec.Keep = 2
	checkError(t, save(spec, &system{}, "new"), nil)
	files{"c": "new", "c.~3~": "3"}.check(t)

	// A failure removes nothing.
	empty(t)
	files{"c": "old", "c.~1~": "1", "c.~2~": "2"}.create(t)
	checkError(t, save(spec, failing("rename", 1, unix.EIO), "new"), &Error{OpRename, "./.c.tmp", "c", unix.EIO})
	files{"c": "old", "c.~1~": "1", "c.~2~": "2"}.check(t)
	checkError(t, save(spec, failing("entries", 2, unix.EIO), "new"), &Error{OpOpenDir, ".", "", unix.EIO})
	files{"c": "old", "c.~1~": "1", "c.~2~": "2"}.check(t)
	// What cannot be removed stays until the next time.
	checkError(t, save(spec, failing("unlink c.~1~", 0, unix.EPERM), "new"), nil)
	files{"c": "new", "c.~1~": "1", "c.~3~": "old"}.check(t)
	checkError(t, save(spec, &system{}, "newer"), nil)
	files{"c": "newer", "c.~4~": "new"}.check(t)
}

// A run that was killed between making the backup and replacing the target has used a
// number, and no further one is used for the same context.
func TestKeepIsLinkedAlready(t *testing.T) {
	workdir(t)
	spec := Spec{Path: "c", Policy: Backup, Keep: 3, Sync: true}
	linked := func() {
		empty(t)
		files{"c": "old", "c.~1~": "older"}.create(t)
		if err := os.Link("c", "c.~2~"); err != nil {
			t.Fatal(err)
		}
	}
	linked()
	checkError(t, save(spec, &system{}, "new"), nil)
	files{"c": "new", "c.~2~": "old", "c.~1~": "older"}.check(t)
	linked()
	checkError(t, save(spec, failing("rename ./.c.tmp c", 1, unix.EIO), "new"), &Error{OpRename, "./.c.tmp", "c", unix.EIO})
	files{"c": "old", "c.~2~": "old", "c.~1~": "older"}.check(t)
}

// Where names cannot be listed there is no backup to be numbered, which is said at once.
func TestKeepUnlistable(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may list every directory")
	}
	workdir(t)
	files{"d": "dir"}.create(t)
	os.Chmod("d", 0o300)
	defer os.Chmod("d", 0o700)
	spec := Spec{Path: "d/c", Policy: Backup, Keep: 2}
	checkError(t, save(spec, &system{}, "new"), &Error{OpOpenDir, "d", "", unix.EACCES})
	checkError(t, Examine(spec), &Error{OpOpenDir, "d", "", unix.EACCES})
}

func TestNewest(t *testing.T) {
	workdir(t)
	files{
		"c": "", "c.~2~": "", "c.~10~": "", ".c.tmp": "", ".c.old": "", "d": "dir", "p": "fifo", "l": "-> c",
		"context.1": "", "context.2": "", "lone.~1~": "",
	}.create(t)
	at := func(name string, second int64) {
		os.Chtimes(name, time.Time{}, time.Unix(second, 0))
	}
	// The times of one family say nothing; those of families do.
	at("c", 100)
	at("c.~2~", 300)
	at("c.~10~", 200)
	at("context.1", 150)
	at("context.2", 150)
	at("lone.~1~", 50)
	check := func(want ...string) {
		t.Helper()
		all, err := Newest(".")
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, c := range all {
			got = append(got, fmt.Sprint(c.Name, " ", c.Base, " ", c.Number))
		}
		if !slices.Equal(got, want) {
			t.Errorf("got %q\nwant %q", got, want)
		}
	}
	check("context.2 context.2 0", "context.1 context.1 0", "c c 0", "c.~10~ c 10", "c.~2~ c 2", "lone.~1~ lone 1")
	// A later time of an older generation does not put it before a newer one, nor others
	// between the two.
	at("c.~10~", 130)
	at("c.~2~", 60)
	at("context.1", 110)
	check("context.2 context.2 0", "context.1 context.1 0", "c c 0", "c.~10~ c 10", "c.~2~ c 2", "lone.~1~ lone 1")
	at("context.1", 90)
	at("lone.~1~", 60)
	check("context.2 context.2 0", "c c 0", "c.~10~ c 10", "context.1 context.1 0", "lone.~1~ lone 1", "c.~2~ c 2")
	empty(t)
	check()
	_, err := Newest("none")
	checkError(t, err, &Error{OpOpenDir, "none", "", unix.ENOENT})

	// What is made by Keep comes in the order in which it was made.
	for i := range 4 {
		checkError(t, save(Spec{Path: "c", Policy: Backup, Keep: 3}, &system{}, fmt.Sprint(i)), nil)
	}
	check("c c 0", "c.~3~ c 3", "c.~2~ c 2")
}
