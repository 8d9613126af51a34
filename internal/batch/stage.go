package batch

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/show"
)

// stage copies the files that belong to a generation, while its processes stand still or
// after they have ended. If that fails the generation is set aside: it has no files.
func (b *batch) stage(n int) error {
	if b.Stage == "" {
		return nil
	}
	temp := b.dir.stageTemp(n)
	err := copyTree(b.Stage, temp)
	if err == nil {
		err = os.Rename(temp, b.dir.stage(n))
	}
	if err != nil {
		return fmt.Errorf("generation %d has no files: copy of %s: %w", n, show.Name(b.Stage), err)
	}
	return nil
}

// copyTree copies the directories, regular files and symbolic links in from to to, with
// their modes and times. What is in to besides stays there.
func copyTree(from, to string) error {
	type stamp struct {
		path string
		mode fs.FileMode
		time time.Time
	}
	var dirs []stamp
	err := filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := entry.Info()
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, rel)
		switch {
		case fi.IsDir():
			dirs = append(dirs, stamp{target, fi.Mode().Perm(), fi.ModTime()})
			return makeDirectory(target)
		case fi.Mode()&fs.ModeSymlink != 0:
			link, err := os.Readlink(path)
			if err != nil {
				return err
			}
			if err := os.RemoveAll(target); err != nil {
				return err
			}
			return os.Symlink(link, target)
		case fi.Mode().IsRegular():
			return copyFile(path, target, fi)
		}
		return nil // sockets, FIFOs and devices have no content
	})
	for i := len(dirs) - 1; i >= 0 && err == nil; i-- {
		if err = os.Chmod(dirs[i].path, dirs[i].mode); err == nil {
			err = os.Chtimes(dirs[i].path, dirs[i].time, dirs[i].time)
		}
	}
	return err
}

// makeDirectory makes a directory. One that is there stays; anything else makes way, also
// a symbolic link: what belongs below it must not go elsewhere.
func makeDirectory(path string) error {
	switch fi, err := os.Lstat(path); {
	case err != nil || fi.IsDir():
	default:
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// within reports whether path is dir or below it, whatever symbolic links lead there.
func within(path, dir string) bool {
	for _, name := range []*string{&path, &dir} {
		real, err := filepath.EvalSymlinks(*name)
		if err == nil {
			real, err = filepath.Abs(real)
		}
		if err != nil {
			return false // there is none yet
		}
		*name = real
	}
	rel, err := filepath.Rel(dir, path)
	return err == nil && filepath.IsLocal(rel)
}

// copyFile copies a regular file into a new one, which then takes its place: a process
// that has the old one open does not see half of it.
func copyFile(from, to string, fi fs.FileInfo) error {
	in, err := os.OpenFile(from, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer in.Close()
	temp := to + ".cr_batch"
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	out, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if err == nil {
		err = out.Chmod(fi.Mode().Perm())
	}
	if err == nil {
		err = out.Sync()
	}
	if e := out.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Chtimes(temp, fi.ModTime(), fi.ModTime())
	}
	if fi, e := os.Lstat(to); err == nil && e == nil && fi.IsDir() {
		err = os.RemoveAll(to)
	}
	if err == nil {
		err = os.Rename(temp, to)
	}
	if err != nil {
		_ = os.Remove(temp)
	}
	return err
}
