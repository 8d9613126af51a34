package target

import (
	"fmt"
	"io/fs"
	"iter"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"blcr-cli/test/harness"
)

// What a loss of power may leave. The model is that of ALICE (Pillai et al., "All File
// Systems Are Not Created Equal", OSDI 2014), with a file system that promises no more
// than it must:
//
//   - The content of a file that was changed since it was last synced may be anything.
//   - Of the changes to a directory since it was last synced, each may be on disk or
//     not, whatever became of those before it. A rename is one change, also one from
//     directory to directory, which is certain when both have been synced.
//
// A run is recorded: what is there after each system call. Then power is lost at each
// moment, and each state that may be left is looked at.

// inode is a file or directory. The kernel's numbers will not do: they are given to
// other files as soon as they are free.
type inode int

// disk is what is there, on disk or to be seen.
type disk struct {
	dirs  map[inode]map[string]inode
	files map[inode]string
}

func (d disk) clone() disk {
	c := disk{map[inode]map[string]inode{}, maps.Clone(d.files)}
	for dir, names := range d.dirs {
		c.dirs[dir] = maps.Clone(names)
	}
	return c
}

// dirent is a change of a directory; to is 0 if the name has gone.
type dirent struct {
	dir  inode
	name string
	to   inode
}

func (d disk) apply(changes []dirent) {
	for _, c := range changes {
		if d.dirs[c.dir] == nil {
			d.dirs[c.dir] = map[string]inode{}
		}
		if d.dirs[c.dir][c.name] = c.to; c.to == 0 {
			delete(d.dirs[c.dir], c.name)
		}
	}
}

// event is what a system call has done, or the test after it.
type event struct {
	call    string
	synced  inode            // what fsync was called for
	changes [][]dirent       // each list is on disk whole or not at all
	written map[inode]string // contents
}

// recorder records a run in the working directory.
type recorder struct {
	t      *testing.T
	ids    map[fileID]inode
	last   inode
	before disk
	now    disk
	next   event
	events []event
}

const (
	top  = inode(1) // the working directory
	torn = "torn"   // a content that nobody knows
)

func newRecorder(t *testing.T) *recorder {
	r := &recorder{t: t, ids: map[fileID]inode{}}
	r.now = r.look()
	r.before = r.now
	return r
}

// system is a system whose calls are recorded. fault is asked about each.
func (r *recorder) system(fault func(call string) error) *system {
	return &system{hook: func(call string, args ...string) error {
		r.record()
		full := strings.Join(append([]string{call}, args...), " ")
		if err := fault(full); err != nil {
			return err
		}
		r.next.call = full
		if call == "fsync" {
			var st unix.Stat_t
			fd, _ := strconv.Atoi(args[0])
			if err := unix.Fstat(fd, &st); err != nil {
				r.t.Fatal(err)
			}
			r.next.synced = r.ids[idOf(&st)]
		}
		return nil
	}}
}

// look returns what is below the working directory, which is top.
func (r *recorder) look() disk {
	d := disk{map[inode]map[string]inode{}, map[inode]string{}}
	ids := map[fileID]inode{}
	err := filepath.WalkDir(".", func(path string, e fs.DirEntry, err error) error {
		var st unix.Stat_t
		if err == nil {
			err = unix.Lstat(path, &st)
		}
		if err != nil {
			return err
		}
		file := idOf(&st)
		id := r.ids[file]
		if ids[file] == 0 && id == 0 {
			r.last++
			id = r.last
			r.ids[file] = id
		}
		ids[file] = id
		if path != "." {
			var parent unix.Stat_t
			if err := unix.Lstat(filepath.Dir(path), &parent); err != nil {
				return err
			}
			d.dirs[ids[idOf(&parent)]][e.Name()] = id
		}
		if e.IsDir() {
			d.dirs[id] = map[string]inode{}
			return nil
		}
		content, err := os.ReadFile(path)
		d.files[id] = string(content)
		return err
	})
	if err != nil {
		r.t.Fatal(err)
	}
	r.ids = ids // a number that is free may come again
	return d
}

