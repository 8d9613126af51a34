// Package ghosts removes the files that a failed restore leaves.
//
// A file that had lost its name when the job was saved, a ghost file, gets a name again
// for a moment: criu creates P.cr.N.ghost, links it to its old name P, or to P.cr_link if
// P is in use, opens it there, and removes the names. It also creates the directories on
// the way to P, and binds sockets to their names. A criu that is killed, or kills its own
// processes between these steps, leaves the names, and the next restore fails with EEXIST
// (CRIU's files-reg.c, sk-unix.c).
//
// So the names are looked at before criu starts. After a restore that has failed, those
// that have come are removed. A file that has got such a name from another process stays:
// it does not have the owner, the mode and the time that criu gives to a ghost file.
//
// The package knows names and images. When a restore starts and fails is known to the
// engine.
package ghosts

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt/criu/images"
)

// Source is a context.
type Source interface {
	images.Source
	// ReadAt reads a part of an image: all of b, or up to the image's end.
	ReadAt(name string, b []byte, offset int64) (int, error)
}

// Names are names in the file system that a restore may leave.
type Names struct {
	names []name
	made  []string // directories that were missing, the deepest last
	dirs  []int    // descriptors of the directories of ghost files
	locks []int    // those of dirs that are locked
}

// kind is what makes a name be one of criu's.
type kind int

const (
	temporary kind = iota // P.cr.N.ghost, which nothing else is called
	link                  // P.cr_link
	original              // P
	socket                // that of a UNIX socket
	parked                // what criu has renamed to bind a socket
)

// parkedSuffix is that of the name of a file that is in a socket's way for a moment
// (UNIX_GHOST_FMT).
const parkedSuffix = ".criu-sk-ghost"

// name is a name that criu may create.
type name struct {
	kind   kind
	dir    int    // descriptor of the directory, one of Names.dirs
	base   string // in that directory, or below directories in it that were missing
	ghost  images.Ghost
	inode  inode // of a file that has another name: its inode; else zero
	exists bool  // before the restore
}

// inode identifies a file.
type inode struct{ dev, ino uint64 }

// headSize is enough of an image of a ghost file to have all but its content. A symbolic
// link's text is part of it.
const headSize = 8 << 10

// Find returns the names that a restore may leave. Files is files.img as criu gets it.
// Close gives back what Names holds.
func Find(source Source, files []byte) (*Names, error) {
	n := &Names{}
	if err := n.find(source, files); err != nil {
		n.Close()
		return nil, err
	}
	return n, nil
}

// find does the work of Find.
func (n *Names) find(source Source, files []byte) error {
	all, err := images.Files(files)
	if err != nil {
		return err
	}
	byID := make(map[uint32]images.File, len(all))
	opened := make(map[inode]int)
	for _, f := range all {
		byID[f.ID] = f
		if path, ok := strings.CutSuffix(f.SocketName, "\x00"); ok && f.Type == images.TypeUnix && path != "" && !f.External {
			if !filepath.IsAbs(path) {
				path = filepath.Join("/", f.Dir, path)
			}
			n.add(opened, socket, path, images.Ghost{}, inode{})
			n.add(opened, parked, path+parkedSuffix, images.Ghost{}, inode{})
			n.missing(path)
		}
	}
	if !source.Has(images.RemapName) {
		return nil
	}
	remaps, err := images.Read(source, images.RemapName, images.Remaps)
	if err != nil {
		return err
	}
	for _, r := range remaps {
		path := byID[r.File].Name
		if !filepath.IsAbs(path) {
			path = "/" + path
		}
		var ghost images.Ghost
		var same inode
		switch r.Type {
		case images.RemapGhost:
			head := make([]byte, headSize)
			size, err := source.ReadAt(images.GhostName(r.To), head, 0)
			if err != nil {
				return err
			}
			if ghost, err = images.ReadGhost(head[:size]); err != nil {
				return err
			}
			// The directory may be missing. Criu takes the next one above it then.
			dir, base := existing(path)
			n.add(opened, temporary, filepath.Join(dir, filepath.Base(base))+fmt.Sprintf(".cr.%x.ghost", r.To), ghost, inode{})
		case images.RemapLinked:
			var st unix.Stat_t
			if unix.Lstat("/"+byID[r.To].Name, &st) != nil {
				continue // criu says so
			}
			same = inode{st.Dev, st.Ino}
		default:
			continue
		}
		n.add(opened, original, path, ghost, same)
		n.add(opened, link, path+".cr_link", ghost, same)
		n.missing(path)
	}
	return nil
}

