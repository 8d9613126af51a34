package criu

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/ckpt/criu/binary"
	"blcr-cli/internal/ckpt/criu/images"
	"blcr-cli/internal/hints"
	"blcr-cli/internal/proc"
	"blcr-cli/internal/show"
)

// What a restart makes again and gives to its owner: removed files, memory in common, UNIX
// sockets in the file system. A user cannot, where that was another user. Of what is only
// mapped the kernel does not tell a user whose it is, but CRIU writes it into its images.

// takenOwners are such objects in the images of a user's dump.
type takenOwners struct {
	mu    sync.Mutex
	lacks []foreign
}

// foreign is an object that this process may not make again.
type foreign struct {
	what  string
	inode uint64 // of a removed file
}

// saysOwners returns how much to keep of an image that says whose something is, in bytes; 0
// for another image. What is behind that is not looked at.
func saysOwners(name string) int {
	switch {
	case images.IsGhost(name):
		return 8 << 10 // its content follows
	case name == images.FilesName, name == images.MemFDName:
		return 16 << 20
	}
	return 0
}

// add looks at an image, or its beginning.
func (t *takenOwners) add(name string, img []byte) {
	lacks, _ := foreigners(name, img)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lacks = append(t.lacks, lacks...)
}

// foreigners returns what of an image this process may not make again.
func foreigners(name string, img []byte) (lacks []foreign, err error) {
	all, err := images.Owners(name, img)
	for _, o := range all {
		if hints.MayGive(&unix.Stat_t{Uid: o.UID, Gid: o.GID}) {
			continue
		}
		what := "a removed file"
		switch {
		case o.Memory:
			what = "memory that it shares"
		case o.Name != "":
			what = "the UNIX socket " + show.Name(o.Name)
		}
		lacks = append(lacks, foreign{fmt.Sprintf("the job has %s, which criu would make again as that of %s, and %s may not", what, hints.User(int(o.UID)), hints.User(unix.Geteuid())), o.Inode})
	}
	return lacks, err
}

// checkOwners refuses a job of which a user could not make everything again. A removed file
// that is a standard stream is left to cr_restart --keep-stdio.
func (c *capture) checkOwners() error {
	for _, o := range c.owners.lacks {
		if o.inode == 0 || !c.isStream(o.inode) {
			return &ckpt.Error{Op: "checkpoint", Object: "processes", Errno: syscall.EPERM, Detail: []string{o.what, "have root save and restart the job"}}
		}
	}
	return nil
}

// isStream reports whether a removed file is a standard stream of a process.
func (c *capture) isStream(inode uint64) bool {
	return slices.ContainsFunc(c.tree.PIDs, func(pid int) bool {
		for fd := range 3 {
			var st unix.Stat_t
			if unix.Stat(proc.Open(pid, fd), &st) == nil && st.Nlink == 0 && st.Ino == inode {
				return true
			}
		}
		return false
	})
}

// makings looks at the same for a restart.
func (f *foresight) makings() error {
	if !binary.Unprivileged() {
		return nil
	}
	names := []string{images.FilesName, images.MemFDName}
	if f.source.Has(images.RemapName) {
		remaps, err := images.Read(f.source, images.RemapName, images.Remaps)
		if err != nil {
			return err
		}
		for _, r := range remaps {
			if r.Type == images.RemapGhost {
				names = append(names, images.GhostName(r.To))
			}
		}
	}
	for _, name := range names {
		if !f.source.Has(name) {
			continue
		}
		head := make([]byte, saysOwners(name))
		n, err := f.source.ReadAt(name, head, 0)
		lacks, err2 := foreigners(name, head[:n])
		if err = errors.Join(err, err2); err != nil {
			return err
		}
		for _, o := range lacks {
			f.obstacle(syscall.EPERM, "owner", o.what, "restart the job as root")
		}
	}
	return nil
}