// record notes what has changed since it was last called.
func (r *recorder) record() {
	e, was := r.next, r.now
	r.now = r.look()
	r.next = event{}
	var changes []dirent
	for dir, names := range r.now.dirs {
		for name, to := range names {
			if was.dirs[dir][name] != to {
				changes = append(changes, dirent{dir, name, to})
			}
		}
		for name := range was.dirs[dir] {
			if _, has := names[name]; !has {
				changes = append(changes, dirent{dir, name, 0})
			}
		}
	}
	if strings.HasPrefix(e.call, "rename") && len(changes) > 0 {
		e.changes = [][]dirent{changes}
	} else {
		for _, c := range changes {
			e.changes = append(e.changes, []dirent{c})
		}
	}
	e.written = map[inode]string{}
	for file, content := range r.now.files {
		if old, had := was.files[file]; !had || old != content {
			e.written[file] = content
		}
	}
	r.events = append(r.events, e)
}

// losePower calls check with every state that a loss of power may leave, and with what
// had been done: the last call. over says that the run had ended.
func (r *recorder) losePower(check func(left disk, after string, over bool)) (states int) {
	r.record()
	durable, unsynced := r.before.clone(), map[inode]string{}
	var pending []uncertain
	for i, e := range r.events {
		if content, dirty := unsynced[e.synced]; dirty {
			durable.files[e.synced] = content
			delete(unsynced, e.synced)
		}
		pending = slices.DeleteFunc(pending, func(p uncertain) bool {
			if delete(p.dirs, e.synced); len(p.dirs) > 0 {
				return false
			}
			durable.apply(p.changes)
			return true
		})
		for _, changes := range e.changes {
			p := uncertain{changes, map[inode]bool{}}
			for _, c := range changes {
				p.dirs[c.dir] = true
			}
			pending = append(pending, p)
		}
		maps.Copy(unsynced, e.written)
		for mask := range subsets(len(pending)) {
			left := durable.clone()
			for j, p := range pending {
				if mask>>j&1 != 0 {
					left.apply(p.changes)
				}
			}
			for file := range unsynced {
				left.files[file] = torn
			}
			check(left, e.call, i == len(r.events)-1)
			states++
		}
	}
	return states
}

// subsets yields sets of n things, as bits: all if they are few, else those of the first
// ones, with one more or less, and some at random.
func subsets(n int) iter.Seq[int] {
	return func(yield func(int) bool) {
		if n <= 7 {
			for set := range 1 << n {
				if !yield(set) {
					return
				}
			}
			return
		}
		for first := range n + 1 {
			for other := range n {
				if !yield(1<<first - 1 ^ 1<<other) {
					return
				}
			}
		}
		for range 100 {
			if !yield(rand.IntN(1 << n)) {
				return
			}
		}
	}
}

// uncertain are changes of directories that have not all been synced since.
type uncertain struct {
	changes []dirent
	dirs    map[inode]bool
}

// at returns what is at a name: a file's content, or that which all files of a directory
// have, if it is whole. "" is nothing, and torn is anything.
func (d disk) at(path string) string {
	id := top
	for _, name := range strings.Split(filepath.Clean(path), "/") {
		if id = d.dirs[id][name]; id == 0 {
			return ""
		}
	}
	return d.content(id)
}

func (d disk) content(id inode) string {
	names, isDir := d.dirs[id]
	if !isDir {
		return d.files[id]
	}
	content, has := d.files[names["must"]]
	wanted := []string{"pages-1.img"}
	if content == "old" {
		wanted = []string{"x.img"}
	}
	for _, name := range wanted {
		if other, also := d.files[names[name]]; !has || !also || other != content {
			return torn
		}
	}
	return content
}

// has tells whether some name leads to that content.
func (d disk) has(content string) bool {
	for _, names := range d.dirs {
		for _, id := range names {
			if d.content(id) == content {
				return true
			}
		}
	}
	return false
}

