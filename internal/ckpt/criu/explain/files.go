package explain

import (
	"fmt"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt"
)

// What to do about a file that is not there any more, or is another one.
const (
	missingHint = "cr_restart --relocate finds files elsewhere; cr_checkpoint --save-all takes mapped files along"
	changedHint = "bring the one that was saved back, or have it found elsewhere by cr_restart --relocate; cr_checkpoint --save-all takes mapped files along"
)

// fault is what is wrong with a file that a restart needs. The errno ESTALE stands
// for another file than the one that was saved.
type fault struct {
	errno          syscall.Errno
	sentence, todo string
}

// CRIU writes the names of files without the first slash, and says some of this
// twice.
var (
	cannotOpen = pattern(`^Can't open file (.+?)(?: on restore)?: ([^:]+)$`)
	isOther    = pattern(`^File (.+) has bad (size|mode|build-ID)(?: length)?(?: (\S+) \(expect (\S+)\))?`)
)

// fileFault finds out what is wrong with a file; not ok if the line is about
// something else.
func fileFault(text string) (f fault, ok bool) {
	if m := cannotOpen().FindStringSubmatch(text); m != nil {
		return fault{lastErrno(text), fmt.Sprintf("cannot open %s: %s", rooted(m[1]), m[2]), missingHint}, true
	}
	m := isOther().FindStringSubmatch(text)
	switch {
	case m == nil:
		return fault{}, false
	case m[2] == "build-ID":
		return fault{unix.ESTALE, fmt.Sprintf("%s is not the file that was saved: it has another build ID, as after an update", rooted(m[1])), changedHint}, true
	case m[2] == "mode":
		return fault{unix.ESTALE, fmt.Sprintf("%s is not the file that was saved: its mode is %s, not %s", rooted(m[1]), m[3], m[4]), "give it its mode back by chmod"}, true
	default:
		return fault{unix.ESTALE, fmt.Sprintf("%s is not the file that was saved: its %s is %s, not %s", rooted(m[1]), m[2], m[3], m[4]), changedHint}, true
	}
}

// rooted is a name with the slash that CRIU leaves out.
func rooted(name string) string { return "/" + strings.TrimPrefix(name, "/") }

// lastErrno is the error number that a line of CRIU's log ends with, as a text of
// strerror(3); 0 for none.
func lastErrno(text string) syscall.Errno {
	i := strings.LastIndex(text, ": ")
	if i < 0 {
		return 0
	}
	said := text[i+2:]
	if strings.Contains(text, "Can't chose service_fd_base") {
		return unix.EMFILE
	}
	for _, errno := range []syscall.Errno{
		unix.ENOSPC, unix.ENOMEM, unix.EACCES, unix.EPERM, unix.ENOENT, unix.EDQUOT, unix.EROFS, unix.EFBIG, unix.EMFILE, unix.ENFILE, unix.ESRCH,
		unix.EOPNOTSUPP,
	} {
		if said == ckpt.Strerror(errno) {
			return errno
		}
	}
	return 0
}
