//go:build linux && amd64

package ctrlsim

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// shimVar tells a process that it is the shim and which descriptor leads to the
// supervisor. The program's own environment comes through that descriptor, so
// the program never sees the variable.
const shimVar = "CTRLSIM_SHIM"

// shimConfig is what the supervisor sends to the shim.
type shimConfig struct {
	Path    string
	Argv    []string
	Env     []string
	Files   int   // the program's descriptors are below this number
	Count   []int // system calls to be trapped
	Every   bool  // all are
	Writing bool  // of the openings, only those for writing
}

// The messages of the shim, one byte each. msgListener carries the descriptor,
// msgExec eight bytes with the time, msgFailed eight bytes with the errno and a
// text up to the end. End of file after msgExec means that the exec worked.
const (
	msgListener = 'L'
	msgExec     = 'X'
	msgFailed   = 'F'
)

// initCalled keeps a binary that forgets Init from running its main, or all of
// its tests, as a shim again and again.
var initCalled bool

// Init becomes the shim in a process that a Command has started for that, and
// does not return then; in any other it does nothing. It must be called first
// thing in main or TestMain.
func Init() {
	initCalled = true
	v, ok := os.LookupEnv(shimVar)
	if !ok {
		return
	}
	fd, err := strconv.Atoi(v)
	if err != nil {
		fmt.Fprintf(os.Stderr, "ctrlsim: bad %s=%q\n", shimVar, v)
		os.Exit(125)
	}
	shim(fd)
}

// shim installs the filter on one thread and execs the program on it.
//
// Everything that the filter could trap, talking to the supervisor included,
// is done by other threads, which do not have it: a trapped call would wait for
// the supervisor, which waits for the listener.
func shim(fd int) {
	unix.CloseOnExec(fd)
	var cfg shimConfig
	if err := readConfig(fd, &cfg); err != nil {
		shimFailed(fd, "configuration", err)
	}
	if err := unix.CloseRange(uint(cfg.Files), ^uint(0), unix.CLOSE_RANGE_CLOEXEC); err != nil {
		shimFailed(fd, "close_range", err)
	}
	prog, err := assembleFilter(cfg.Count, cfg.Every, cfg.Writing)
	if err != nil {
		shimFailed(fd, "filter", err)
	}

	// From the filter on until it may exec, the thread makes no call but one that
	// is never trapped. Nobody would answer others, which the runtime makes to wait.
	runtime.GOMAXPROCS(4)
	type installed struct {
		fd  int
		err error
	}
	var ready atomic.Pointer[installed]
	var run atomic.Bool
	execFailed := make(chan error)
	go func() {
		runtime.LockOSThread()
		in := new(installed)
		in.fd, in.err = installFilter(prog)
		pause := unix.Timespec{Nsec: 50e3}
		for ready.Store(in); !run.Load(); {
			unix.RawSyscall(unix.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&pause)), 0, 0)
		}
		execFailed <- syscall.Exec(cfg.Path, cfg.Argv, cfg.Env)
		select {}
	}()
	in := ready.Load()
	for ; in == nil; in = ready.Load() {
		time.Sleep(50 * time.Microsecond)
	}
	if in.err != nil {
		shimFailed(fd, "filter", in.err)
	}
	if err := unix.Sendmsg(fd, []byte{msgListener}, unix.UnixRights(in.fd), nil, 0); err != nil {
		shimFailed(fd, "sendmsg", err)
	}
	unix.Close(in.fd)
	if err := readByte(fd); err != nil {
		os.Exit(125) // the supervisor has given up
	}
	msg := binary.NativeEndian.AppendUint64([]byte{msgExec}, uint64(monotonic()))
	unix.Sendto(fd, msg, unix.MSG_NOSIGNAL, nil)
	run.Store(true)
	shimFailed(fd, "exec", <-execFailed)
}

func shimFailed(fd int, what string, err error) {
	var errno syscall.Errno
	errors.As(err, &errno)
	msg := binary.NativeEndian.AppendUint64([]byte{msgFailed}, uint64(errno))
	msg = append(msg, what...)
	if errno == 0 {
		msg = append(msg, ": "+err.Error()...)
	}
	unix.Sendto(fd, msg, unix.MSG_NOSIGNAL, nil)
	os.Exit(125)
}

// monotonic is a time that is the same in all processes.
func monotonic() time.Duration {
	var ts unix.Timespec
	unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return time.Duration(ts.Nano())
}

func readByte(fd int) error {
	_, err := io.ReadFull(fdReader(fd), make([]byte, 1))
	return err
}

func readConfig(fd int, cfg *shimConfig) error {
	var size [8]byte
	if _, err := io.ReadFull(fdReader(fd), size[:]); err != nil {
		return err
	}
	b := make([]byte, binary.NativeEndian.Uint64(size[:]))
	if _, err := io.ReadFull(fdReader(fd), b); err != nil {
		return err
	}
	return json.Unmarshal(b, cfg)
}

func appendConfig(b []byte, cfg *shimConfig) ([]byte, error) {
	j, err := json.Marshal(cfg)
	if err != nil {
		return nil, err
	}
	return append(binary.NativeEndian.AppendUint64(b, uint64(len(j))), j...), nil
}

// fdReader reads a descriptor without the runtime's poller.
type fdReader int

func (fd fdReader) Read(p []byte) (int, error) {
	for {
		n, err := unix.Read(int(fd), p)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return 0, err
		case n == 0:
			return 0, io.EOF
		}
		return n, nil
	}
}
