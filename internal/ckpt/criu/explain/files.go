package explain

import (
	"fmt"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/show"
)

// What to do about a file that is not there any more, or is another one. What is
// mapped is there to be taken along by --save-all; what is only open is not.
const (
	relocateHint = "cr_restart --relocate finds files elsewhere"
	missingHint  = relocateHint + "; cr_checkpoint --save-all takes mapped files along"
	deniedHint   = relocateHint + "; cr_restart --keep-stdio does without those of standard descriptors"
	changedHint  = "bring the one that was saved back, or have it found elsewhere by cr_restart --relocate; cr_checkpoint --save-all takes mapped files along"
)

// CRIU writes the names of files without the first slash, says twice that it cannot
// open one, and then what for.
var (
	cannotOpen = pattern(`^Can't open file (.+?)(?: on restore)?: ([^:]+)$`)
	isOther    = pattern(`^File (.+) has bad (size|mode|build-ID)(?: length)?(?: (\S+) \(expect (\S+)\))?`)
)

// mappedFile is what follows about a file that is mapped.
const mappedFile = "Can't fixup VMA's fd"

// fileFault finds out from a line of CRIU's log and those behind it what is wrong
// with a file that a restore needs; "" if the line is about something else. The
// number ESTALE stands for another file than the one that was saved.
func fileFault(log []string) (errno syscall.Errno, sentence, hint string) {
	if m := cannotOpen.compiled().FindStringSubmatch(log[0]); m != nil {
		hint = relocateHint
		for _, next := range log[1:] {
			if strings.HasPrefix(next, mappedFile) {
				hint = missingHint
			}
			if !cannotOpen.compiled().MatchString(next) {
				break
			}
		}
		if hint == relocateHint && lastErrno(log[0]) == unix.EACCES {
			hint = deniedHint
		}
		return lastErrno(log[0]), fmt.Sprintf("cannot open %s: %s", show.Name(rooted(m[1])), m[2]), hint
	}
	m := isOther.compiled().FindStringSubmatch(log[0])
	if m == nil {
		return 0, "", ""
	}
	sentence = show.Name(rooted(m[1])) + " is not the file that was saved: "
	switch {
	case m[2] == "build-ID":
		return unix.ESTALE, sentence + "it has another build ID, as after an update", changedHint
	case m[3] == "":
		return unix.ESTALE, sentence + "it has another " + m[2], changedHint
	case m[2] == "mode":
		return unix.ESTALE, sentence + fmt.Sprintf("its mode is %s, not %s", m[3], m[4]), "give it its mode back by chmod"
	default:
		return unix.ESTALE, sentence + fmt.Sprintf("its %s is %s, not %s", m[2], m[3], m[4]), changedHint
	}
}

// rooted is a name with the slash that CRIU leaves out.
func rooted(name string) string { return "/" + strings.TrimPrefix(name, "/") }

// errnos are the numbers by whose text a line of CRIU's log may end. Others say
// nothing to a user, or are CRIU's own.
var errnos = []syscall.Errno{
	unix.EPERM, unix.ENOENT, unix.ESRCH, unix.ENXIO, unix.ENOMEM, unix.EACCES, unix.EBUSY, unix.EEXIST, unix.ENODEV, unix.ENOTDIR, unix.EISDIR, unix.EINVAL,
	unix.ENFILE, unix.EMFILE, unix.ETXTBSY, unix.EFBIG, unix.ENOSPC, unix.EROFS, unix.ENAMETOOLONG, unix.ELOOP, unix.EOPNOTSUPP,
	unix.EADDRINUSE, unix.EADDRNOTAVAIL, unix.EDQUOT,
}

// lastErrno is the error number that a line of CRIU's log ends with, as a text of
// strerror(3); 0 for none.
func lastErrno(text string) syscall.Errno {
	i := strings.LastIndex(text, ": ")
	if i < 0 {
		return 0
	}
	for _, errno := range errnos {
		if text[i+2:] == ckpt.Strerror(errno) {
			return errno
		}
	}
	return 0
}