// existing splits a name into a directory that exists, and the rest.
func existing(path string) (dir, rest string) {
	var st unix.Stat_t
	for dir, rest = filepath.Split(filepath.Clean(path)); len(dir) > 1 && unix.Stat(dir, &st) != nil; {
		dir = filepath.Clean(dir)
		rest = filepath.Join(filepath.Base(dir), rest)
		dir = filepath.Dir(dir)
	}
	return dir, rest
}

// add adds a name.
func (n *Names) add(opened map[inode]int, k kind, path string, ghost images.Ghost, same inode) {
	dir, base := existing(path)
	var st unix.Stat_t
	if unix.Stat(dir, &st) != nil {
		return
	}
	at := inode{st.Dev, st.Ino}
	fd, known := opened[at]
	if !known {
		var err error
		if fd, err = unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
			return
		}
		opened[at] = fd
		n.dirs = append(n.dirs, fd)
	}
	exists := unix.Fstatat(fd, base, &st, unix.AT_SYMLINK_NOFOLLOW) == nil
	n.names = append(n.names, name{kind: k, dir: fd, base: base, ghost: ghost, inode: same, exists: exists})
}

// missing notes the directories that are missing on the way to a file.
func (n *Names) missing(path string) {
	var missing []string
	var st unix.Stat_t
	for dir := filepath.Dir(path); len(dir) > 1 && unix.Lstat(dir, &st) == unix.ENOENT; dir = filepath.Dir(dir) {
		missing = append(missing, dir)
	}
	slices.Reverse(missing)
	n.made = append(n.made, missing...)
}

// patience is how long another restore may take with the same directory. After that it is
// taken to be stuck.
const patience = 30 * time.Second

// Lock waits until no other restore of these commands creates ghost files in the same
// directories: two jobs that have had the same name cannot be given it at once. Then it
// removes what a restore has left that was killed. Unlock ends the lock. The error is
// that of ctx.
func (n *Names) Lock(ctx context.Context) error {
	n.sortDirs()
	deadline := time.Now().Add(patience)
	for _, dir := range n.ghostDirs() {
		// For flock(2) the directory has to be open for reading.
		fd, err := unix.Openat(dir, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		if err != nil {
			continue // it may not be read; two restores at once may fail
		}
		n.locks = append(n.locks, fd)
		for unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) == unix.EWOULDBLOCK && time.Now().Before(deadline) {
			select {
			case <-ctx.Done():
				n.Unlock()
				return ctx.Err()
			case <-time.After(5 * time.Millisecond):
			}
		}
	}
	for i := range n.names {
		if e := &n.names[i]; e.exists && (e.kind == temporary || e.kind == link) && e.remove(n, true) {
			e.exists = false
		}
	}
	return nil
}

// sortDirs puts directories into the order in which every restore locks them.
func (n *Names) sortDirs() {
	key := func(fd int) (i inode) {
		var st unix.Stat_t
		_ = unix.Fstat(fd, &st)
		return inode{st.Dev, st.Ino}
	}
	slices.SortFunc(n.dirs, func(a, b int) int {
		x, y := key(a), key(b)
		return cmp.Or(cmp.Compare(x.dev, y.dev), cmp.Compare(x.ino, y.ino))
	})
}

