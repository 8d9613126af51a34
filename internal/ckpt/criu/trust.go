package criu

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/ckpt/criu/imagedir"
	"blcr-cli/internal/ckpt/criu/images"
	"blcr-cli/internal/hints"
	"blcr-cli/internal/show"
)

// A context says as which user its processes run, and which files they have open,
// and CRIU believes it. So what root restarts has root's power, whatever was saved.
// Root restarts a context only if nobody else could have written it. What counts is
// the file that is open, not its name: if another user can exchange names in a
// directory, or make links there, they lead to a file of that user, which is refused, or
// to one of root's.

// distrust returns the error, EPERM, for a context that root must not restart: another
// user owns it, or may write to it. An anonymous pipe or a socket has no such owner:
// root has connected it.
func distrust(r *ckpt.RestartRequest) error {
	if os.Geteuid() != 0 || r.Trust {
		return nil
	}
	if r.Dir == "" {
		var st unix.Stat_t
		if anonymous(int(r.FD)) || unix.Fstat(int(r.FD), &st) != nil || st.Mode&unix.S_IFMT == unix.S_IFCHR {
			return nil // reading it will say what is wrong; a device such as /dev/null is no file of anybody's
		}
		return refuseForeign("the context", &st)
	}
	dir, err := imagedir.Open(int(r.FD), r.Dir)
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Each(func(name string, st *unix.Stat_t) error { return refuseForeign(name, st) })
}

// anonymous reports whether a descriptor is that of a pipe or socket without a name.
func anonymous(fd int) bool {
	var fs unix.Statfs_t
	return unix.Fstatfs(fd, &fs) == nil && (fs.Type == unix.PIPEFS_MAGIC || fs.Type == unix.SOCKFS_MAGIC)
}

// refuseForeign returns the error for a file that others than root could have written.
func refuseForeign(name string, st *unix.Stat_t) error {
	const groupOrOthers = 0o022
	var why, way string
	switch {
	case st.Uid != 0:
		owner := hints.User(int(st.Uid))
		why = fmt.Sprintf("%s is owned by %s, and would be restarted with root's rights", name, owner)
		way = fmt.Sprintf("have %s restart it; or, if you trust %s as you trust root: cr_restart --trust", owner, owner)
	case st.Mode&groupOrOthers != 0:
		why = fmt.Sprintf("%s may be written to by other users (mode %04o), and would be restarted with root's rights", name, st.Mode&0o7777)
		way = "if you know that none of them has changed it: cr_restart --trust"
	default:
		return nil
	}
	return &ckpt.Error{Op: "restart", Object: name, Errno: unix.EPERM, Detail: []string{why, way}}
}

// distrustLinks returns the error, EPERM, for a name in files.img that leads through
// another user's symbolic link to a file that is not that user's. When the job was saved
// no part of a name was a link. CRIU opens the files as root, and the user could have it
// open any.
func distrustLinks(r *ckpt.RestartRequest, filesImage []byte) error {
	if os.Geteuid() != 0 || r.Trust {
		return nil
	}
	files, err := images.Files(filesImage)
	if err != nil {
		return err
	}
	plain := make(map[string]bool) // what has been found not to be a link, or to be root's
	for _, f := range files {
		if f.Type != images.TypeReg {
			continue
		}
		if link, owner := foreignLink(f.Name, plain); link != "" {
			return &ckpt.Error{Op: "restart", Object: f.Name, Errno: unix.EPERM, Detail: []string{
				fmt.Sprintf("%s has become a symbolic link of %s, and leads to a file of another user, which would be opened with root's rights", show.Name(link), hints.User(int(owner))),
				"if you have seen where it leads and trust that: cr_restart --trust",
			}}
		}
	}
	return nil
}

// foreignLink returns the part of a name that is a symbolic link of another user than
// root, and not of the owner of what the name leads to; "" if there is none.
func foreignLink(name string, plain map[string]bool) (link string, owner uint32) {
	for i := 1; i <= len(name); i++ {
		if i < len(name) && name[i] != '/' || plain[name[:i]] {
			continue
		}
		var st, target unix.Stat_t
		if unix.Lstat(name[:i], &st) != nil {
			return "", 0 // criu says what is missing
		}
		if st.Mode&unix.S_IFMT != unix.S_IFLNK || st.Uid == 0 {
			plain[name[:i]] = true
			continue
		}
		if unix.Stat(name, &target) == nil && target.Uid != st.Uid {
			return name[:i], st.Uid
		}
	}
	return "", 0
}
