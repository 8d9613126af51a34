//go:build linux && amd64

package ctrlsim

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/signals"
)

// The structures of <linux/seccomp.h>.
type (
	notif struct {
		ID    uint64
		Tid   uint32
		Flags uint32
		Data  seccompData
	}
	notifResp struct {
		ID    uint64
		Val   int64
		Error int32
		Flags uint32
	}
	notifAddfd struct {
		ID                              uint64
		Flags, Srcfd, Newfd, NewfdFlags uint32
	}
)

// listener is the supervisor's end of the filter.
type listener int

func (l listener) ioctl(cmd uint, arg unsafe.Pointer) (int, error) {
	for {
		r, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(l), uintptr(cmd), uintptr(arg))
		switch errno {
		case 0:
			return int(r), nil
		case unix.EINTR:
			continue
		}
		return -1, errno
	}
}

// recv takes up the next notification. ENOENT: the caller has gone meanwhile.
func (l listener) recv() (*notif, error) {
	n := new(notif)
	_, err := l.ioctl(unix.SECCOMP_IOCTL_NOTIF_RECV, unsafe.Pointer(n))
	return n, err
}

// answer ends the notification's system call with val, or with errno if that is
// not 0. The kernel passes any number on, BLCR's own above 4095 included.
func (l listener) answer(n *notif, val int64, errno int) error {
	r := notifResp{ID: n.ID, Val: val, Error: int32(-errno)}
	_, err := l.ioctl(unix.SECCOMP_IOCTL_NOTIF_SEND, unsafe.Pointer(&r))
	return err
}

// resume lets the kernel execute the system call.
func (l listener) resume(n *notif) error {
	r := notifResp{ID: n.ID, Flags: unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE}
	_, err := l.ioctl(unix.SECCOMP_IOCTL_NOTIF_SEND, unsafe.Pointer(&r))
	return err
}

// install answers with a new descriptor for fd.
func (l listener) install(n *notif, fd int, cloexec bool) error {
	a := notifAddfd{ID: n.ID, Flags: unix.SECCOMP_ADDFD_FLAG_SEND, Srcfd: uint32(fd)}
	if cloexec {
		a.NewfdFlags = unix.O_CLOEXEC
	}
	// A signal to this thread, such as the runtime's SIGURG, would interrupt it
	// between the reply and the descriptor: the caller's open returns 0 then.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	mask, err := signals.BlockAll()
	if err != nil {
		return err
	}
	defer signals.RestoreMask(mask)
	_, err = l.ioctl(unix.SECCOMP_IOCTL_NOTIF_ADDFD, unsafe.Pointer(&a))
	return err
}

// valid says whether the caller still waits. What was read from its memory is
// worth something only if it does.
func (l listener) valid(n *notif) bool {
	id := n.ID
	_, err := l.ioctl(unix.SECCOMP_IOCTL_NOTIF_ID_VALID, unsafe.Pointer(&id))
	return err == nil
}

// serve gives every notification to handle, one goroutine each, so that one
// that blocks does not keep the others waiting. It returns when stop becomes
// readable or nobody is left who has the filter.
func (l listener) serve(stop int, handle func(*notif)) error {
	fds := []unix.PollFd{
		{Fd: int32(l), Events: unix.POLLIN},
		{Fd: int32(stop), Events: unix.POLLIN},
	}
	for {
		if _, err := unix.Poll(fds, -1); err != nil {
			if errors.Is(err, unix.EINTR) {
				continue
			}
			return fmt.Errorf("poll: %w", err)
		}
		switch {
		case fds[1].Revents != 0:
			return nil
		case fds[0].Revents&unix.POLLIN != 0:
			n, err := l.recv()
			if errors.Is(err, unix.ENOENT) {
				continue
			}
			if err != nil {
				return fmt.Errorf("SECCOMP_IOCTL_NOTIF_RECV: %w", err)
			}
			handle(n)
		case fds[0].Revents != 0:
			return nil
		}
	}
}