func (d disk) String() string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(d.dirs[top])) {
		fmt.Fprintf(&b, "%s: %q  ", name, d.at(name))
	}
	return b.String()
}

// powerLoss runs save, with each of its calls failing in turn and with none, and holds
// every state that may be left against the promises. save makes "new" of spec.Path.
func powerLoss(t *testing.T, spec Spec, before func(), save func(*system) error, unsupported string, errno error) (states int) {
	t.Helper()
	for nth := 0; ; nth++ {
		empty(t)
		before()
		r := newRecorder(t)
		old := r.before.at(spec.Path)
		n, failed := 0, ""
		err := save(r.system(func(call string) error {
			if n++; n == nth {
				failed = call
				return unix.EIO
			}
			if name, _, _ := strings.Cut(call, " "); slices.Contains(strings.Fields(unsupported), name) {
				return errno
			}
			return nil
		}))
		if nth > 0 && failed == "" {
			return states
		}
		states += r.losePower(func(left disk, after string, over bool) {
			now, kept := left.at(spec.Path), left.at(backupOf(spec))
			ok := now == old || now == "new"
			if unsupported != "" && (unsupported != "link" || spec.Policy == Backup) {
				ok = ok || now == "" && (left.has("old") || left.has("new")) // nowhere for a moment
			}
			if spec.Policy == Backup && old == "old" && unsupported != "renameat2" {
				ok = ok && (left.has("old") || spec.Keep == 1 && now == "new")
			}
			if over && err == nil {
				ok = now == "new" && (spec.Policy != Backup || old != "old" || kept == "old" || spec.Keep == 1)
			}
			if !ok {
				t.Fatalf("%+v, over %v, without %q, %q failed, error %v: power lost after %q leaves %v", spec, r.before, unsupported, failed, err, after, left)
			}
		})
		if !harness.All() {
			nth += 4
		}
	}
}

func backupOf(spec Spec) string {
	if spec.BackupNamed {
		return spec.BackupName
	}
	return spec.Path + ".~1~"
}

var powerLossSpecs = []Spec{
	{Policy: Atomic},
	{Policy: Backup},
	{Policy: Backup, Keep: 2},
	{Policy: Backup, Keep: 1},
	{Policy: Backup, BackupName: "b", BackupNamed: true},
	{Policy: Backup, BackupName: "elsewhere/b", BackupNamed: true},
}

func TestPowerLoss(t *testing.T) {
	workdir(t)
	total := 0
	for _, spec := range powerLossSpecs {
		for _, before := range []files{{}, {"c": "old"}, {"c": "old", "b": "older", ".c.tmp": "x", ".c.old": "y", ".b.bak": "z"}} {
			for _, unsupported := range []string{"", "link", "link renameat2"} {
				spec.Path, spec.Sync = "c", true
				prepare := func() {
					files{"elsewhere": "dir"}.create(t)
					before.create(t)
				}
				save := func(sys *system) error { return save(spec, sys, "new") }
				total += powerLoss(t, spec, prepare, save, unsupported, unix.EPERM)
			}
		}
	}
	t.Logf("%d states", total)
}

func TestPowerLossDir(t *testing.T) {
	workdir(t)
	total := 0
	old := tree{"d/must": "old", "d/x.img": "old"}
	replaced := maps.Clone(old)
	maps.Copy(replaced, tree{"b/must": "older", ".d.tmp/must": "x", ".d.old/x.img": "x"})
	for _, spec := range powerLossSpecs {
		for _, before := range []tree{{}, old, replaced} {
			for _, unsupported := range []string{"", "renameat2"} {
				spec.Path, spec.Sync = "d", true
				prepare := func() {
					files{"elsewhere": "dir"}.create(t)
					before.create(t)
				}
				save := func(sys *system) error { return saveDir(spec, sys, "new") }
				total += powerLoss(t, spec, prepare, save, unsupported, unix.EINVAL)
			}
		}
	}
	t.Logf("%d states", total)
}
