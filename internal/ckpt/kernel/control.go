package kernel

import (
	"fmt"
	"runtime"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/ckpt/kernel/abi"
)

// control is a descriptor of the control file. It is a plain number and not an
// os.File: forked children use it, and nothing but close may close it.
//
// There is one method per operation, so that no caller sees an ioctl number or
// an unsafe.Pointer. Their errors are *ckpt.Error.
type control int

// openControl opens the control file. An error is the errno of open.
func openControl() (control, syscall.Errno) {
	for {
		fd, err := unix.Open(abi.ControlFile, unix.O_WRONLY|unix.O_CLOEXEC, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return -1, err.(syscall.Errno)
		}
		return control(fd), 0
	}
}

// moveFrom makes sure that the descriptor has another number than fd.
func (c *control) moveFrom(fd int32) error {
	if int32(*c) != fd {
		return nil
	}
	moved, err := unix.FcntlInt(uintptr(*c), unix.F_DUPFD_CLOEXEC, int(fd)+1)
	if err != nil {
		return &ckpt.Error{Op: "fcntl", Object: abi.ControlFile, Errno: err.(syscall.Errno)}
	}
	unix.Close(int(*c))
	*c = control(moved)
	return nil
}

// close ends the descriptor; the module reaps or abandons its request.
func (c control) close() { unix.Close(int(c)) }

// version is CR_OP_VERSION: an error if the module has another interface version.
func (c control) version() error {
	_, err := c.ioctl("CR_OP_VERSION", abi.OpVersion, abi.Version)
	return err
}

// chkptReq is CR_OP_CHKPT_REQ.
func (c control) chkptReq(args *abi.ChkptArgs) error {
	_, err := c.ioctlPtr("CR_OP_CHKPT_REQ", abi.OpChkptReq, unsafe.Pointer(args))
	return err
}

// chkptLog is CR_OP_CHKPT_LOG, called twice.
func (c control) chkptLog() ([]string, error) {
	return c.log("CR_OP_CHKPT_LOG", abi.OpChkptLog)
}

// chkptReap is CR_OP_CHKPT_REAP.
func (c control) chkptReap() error {
	_, err := c.ioctl("CR_OP_CHKPT_REAP", abi.OpChkptReap, abi.NoArg)
	return err
}

// rstrtReq is CR_OP_RSTRT_REQ.
func (c control) rstrtReq(args *abi.RstrtArgs) error {
	_, err := c.ioctlPtr("CR_OP_RSTRT_REQ", abi.OpRstrtReq, unsafe.Pointer(args))
	return err
}

// rstrtProcs is CR_OP_RSTRT_PROCS: whether a further process is needed, and its
// number of threads. It may block until the previous process has been read.
func (c control) rstrtProcs(table *abi.ProcsTbl) (more bool, err error) {
	n, err := c.ioctlPtr("CR_OP_RSTRT_PROCS", abi.OpRstrtProcs, unsafe.Pointer(table))
	return n > 0, err
}

// rstrtLog is CR_OP_RSTRT_LOG, called twice.
func (c control) rstrtLog() ([]string, error) {
	return c.log("CR_OP_RSTRT_LOG", abi.OpRstrtLog)
}

// rstrtReap is CR_OP_RSTRT_REAP. The pid is 0 for a child of init.
func (c control) rstrtReap() (pid int, err error) {
	return c.ioctl("CR_OP_RSTRT_REAP", abi.OpRstrtReap, abi.NoArg)
}

// wait polls until the request is complete. It returns ETIME at the deadline, of
// which the zero value is none, and EINTR when a signal has been caught.
func (c control) wait(deadline time.Time) error {
	for {
		timeout := -1
		if !deadline.IsZero() {
			left := time.Until(deadline)
			if left <= 0 {
				return &ckpt.Error{Op: "poll", Object: abi.ControlFile, Errno: unix.ETIME}
			}
			// Rounded up, so that the last round does not spin. poll's int of
			// milliseconds holds 24 days; after those the loop goes on.
			timeout = int(min((left+time.Millisecond-1)/time.Millisecond, 1<<31-1))
		}
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(c), Events: unix.POLLIN}}, timeout)
		if err != nil {
			return &ckpt.Error{Op: "poll", Object: abi.ControlFile, Errno: err.(syscall.Errno)}
		}
		if n > 0 {
			return nil
		}
	}
}

// log collects the module's log of the request. The first call returns the size,
// the second one the text.
func (c control) log(name string, op uintptr) ([]string, error) {
	size, err := c.ioctlPtr(name, op, unsafe.Pointer(&abi.LogArgs{}))
	if err != nil || size == 0 {
		return nil, err
	}
	text := make([]byte, size)
	args := &abi.LogArgs{Len: uint32(size), Buf: &text[0]}
	_, err = c.ioctlPtr(name, op, unsafe.Pointer(args))
	runtime.KeepAlive(text)
	if err != nil {
		return nil, err
	}
	return logLines(text), nil
}

// logLines splits the module's text, up to its NUL.
func logLines(text []byte) []string {
	s, _, _ := strings.Cut(string(text), "\x00")
	s = strings.TrimSuffix(s, "\n")
	if s == "" {
		return nil
	}
	return strings.Split(s, "\n")
}

// ioctl is for the operations that take a number.
func (c control) ioctl(name string, op, arg uintptr) (int, error) {
	n, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(c), op, arg)
	return c.result(name, n, errno)
}

// ioctlPtr is for the operations that take a pointer.
func (c control) ioctlPtr(name string, op uintptr, arg unsafe.Pointer) (int, error) {
	n, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(c), op, uintptr(arg))
	return c.result(name, n, errno)
}

func (c control) result(name string, n uintptr, errno syscall.Errno) (int, error) {
	if errno != 0 {
		return 0, &ckpt.Error{Op: "ioctl " + name, Object: fmt.Sprintf("%s (fd %d)", abi.ControlFile, int(c)), Errno: errno}
	}
	return int(n), nil
}
