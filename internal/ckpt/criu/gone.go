package criu

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt/criu/images"
	"blcr-cli/internal/ckpt/criu/memory"
	"blcr-cli/internal/ckpt/criu/savedfiles"
	"blcr-cli/internal/ckpt/criu/tempdir"
	"blcr-cli/internal/hints"
)

// A file or directory that had lost its name is made again by CRIU under that name, opened,
// and removed. That cannot be where something else is in the way by now: another directory
// of that name, which CRIU would take for it and remove, or a file in the place of one above
// it. Nor can a user do it where only root may write: in the directory of a library that was
// updated while the job had it mapped. Nor can it be where a file cannot have a second name,
// by which CRIU opens it: some file systems have no hard links. What has no name can as well
// be made elsewhere.

// head is a beginning of an image that is served instead of another.
type head struct {
	data []byte
	skip int64 // the length of the other
}

// renameGone returns files.img in which such files are in a temporary directory, where CRIU
// could not make them under their old names.
func (p *plan) renameGone(source source, files []byte) ([]byte, error) {
	if !source.Has(images.RemapName) {
		return files, nil
	}
	remaps, err := images.Read(source, images.RemapName, images.Remaps)
	if err != nil {
		return nil, err
	}
	list, err := images.Files(files)
	if err != nil {
		return nil, err
	}
	names := make(map[uint32]string)
	for _, f := range list {
		if f.Type == images.TypeReg {
			names[f.ID] = f.Name
		}
	}
	moved := make(map[uint32]bool) // by the number of their ghost file
	ghosts := make(map[string]uint32)
	dirs := make(map[string]bool)
	takes := make(map[string]bool) // directories, see takesGhosts
	p.heads = make(map[string]head)
	for _, r := range remaps {
		name := names[r.File]
		if r.Type != images.RemapGhost || !filepath.IsAbs(name) {
			continue
		}
		image := images.GhostName(r.To)
		start := make([]byte, ghostHead)
		n, err := source.ReadAt(image, start, 0)
		if err != nil {
			return nil, err
		}
		ghost, err := images.ReadGhost(start[:n])
		if err != nil {
			return nil, err
		}
		ghosts[name], dirs[name] = r.To, ghost.Mode&unix.S_IFMT == unix.S_IFDIR
		moved[r.To] = moved[r.To] || inTheWay(name, dirs[name], takes)
		if hints.MayGive(&unix.Stat_t{Uid: ghost.UID, Gid: ghost.GID}) {
			continue
		}
		var h head
		if h.data, h.skip, err = images.OwnGhost(start[:n], uint32(os.Geteuid()), uint32(os.Getegid())); err != nil {
			return nil, err
		}
		p.heads[image] = h
	}
	some := false
	for name, to := range ghosts {
		for dir := filepath.Dir(name); len(dir) > 1 && !moved[to]; dir = filepath.Dir(dir) {
			moved[to] = dirs[dir] // which could not be removed before
		}
		some = some || moved[to]
	}
	if !some {
		return files, nil
	}
	if p.gone, err = tempdir.New(savedfiles.Parents()); err != nil {
		return nil, err
	}
	dir := filepath.Join(p.gone.Path, "gone") // that above is locked, and so will this be
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, systemError(dir, err)
	}
	to := make(map[uint32]string)
	for _, r := range remaps {
		if r.Type == images.RemapGhost && moved[r.To] {
			to[r.File] = filepath.Join(dir, strconv.Itoa(int(r.To)))
		}
	}
	return images.Rename(files, to)
}

// ghostHead is enough of an image of a ghost file to have all but its content.
const ghostHead = 8 << 10

// inTheWay reports whether CRIU cannot make a file or a directory under a name for a moment.
// It keeps in takes what it has learned of directories.
func inTheWay(name string, isDir bool, takes map[string]bool) bool {
	var st unix.Stat_t
	// What is made above a directory would stay.
	if isDir && (unix.Lstat(name, &st) == nil || unix.Stat(filepath.Dir(name), &st) != nil) {
		return true
	}
	dir := filepath.Dir(name)
	for unix.Lstat(dir, &st) != nil && len(dir) > 1 {
		dir = filepath.Dir(dir)
	}
	if unix.Stat(dir, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR ||
		unix.Faccessat(unix.AT_FDCWD, dir, unix.W_OK|unix.X_OK, unix.AT_EACCESS) != nil {
		return true
	}
	if isDir { // is not linked
		return false
	}
	can, known := takes[dir]
	if !known {
		can = takesGhosts(dir)
		takes[dir] = can
	}
	return !can
}

// takesGhosts reports whether CRIU can make a file in a directory, give it a second name, and
// remove both. Only trying tells: of FUSE, for example, each server is another.
func takesGhosts(dir string) bool {
	var st unix.Statx_t
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	if unix.Statx(fd, "", unix.AT_EMPTY_PATH, 0, &st) == nil && st.Attributes&unix.STATX_ATTR_APPEND != 0 {
		return false // nothing can be removed
	}
	name := fmt.Sprintf(".blcr-cli-%d", os.Getpid())
	file, err := unix.Openat(fd, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return false
	}
	unix.Close(file) // FUSE and NFS rename what is removed while it is open
	err = unix.Linkat(fd, name, fd, name+".link", 0)
	if err == nil {
		err = unix.Unlinkat(fd, name+".link", 0)
	}
	return errors.Join(err, unix.Unlinkat(fd, name, 0)) == nil
}

// feedHeaded writes an image into its pipe that has another beginning.
func (r *restart) feedHeaded(ctx context.Context, name string, pipe int, h head) error {
	buffer := h.data
	for at := h.skip; ; {
		if err := memory.FeedBytes(ctx, pipe, buffer); err != nil {
			return feedError(err)
		}
		buffer = make([]byte, 128<<10)
		n, err := r.source.ReadAt(name, buffer, at)
		if err != nil || n == 0 {
			return contextError(err)
		}
		buffer, at = buffer[:n], at+int64(n)
	}
}
