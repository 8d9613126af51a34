//go:build linux && amd64

package ctrlsim

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt/kernel/abi"
)

const controlFile = abi.ControlFile

var native = binary.NativeEndian

// pathMax is the size of the buffers for paths in the interface, <linux/limits.h>.
const pathMax = 4096

// op is one call of an operation.
type op struct {
	n    *notif
	f    *file
	name string // as in the transcript: CHKPT_REQ
	arg  uint64
	args string // decoded, as in the transcript
	more string // what follows the result in the transcript

	shown string // instead of the result, if that changes from run to run
}

func (o *op) tid() int { return int(o.n.Tid) }

// read fills b from the caller's memory.
func (o *op) read(addr uint64, b []byte) error { return readMem(o.tid(), addr, b) }

// write fills the caller's memory from b.
func (o *op) write(addr uint64, b []byte) error { return writeMem(o.tid(), addr, b) }

// noAnswer is what a handler returns that answers later, or to nobody.
const noAnswer = int64(-1 << 62)

func failed(e unix.Errno) int64 { return -int64(e) }

// operation is an operation of the control file.
type operation struct {
	name   string
	decode func(*supervisor, *op) error // reads the arguments; error: EFAULT
	do     func(*supervisor, *op) int64
}

// decoding is apart from doing so that a call that a fault plan makes fail
// shows its arguments, too.
var operations map[uint32]operation

func init() {
	operations = map[uint32]operation{
		uint32(abi.OpVersion):       {"VERSION", decodeHex, (*supervisor).version},
		uint32(abi.OpChkptReq):      {"CHKPT_REQ", decodeChkptReq, (*supervisor).chkptReq},
		uint32(abi.OpChkptReap):     {"CHKPT_REAP", nil, (*supervisor).reap},
		uint32(abi.OpChkptLog):      {"CHKPT_LOG", nil, (*supervisor).kernelLog},
		uint32(abi.OpChkptFwd):      {"CHKPT_FWD", decodeFwd, (*supervisor).forward},
		uint32(abi.OpRstrtReq):      {"RSTRT_REQ", decodeRstrtReq, (*supervisor).rstrtReq},
		uint32(abi.OpRstrtProcs):    {"RSTRT_PROCS", nil, (*supervisor).rstrtProcs},
		uint32(abi.OpRstrtChild):    {"RSTRT_CHILD", nil, (*supervisor).rstrtChild},
		uint32(abi.OpRstrtReap):     {"RSTRT_REAP", nil, (*supervisor).reap},
		uint32(abi.OpRstrtLog):      {"RSTRT_LOG", nil, (*supervisor).kernelLog},
		uint32(abi.OpHandPhase1):    {"HAND_PHASE1", decodeFd, (*supervisor).register},
		uint32(abi.OpHandSusp):      {"HAND_SUSP", decodeTimeout, (*supervisor).suspend},
		uint32(abi.OpHandChkpt):     {"HAND_CHKPT", decodeHex, (*supervisor).handChkpt},
		uint32(abi.OpHandAbort):     {"HAND_ABORT", decodeHex, (*supervisor).handAbort},
		uint32(abi.OpHandChkptInfo): {"HAND_CHKPT_INFO", nil, (*supervisor).handChkptInfo},
	}
}

// handleIoctl answers an operation on a control file. On any other file the
// kernel does, with ENOTTY as a rule.
func (s *supervisor) handleIoctl(n *notif) {
	f := s.fileOf(int(n.Tid), int32(n.Data.Args[0]))
	if f == nil {
		if !s.fault(n, fmt.Sprintf("%#x", uint32(n.Data.Args[1])), nil) {
			s.l.resume(n)
		}
		return
	}
	s.first(&s.firstIoctl)
	cmd := uint32(n.Data.Args[1])
	o := &op{n: n, f: f, arg: n.Data.Args[2]}
	known, ok := operations[cmd]
	if !ok {
		o.name = fmt.Sprintf("ioctl %#x", cmd)
		if !s.fault(n, o.name, func(res string) { s.log("%s = %s", o.name, res) }) {
			s.finish(o, failed(unix.ENOTTY))
		}
		return
	}
	o.name = known.name
	if cmd == uint32(abi.OpChkptReq) || cmd == uint32(abi.OpRstrtReq) {
		s.first(&s.firstRequest)
	}
	var bad error
	if known.decode != nil {
		if bad = known.decode(s, o); bad != nil && o.args == "" {
			o.args = fmt.Sprintf("%#x", o.arg)
		}
	}
	if s.fault(n, o.name, func(res string) { s.logOp(o, res) }) {
		return
	}
	if bad != nil {
		var errno unix.Errno
		if !errors.As(bad, &errno) {
			errno = unix.EFAULT
		}
		s.finish(o, failed(errno))
		return
	}
	key := scenarioKey(o.name)
	nth := s.count("any " + key)
	s.strangers("before", key, nth)
	defer s.strangers("after", key, nth)
	if s.sc.Ask && strings.HasPrefix(key, "hand-") {
		o.whose(s)
	}
	// RSTRT_CHILD is counted by process, not by call, and RSTRT_PROCS may block
	// before it fails: they ask for themselves.
	if cmd != uint32(abi.OpRstrtChild) && cmd != uint32(abi.OpRstrtProcs) {
		if res, ok := s.sc.answer(key, s.count(key)); ok {
			s.finish(o, int64(res))
			return
		}
	}
	if res := known.do(s, o); res != noAnswer {
		s.finish(o, res)
	}
}

