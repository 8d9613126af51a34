package memory

import (
	"encoding/binary"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// userfaultfd(2) and ioctl_userfaultfd(2), from linux/userfaultfd.h, which package
// unix does not have.
const (
	uffdioAPI      = 0xc018aa3f
	uffdioRegister = 0xc020aa00
	uffdioWake     = 0x8010aa02
	uffdioCopy     = 0xc028aa03
	uffdioZeropage = 0xc020aa04

	uffdAPI = 0xaa // the version

	registerMissing      = 1
	registerWriteProtect = 2
	zeropageDontWake     = 1

	eventPagefault = 0x12
	eventFork      = 0x13
	eventRemap     = 0x14
	eventRemove    = 0x15
	eventUnmap     = 0x16

	// What CRIU asks the kernel for.
	features = 1<<(eventFork-eventPagefault) | 1<<(eventRemap-eventPagefault) |
		1<<(eventRemove-eventPagefault) | 1<<(eventUnmap-eventPagefault)

	messageSize = 32 // of struct uffd_msg
)

var pageSize = uint64(unix.Getpagesize())

// CanFill reports whether this process, and so criu as well, may fill the memory of
// others by userfaultfd(2). Ordinary users as a rule may not.
func CanFill() bool {
	fd, _, errno := unix.Syscall(unix.SYS_USERFAULTFD, unix.O_CLOEXEC|unix.O_NONBLOCK, 0, 0)
	if errno != 0 {
		return false
	}
	defer unix.Close(int(fd))
	api := struct{ api, features, ioctls uint64 }{uffdAPI, features, 0}
	return ioctl(int(fd), uffdioAPI, unsafe.Pointer(&api)) == nil
}

func ioctl(fd int, request uintptr, arg unsafe.Pointer) error {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(arg))
	if errno != 0 {
		return errno
	}
	return nil
}

// copyPages copies data to an address, and wakes whoever waits for it. It returns
// how much it has copied, and why not all.
func copyPages(fd int, address uint64, data []byte) (int, error) {
	arg := struct {
		dst, src, length, mode uint64
		copied                 int64
	}{dst: address, src: uint64(uintptr(unsafe.Pointer(&data[0]))), length: uint64(len(data))}
	err := ioctl(fd, uffdioCopy, unsafe.Pointer(&arg))
	runtime.KeepAlive(data)
	return int(max(arg.copied, 0)), err
}

// zeroPage puts a page of zeros at an address, and wakes whoever waits for it,
// unless mode is zeropageDontWake.
func zeroPage(fd int, address, mode uint64) error {
	arg := struct {
		start, length, mode uint64
		zeroed              int64
	}{start: address, length: pageSize, mode: mode}
	return ioctl(fd, uffdioZeropage, unsafe.Pointer(&arg))
}

// Gone reports whether the address space of a userfaultfd is gone: no process is left
// that it was for.
func Gone(uffd int) bool { return nowhere(uffd) == unix.ESRCH }

// changing reports whether there is an event that was not read, or will be one soon.
func changing(uffd int) bool { return nowhere(uffd) == unix.EAGAIN }

// nowhere returns the error for a page where nothing is mapped.
func nowhere(uffd int) error {
	// The kernel tells that apart from an address space that is gone. A program
	// may map this address if it insists, but the kernel does not choose it.
	const address = 64 << 10
	return zeroPage(uffd, address, zeropageDontWake)
}

// RegisterWriteProtect registers memory for write protection, too, which /proc shows.
// Nothing is protected, and no page changes. It takes Linux 5.7.
func RegisterWriteProtect(uffd int, start, end uint64) error {
	return register(uffd, start, end, registerMissing|registerWriteProtect)
}

func register(fd int, start, end, mode uint64) error {
	arg := struct{ start, length, mode, ioctls uint64 }{start, end - start, mode, 0}
	return ioctl(fd, uffdioRegister, unsafe.Pointer(&arg))
}

// wake wakes whoever waits for a page.
func wake(fd int, address uint64) {
	arg := struct{ start, length uint64 }{address, pageSize}
	_ = ioctl(fd, uffdioWake, unsafe.Pointer(&arg))
}

// uffdMessage is struct uffd_msg.
type uffdMessage []byte

func (m uffdMessage) event() byte { return m[0] }

// arg is one of the three numbers that an event has.
func (m uffdMessage) arg(n int) uint64 { return binary.NativeEndian.Uint64(m[8+8*n:]) }

// faultAddress is that of the page that is waited for.
func (m uffdMessage) faultAddress() uint64 { return m.arg(1) &^ (pageSize - 1) }

// child is the descriptor for the memory of a new process.
func (m uffdMessage) child() int { return int(binary.NativeEndian.Uint32(m[8:])) }

// temporary reports whether the same call may succeed after an event was read.
func temporary(err error) bool { return err == syscall.EAGAIN || err == syscall.EINTR }
