package criu

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/ctxfile"
	"blcr-cli/internal/hints"
)

// What criu says when it fails is text for its developers. The user gets the
// error number that it comes down to, and the lines that tell the most.

// mostDetail is how many lines of criu's are shown.
const mostDetail = 4

// criuError is the error for a criu that has failed. Texts are the lines of its
// log, otherwise is the number if they tell none, and at is where it happened.
//
// First come sentences for users, then criu's own lines, and last the way out.
func criuError(op string, status unix.WaitStatus, texts []string, otherwise syscall.Errno, at *scene) *ckpt.Error {
	e := &ckpt.Error{Op: op, Object: "criu", Errno: otherwise}
	at.begin(texts)
	var sentences, said, ways []string
	add := func(to *[]string, line string) {
		if line != "" && !slices.Contains(*to, line) {
			*to = append(*to, line)
		}
	}
	for _, text := range texts {
		if consequence().MatchString(text) {
			continue
		}
		errno := meaning(text)
		if trouble, about, way := troubleWith(text); about != "" {
			errno = trouble
			add(&sentences, about)
			add(&ways, way)
		} else {
			sentence, way := at.advise(text)
			add(&sentences, sentence)
			add(&ways, way)
			add(&said, text)
		}
		if errno != 0 && e.Errno == otherwise {
			e.Errno = errno
		}
	}
	if len(sentences) > 0 {
		said = slices.DeleteFunc(said, func(text string) bool { return followUp().MatchString(text) })
	} else if len(said) == 0 && !status.Signaled() {
		sentences = hints.Processes()
	}
	e.Detail = sentences[:min(len(sentences), mostDetail)]
	for _, text := range said[:min(len(said), mostDetail)] {
		e.Detail = append(e.Detail, "criu: "+printable(text))
	}
	e.Detail = append(e.Detail, ways...)
	if status.Signaled() {
		e.Detail = append(e.Detail, fmt.Sprintf("criu was killed by signal %d", int(status.Signal())))
	} else if len(said) == 0 && len(ways) == 0 {
		e.Detail = append(e.Detail, fmt.Sprintf("criu failed with exit status %d and does not say why", status.ExitStatus()))
	}
	return e
}

// printable is a line of criu's, which may have names in it, for a terminal.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if strconv.IsPrint(r) {
			return r
		}
		return '?'
	}, text)
}

// pattern is a regular expression that is compiled when it is needed: every start
// of a command would have to wait for it.
func pattern(expr string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(expr) })
}

// consequence is lines that only follow from others.
var consequence = pattern(`FAILED\.$|^Unable to open stats-(dump|restore)|^One of more action scripts failed|^Script .* exited with|^Aborting restore due to|^Dump files \(fd|^Killing processes because` +
	"|^Can't fixup VMA's fd|^`- Can't open vma" + `|^[0-9]+ exited, status=1$|^[0-9]+ killed by signal 9`)

// What to do about a file that is not there any more, or is another.
const (
	missingWay = "cr_restart --relocate finds files elsewhere; cr_checkpoint --save-all takes mapped files along"
	changedWay = "bring the one that was saved back, or have it found elsewhere by cr_restart --relocate; cr_checkpoint --save-all takes mapped files along"
)

// A restart needs many files. What criu says of those that it cannot have, the
// names without the first slash, and with some of it said twice.
var (
	cannotOpen = pattern(`^Can't open file (.+?)(?: on restore)?: ([^:]+)$`)
	isOther    = pattern(`^File (.+) has bad (size|mode|build-ID)(?: length)?(?: (\S+) \(expect (\S+)\))?`)
)

// troubleWith finds out what is wrong with a file, "" if text is of something
// else, and what to do. ESTALE stands for another file than was saved.
func troubleWith(text string) (errno syscall.Errno, about, way string) {
	if m := cannotOpen().FindStringSubmatch(text); m != nil {
		return meaning(text), fmt.Sprintf("cannot open %s: %s", rooted(m[1]), m[2]), missingWay
	}
	m := isOther().FindStringSubmatch(text)
	switch {
	case m == nil:
		return 0, "", ""
	case m[2] == "build-ID":
		return unix.ESTALE, fmt.Sprintf("%s is not the file that was saved: it has another build ID, as after an update", rooted(m[1])), changedWay
	case m[2] == "mode":
		return unix.ESTALE, fmt.Sprintf("%s is not the file that was saved: its mode is %s, not %s", rooted(m[1]), m[3], m[4]), "give it its mode back by chmod"
	default:
		return unix.ESTALE, fmt.Sprintf("%s is not the file that was saved: its %s is %s, not %s", rooted(m[1]), m[2], m[3], m[4]), changedWay
	}
}

// rooted is a name with the slash that criu leaves out.
func rooted(name string) string { return "/" + strings.TrimPrefix(name, "/") }

// meaning is the error number that a line of criu's log ends with, as a text of
// strerror; 0 for none.
func meaning(text string) syscall.Errno {
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

// contextError is an error of package context in this engine's terms.
func contextError(err error) error {
	var e *ctxfile.Error
	if err == nil || !errors.As(err, &e) {
		return err
	}
	out := &ckpt.Error{Op: e.Op, Object: "context", Errno: e.Errno}
	switch {
	case errors.Is(err, ctxfile.ErrBLCR):
		out.Detail = []string{"this context was written by BLCR's kernel module, which this machine does not have"}
	case e.Reason != "" && e.Object != "":
		out.Detail = []string{fmt.Sprintf("context: %s: %s", e.Object, e.Reason)}
	case e.Reason != "":
		out.Detail = []string{"context: " + e.Reason}
	}
	return out
}