// ghostDirs returns the directories that ghost files are created in.
func (n *Names) ghostDirs() (dirs []int) {
	for _, dir := range n.dirs {
		if slices.ContainsFunc(n.names, func(e name) bool { return e.dir == dir && e.kind == temporary }) {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

// Unlock ends the lock. It may be called again, and without Lock.
func (n *Names) Unlock() {
	for _, fd := range n.locks {
		unix.Close(fd)
	}
	n.locks = nil
}

// Remove removes what a restore that has failed has left. Criu and the processes that it
// has made must have ended.
func (n *Names) Remove() {
	// The links are told by their ghost file, which is removed last.
	order := slices.Clone(n.names)
	slices.SortStableFunc(order, func(a, b name) int { return int(b.kind) - int(a.kind) })
	for _, e := range order {
		if !e.exists {
			e.remove(n, false)
		}
	}
	for _, dir := range slices.Backward(n.made) {
		_ = unix.Rmdir(dir)
	}
}

// remove removes a name if what has it is criu's. Old: it was there before.
func (e *name) remove(n *Names, old bool) bool {
	dir, base := e.dir, e.base
	if below := filepath.Dir(base); below != "." {
		var err error
		if dir, err = unix.Openat2(dir, below, &unix.OpenHow{
			Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_SYMLINKS,
		}); err != nil {
			return false
		}
		defer unix.Close(dir)
		base = filepath.Base(base)
	}
	var st unix.Stat_t
	if unix.Fstatat(dir, base, &st, unix.AT_SYMLINK_NOFOLLOW) != nil {
		return false
	}
	flags := 0
	switch e.kind {
	case parked:
		// Criu renames it back, unless it is killed before that.
		back := strings.TrimSuffix(base, parkedSuffix)
		if unix.Fstatat(dir, back, &st, unix.AT_SYMLINK_NOFOLLOW) == nil && st.Mode&unix.S_IFMT == unix.S_IFSOCK && dead(dir, back) {
			_ = unix.Unlinkat(dir, back, 0)
		}
		return unix.Renameat2(dir, base, dir, back, unix.RENAME_NOREPLACE) == nil
	case socket:
		if st.Mode&unix.S_IFMT != unix.S_IFSOCK || !dead(dir, base) {
			return false
		}
	case temporary:
		if st.Mode&unix.S_IFMT != e.ghost.Mode&unix.S_IFMT {
			return false
		}
		// It has got its owner and mode at the end.
		if old && st.Uid != e.ghost.UID && int(st.Uid) != unix.Geteuid() {
			return false
		}
	case link, original:
		if !e.is(&st) && (old || !n.linked(&st)) {
			return false
		}
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		flags = unix.AT_REMOVEDIR
	}
	return unix.Unlinkat(dir, base, flags) == nil
}

// is tells whether a file is the one that criu has made.
func (e *name) is(st *unix.Stat_t) bool {
	if e.inode != (inode{}) {
		return e.inode == inode{st.Dev, st.Ino}
	}
	g := e.ghost
	return st.Mode == g.Mode && st.Uid == g.UID && st.Gid == g.GID &&
		g.Modified != (images.Time{}) && int64(st.Mtim.Sec) == g.Modified.Sec && int64(st.Mtim.Nsec)/1000 == g.Modified.Usec
}

// linked tells whether a file is a ghost file that still has the name that criu gives it
// first, and had not before.
func (n *Names) linked(st *unix.Stat_t) bool {
	for _, e := range n.names {
		var ghost unix.Stat_t
		if e.kind == temporary && !e.exists && unix.Fstatat(e.dir, e.base, &ghost, unix.AT_SYMLINK_NOFOLLOW) == nil &&
			ghost.Dev == st.Dev && ghost.Ino == st.Ino {
			return true
		}
	}
	return false
}

// dead tells whether no socket is bound to a name any more.
func dead(dir int, base string) bool {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	// Of a socket of another type it is EPROTOTYPE.
	err = unix.Connect(fd, &unix.SockaddrUnix{Name: fmt.Sprintf("/proc/self/fd/%d/%s", dir, base)})
	return errors.Is(err, unix.ECONNREFUSED)
}

// Close gives back what Names holds, the lock as well.
func (n *Names) Close() {
	n.Unlock()
	for _, fd := range n.dirs {
		unix.Close(fd)
	}
	n.dirs, n.names = nil, nil
}
