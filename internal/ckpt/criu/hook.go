package criu

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt"
)

// Criu runs an action script at certain points of its work and waits for it.
// The script is our own program: it asks the process that has started criu, by
// a socket, and ends with the answer. Criu closes the script's descriptors, so
// the way is the environment; the socket's name is in the abstract space, where
// nothing is left behind.

// hookVar tells a hook where to ask: the name of a socket, without its NUL.
const hookVar = "_BLCR_CLI_HOOK"

// The points of criu's work that matter, by its own names.
const (
	stagePostDump    = "post-dump"    // all is written, the processes are frozen
	stagePostRestore = "post-restore" // all processes are there, none runs
	stagePreResume   = "pre-resume"   // the same, but they are past criu's code
)

// hookYes is a hook's exit status for yes; any other stops criu, and the
// processes run on or are killed again.
const hookYes = 0

// isHook tells whether criu has started this process as its action script.
func isHook() bool {
	return os.Getenv(hookVar) != "" && os.Getenv("CRTOOLS_SCRIPT_ACTION") != ""
}

// answerHook asks the process that has started criu whether criu may go on, and
// returns the exit status that tells criu the answer.
func answerHook() int {
	stage := os.Getenv("CRTOOLS_SCRIPT_ACTION")
	switch stage {
	case stagePostDump, stagePostRestore, stagePreResume:
	default:
		return hookYes
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = unix.Connect(fd, hookAddress(os.Getenv(hookVar)))
	}
	if err == nil {
		_, err = unix.Write(fd, []byte(stage+" "+os.Getenv("CRTOOLS_INIT_PID")))
	}
	answer := make([]byte, 1)
	for err == nil {
		var n int
		n, err = unix.Read(fd, answer)
		if err == unix.EINTR {
			err = nil
			continue
		}
		if err == nil && n == 1 {
			return int(answer[0])
		}
		break
	}
	// The one that wanted all this is gone.
	return 1
}

// hookAddress is a name in the abstract space.
func hookAddress(name string) *unix.SockaddrUnix { return &unix.SockaddrUnix{Name: "@" + name} }

// listenHooks makes the socket that hooks connect to.
func listenHooks() (fd int, name string, err error) {
	random := make([]byte, 16)
	if _, err := rand.Read(random); err != nil {
		return -1, "", err
	}
	name = "blcr-cli-" + hex.EncodeToString(random)
	fd, err = unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, "", sysError("socket", "", err)
	}
	if err = unix.Bind(fd, hookAddress(name)); err == nil {
		err = unix.Listen(fd, 4)
	}
	if err != nil {
		unix.Close(fd)
		return -1, "", sysError("bind", "socket", err)
	}
	return fd, name, nil
}

// hook is one that has asked and waits for its answer.
type hook struct {
	fd    int
	stage string
	root  int // the root process as criu sees it, 0 where it does not say
}

// acceptHook takes the next hook, nil where it is none of ours.
func acceptHook(listener int) *hook {
	fd, _, err := unix.Accept4(listener, unix.SOCK_CLOEXEC)
	if err != nil {
		return nil
	}
	h := &hook{fd: fd}
	// The name is no secret from other programs of this user, only from others.
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil || int(cred.Uid) != os.Geteuid() && cred.Uid != 0 {
		h.close()
		return nil
	}
	text := make([]byte, 128)
	n, err := unix.Read(fd, text)
	if err != nil || n <= 0 {
		h.close()
		return nil
	}
	var root string
	h.stage, root, _ = strings.Cut(string(text[:n]), " ")
	fmt.Sscan(root, &h.root)
	return h
}

// answer lets criu go on, or not.
func (h *hook) answer(yes bool) {
	status := []byte{hookYes}
	if !yes {
		status[0] = 1
	}
	_, _ = unix.Write(h.fd, status)
	h.close()
}

func (h *hook) close() { unix.Close(h.fd) }

func sysError(op, object string, err error) error { return ckpt.SystemError(op, object, err) }
func errnoOf(err error) syscall.Errno             { return ckpt.ErrnoOf(err) }