// scenarioKey is the name of an operation in a scenario.
func scenarioKey(name string) string {
	return strings.ReplaceAll(strings.ToLower(name), "_", "-")
}

func (s *supervisor) logOp(o *op, res string) {
	line := o.name
	if o.args != "" {
		line += " " + o.args
	}
	if res != "" {
		line += " = " + res
	}
	s.log("%s%s", line, o.more)
}

// finish logs the result of an operation and gives it to the caller, in that
// order, so that what the caller does next comes after it.
func (s *supervisor) finish(o *op, res int64) {
	shown := resultString(res)
	if o.shown != "" {
		shown = o.shown
	}
	s.logOp(o, shown)
	if res < 0 {
		s.l.answer(o.n, 0, int(-res))
	} else {
		s.l.answer(o.n, res, 0)
	}
}

func decodeHex(_ *supervisor, o *op) error {
	o.args = fmt.Sprintf("%#x", o.arg)
	return nil
}

// decodeTimeout is of a struct timeval *, which is NULL in all that is simulated.
func decodeTimeout(_ *supervisor, o *op) error {
	if o.arg != 0 {
		return unix.EINVAL
	}
	o.args = "NULL"
	return nil
}

func decodeFd(_ *supervisor, o *op) error {
	o.args = fmt.Sprintf("%d", int32(o.arg))
	return nil
}

func (s *supervisor) version(o *op) int64 {
	if o.arg != abi.Version {
		return -crEVersion
	}
	return 0
}

// request is a checkpoint or restart request of a control file.
type request struct {
	f       *file
	restart *restart // nil for a checkpoint

	// Under supervisor.mu.
	log    []byte
	done   bool
	result int64
	isPid  bool // result is the pid of a process that was forked
	change broadcast
}

// printk adds lines to the request's kernel log.
func (s *supervisor) printk(r *request, format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r.log = append(fmt.Appendf(r.log, format, args...), '\n')
}

// newRequest puts a request on a file. False: it has one.
func (s *supervisor) newRequest(r *request, log []string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.f.req != nil {
		return false
	}
	for _, line := range log {
		r.log = append(append(r.log, line...), '\n')
	}
	r.f.req = r
	return true
}

// complete ends a request: its descriptors become readable.
func (s *supervisor) complete(r *request, result int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.done {
		return
	}
	r.done, r.result = true, result
	r.change.wake()
	r.f.end.Write([]byte{1})
}

// requestOf is the file's request if it is of the operation's kind.
func (s *supervisor) requestOf(o *op) *request {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := o.f.req
	if r == nil || (r.restart != nil) != strings.HasPrefix(o.name, "RSTRT_") {
		return nil
	}
	return r
}

// kernelLog is cr_errbuf_read of the module: it returns what a full copy needs,
// however much was copied; a copy is always NUL-terminated.
func (s *supervisor) kernelLog(o *op) int64 {
	var b [abi.SizeofLogArgs]byte
	if err := o.read(o.arg, b[:]); err != nil {
		return failed(unix.EFAULT)
	}
	size := native.Uint32(b[unsafe.Offsetof(abi.LogArgs{}.Len):])
	buf := native.Uint64(b[unsafe.Offsetof(abi.LogArgs{}.Buf):])
	r := s.requestOf(o)
	if r == nil {
		return failed(unix.EINVAL)
	}
	s.mu.Lock()
	text := string(r.log)
	s.mu.Unlock()
	if size > 0 {
		o.args = fmt.Sprintf("{len=%d}", size)
		part := text[:min(len(text), int(size)-1)]
		if err := o.write(buf, append([]byte(part), 0)); err != nil {
			return failed(unix.EFAULT)
		}
		o.more = fmt.Sprintf(" %q", part)
	}
	if text == "" {
		return 0
	}
	return int64(len(text)) + 1
}

// reap ends a request for its caller.
func (s *supervisor) reap(o *op) int64 {
	r := s.requestOf(o)
	if r == nil {
		return failed(unix.EINVAL)
	}
	s.mu.Lock()
	done := r.done
	s.mu.Unlock()
	if !done {
		return failed(unix.EAGAIN)
	}
	// The byte that made the descriptor readable can be taken back only at the
	// program's end.
	if p, err := s.procs.of(o.tid()); err == nil {
		if fd, err := p.open(int(int32(o.n.Data.Args[0]))); err == nil {
			unix.Recvfrom(fd, make([]byte, 1), unix.MSG_DONTWAIT)
			unix.Close(fd)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	o.f.req = nil
	if r.isPid {
		o.shown = "PID"
	}
	return r.result
}
