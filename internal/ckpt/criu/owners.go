package criu

import (
	"fmt"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/ckpt/criu/binary"
	"blcr-cli/internal/ckpt/criu/images"
	"blcr-cli/internal/hints"
	"blcr-cli/internal/show"
)

// What a restart makes again and gives to its owner: memory in common, UNIX sockets in the
// file system. A user cannot, where that was another user. Of what is only mapped the kernel
// does not tell a user whose it is, but CRIU writes it into its images.

// takenOwners are such objects in the images of a user's dump, as lines for a message.
type takenOwners struct {
	mu    sync.Mutex
	lacks []string
}

// mostOwners is how much of an image that says whose something is is looked at, in bytes.
const mostOwners = 16 << 20

// saysOwners reports whether an image does.
func saysOwners(name string) bool { return name == images.FilesName || name == images.MemFDName }

// add looks at an image.
func (t *takenOwners) add(name string, img []byte) {
	lacks, _ := foreigners(name, img)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lacks = append(t.lacks, lacks...)
}

// foreigners returns what of an image this process may not make again.
func foreigners(name string, img []byte) (lacks []string, err error) {
	all, err := images.Owners(name, img)
	for _, o := range all {
		if hints.MayGive(&unix.Stat_t{Uid: o.UID, Gid: o.GID}) {
			continue
		}
		what := "memory that it shares"
		if o.Name != "" {
			what = "the UNIX socket " + show.Name(o.Name)
		}
		lacks = append(lacks, fmt.Sprintf("the job has %s, which criu would make again as that of %s, and %s may not", what, hints.User(int(o.UID)), hints.User(unix.Geteuid())))
	}
	return lacks, err
}

// checkOwners refuses a job of which a user could not make everything again.
func (c *capture) checkOwners() error {
	if c.request.Dir != "" && binary.Unprivileged() {
		if err := c.readWritten(c.owners.add, images.FilesName, images.MemFDName); err != nil {
			return err
		}
	}
	if len(c.owners.lacks) == 0 {
		return nil
	}
	return &ckpt.Error{Op: "checkpoint", Object: "processes", Errno: syscall.EPERM, Detail: []string{c.owners.lacks[0], "have root save and restart the job"}}
}

// makings looks at the same for a restart.
func (f *foresight) makings() error {
	if !binary.Unprivileged() {
		return nil
	}
	for _, name := range []string{images.FilesName, images.MemFDName} {
		if !f.source.Has(name) {
			continue
		}
		lacks, err := images.Read(f.source, name, func(img []byte) ([]string, error) { return foreigners(name, img) })
		if err != nil {
			return err
		}
		for _, what := range lacks {
			f.obstacle(syscall.EPERM, "owner", what, "restart the job as root")
		}
	}
	return nil
}
