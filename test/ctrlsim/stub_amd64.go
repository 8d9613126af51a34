//go:build linux

package ctrlsim

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"
)

// What RSTRT_CHILD returns to the threads that go on into the stub.
const (
	answerLeader = 1
	answerOther  = 2
)

// program is the machine code that makes a blocked process go on as a job.
//
// All threads are inside the ioctl, at known addresses. Each of these addresses
// gets a jump to the stub, the stub goes to the start (or the end) of the text
// that the leader is in, and its data to the bottom of the main stack. Nothing
// of that is of any use to the process any more. The text is a private mapping:
// writing to /proc/PID/mem makes copies of the pages.
//
// The stub does, in the leader: set every signal to SIG_DFL, close descriptors,
// take the job's name, empty the signal mask, raise the request's signal, and
// then exec, exit or raise the job's signal. Any other thread exits.
type program struct {
	name string // comm until the exec

	path       string // exec this, if not ""
	argv, envp []string
	exit       int
	raise      int // instead, if not 0

	signal   int   // the request's
	closeFds []int // in the process
}

// newProgram is the program for a job of process pid.
func newProgram(j Job, pid int) (*program, error) {
	p := &program{name: "job"}
	switch j.Kind {
	case JobExit:
		p.exit = j.Code
		return p, nil
	case JobSignal:
		p.raise = int(j.Signal)
		return p, nil
	case JobSleep:
		path, err := exec.LookPath("sleep")
		if err != nil {
			return nil, err
		}
		p.name, p.path, p.argv = "sleep", path, []string{"sleep", "1000000000"}
	case JobShell:
		p.name, p.path, p.argv = "sh", "/bin/sh", []string{"sh", "-c", j.Script}
	default:
		return nil, fmt.Errorf("job of unknown kind %d", j.Kind)
	}
	env, err := os.ReadFile(procFile(pid, "environ"))
	if err != nil {
		return nil, err
	}
	for v := range strings.SplitSeq(strings.TrimSuffix(string(env), "\x00"), "\x00") {
		if v != "" {
			p.envp = append(p.envp, v)
		}
	}
	return p, nil
}

// inject puts the program into process pid, whose threads wait in calls.
func (p *program) inject(l listener, pid int, calls []*notif) error {
	mem, err := os.OpenFile(procFile(pid, "mem"), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer mem.Close()
	maps, err := readMaps(pid)
	if err != nil {
		return err
	}
	var leader *notif
	ips := make(map[uint64]bool)
	for _, n := range calls {
		if int(n.Tid) == pid {
			leader = n
		}
		ips[n.Data.IP] = true
	}
	if leader == nil {
		return errors.New("its first thread is not in RSTRT_CHILD")
	}
	if !l.valid(leader) {
		return errors.New("it has gone")
	}

	stack, err := findMapping(maps, "the main stack", func(m mapping) bool { return m.name == "[stack]" })
	if err != nil {
		return err
	}
	data := newDataArea(stack.start)
	zero := data.bytes(make([]byte, 32)) // a struct sigaction: SIG_DFL; an empty mask
	list := append(p.closeFds[:len(p.closeFds):len(p.closeFds)], -1)
	var fds []byte
	for _, fd := range list {
		fds = binary.LittleEndian.AppendUint32(fds, uint32(int32(fd)))
	}
	closeAt := data.bytes(fds)
	nameAt := data.string(p.name)
	var pathAt, argvAt, envpAt uint64
	if p.path != "" {
		pathAt, argvAt, envpAt = data.string(p.path), data.vector(p.argv), data.vector(p.envp)
	}
	if uint64(len(data.buf)) > stack.end-stack.start-16<<10 {
		return fmt.Errorf("%d bytes of arguments and environment do not fit into its stack", len(data.buf))
	}

	var code assembler
	code.emit(0x83, 0xf8, answerLeader) // cmp eax, answerLeader
	toLeader := code.jump(0x74)         // je
	code.emit(0x31, 0xff)               // xor edi, edi
	code.syscall(unix.SYS_EXIT)
	code.here(toLeader)

	code.emit(0x49, 0xbc) // mov r12, zero
	code.imm64(zero)
	code.emit(0xbb) // mov ebx, 1
	code.imm32(1)
	again := len(code.b)
	code.emit(0x89, 0xdf)       // mov edi, ebx
	code.emit(0x4c, 0x89, 0xe6) // mov rsi, r12
	code.emit(0x31, 0xd2)       // xor edx, edx
	code.emit(0x41, 0xba)       // mov r10d, 8
	code.imm32(8)
	code.syscall(unix.SYS_RT_SIGACTION)
	code.emit(0xff, 0xc3)       // inc ebx
	code.emit(0x83, 0xfb, 0x41) // cmp ebx, 65
	code.back(0x75, again)      // jne

	code.emit(0x49, 0xbd) // mov r13, closeAt
	code.imm64(closeAt)
	again = len(code.b)
	code.emit(0x41, 0x8b, 0x7d, 0x00) // mov edi, [r13]
	code.emit(0x85, 0xff)             // test edi, edi
	closed := code.jump(0x78)         // js
	code.syscall(unix.SYS_CLOSE)
	code.emit(0x49, 0x83, 0xc5, 0x04) // add r13, 4
	code.back(0xeb, again)            // jmp
	code.here(closed)

	code.edi(unix.PR_SET_NAME)
	code.rsi(nameAt)
	code.syscall(unix.SYS_PRCTL)

	code.edi(2)                 // SIG_SETMASK
	code.emit(0x4c, 0x89, 0xe6) // mov rsi, r12
	code.emit(0x31, 0xd2)       // xor edx, edx
	code.emit(0x41, 0xba)       // mov r10d, 8
	code.imm32(8)
	code.syscall(unix.SYS_RT_SIGPROCMASK)

	if p.signal != 0 {
		code.raise(p.signal)
	}
	switch {
	case p.path != "":
		code.emit(0x48, 0xbf) // mov rdi, pathAt
		code.imm64(pathAt)
		code.rsi(argvAt)
		code.emit(0x48, 0xba) // mov rdx, envpAt
		code.imm64(envpAt)
		code.syscall(unix.SYS_EXECVE)
		code.edi(127)
	case p.raise != 0:
		code.raise(p.raise)
		code.edi(0)
	default:
		code.edi(uint32(p.exit))
	}
	code.syscall(unix.SYS_EXIT_GROUP)

	text, err := findMapping(maps, "the text of its first thread", func(m mapping) bool { return m.contains(leader.Data.IP) })
	if err != nil {
		return err
	}
	at, err := placeStub(text, uint64(len(code.b)), ips)
	if err != nil {
		return err
	}
	if _, err := mem.WriteAt(data.buf, int64(data.start)); err != nil {
		return fmt.Errorf("writing its stack: %w", err)
	}
	if _, err := mem.WriteAt(code.b, int64(at)); err != nil {
		return fmt.Errorf("writing its text (does the kernel forbid that?): %w", err)
	}
	for ip := range ips {
		if _, err := mem.WriteAt(jumpTo(ip, at), int64(ip)); err != nil {
			return fmt.Errorf("writing its text: %w", err)
		}
	}
	return nil
}

func findMapping(maps []mapping, what string, is func(mapping) bool) (mapping, error) {
	for _, m := range maps {
		if is(m) {
			return m, nil
		}
	}
	return mapping{}, fmt.Errorf("no mapping for %s", what)
}

// jumpSize is the most that jumpTo takes.
const jumpSize = 13

// jumpTo is a jump from one address to another.
func jumpTo(from, to uint64) []byte {
	if d := int64(to) - int64(from+5); d == int64(int32(d)) {
		return binary.LittleEndian.AppendUint32([]byte{0xe9}, uint32(int32(d))) // jmp rel32
	}
	b := binary.LittleEndian.AppendUint64([]byte{0x49, 0xbb}, to) // mov r11, to
	return append(b, 0x41, 0xff, 0xe3)                            // jmp r11
}

// placeStub finds room for the stub in the text, away from the jumps to it.
func placeStub(text mapping, size uint64, ips map[uint64]bool) (uint64, error) {
	if text.end-text.start >= size {
	place:
		for _, at := range []uint64{text.start, text.end - size} {
			for ip := range ips {
				if ip < at+size && at < ip+jumpSize {
					continue place
				}
			}
			return at, nil
		}
	}
	return 0, fmt.Errorf("no room for %d bytes in its text", size)
}

// dataArea collects data that will be at an address.
type dataArea struct {
	start uint64
	buf   []byte
}

func newDataArea(start uint64) *dataArea { return &dataArea{start: start} }

func (d *dataArea) bytes(b []byte) uint64 {
	for len(d.buf)%8 != 0 {
		d.buf = append(d.buf, 0)
	}
	at := d.start + uint64(len(d.buf))
	d.buf = append(d.buf, b...)
	return at
}

func (d *dataArea) string(s string) uint64 { return d.bytes(append([]byte(s), 0)) }

// vector is a char *[] with a NULL at its end.
func (d *dataArea) vector(list []string) uint64 {
	var ptrs bytes.Buffer
	for _, s := range append(list[:len(list):len(list)], "") {
		at := uint64(0)
		if ptrs.Len() < 8*len(list) {
			at = d.string(s)
		}
		binary.Write(&ptrs, binary.LittleEndian, at)
	}
	return d.bytes(ptrs.Bytes())
}

// assembler puts instructions together.
type assembler struct{ b []byte }

func (a *assembler) emit(b ...byte) { a.b = append(a.b, b...) }

func (a *assembler) imm32(v uint32) { a.b = binary.LittleEndian.AppendUint32(a.b, v) }

func (a *assembler) imm64(v uint64) { a.b = binary.LittleEndian.AppendUint64(a.b, v) }

// edi is mov edi, v.
func (a *assembler) edi(v uint32) { a.emit(0xbf); a.imm32(v) }

// rsi is mov rsi, v.
func (a *assembler) rsi(v uint64) { a.emit(0x48, 0xbe); a.imm64(v) }

// syscall is mov eax, nr; syscall.
func (a *assembler) syscall(nr uint32) {
	a.emit(0xb8)
	a.imm32(nr)
	a.emit(0x0f, 0x05)
}

// raise is kill(getpid(), sig).
func (a *assembler) raise(sig int) {
	a.syscall(unix.SYS_GETPID)
	a.emit(0x89, 0xc7) // mov edi, eax
	a.emit(0xbe)       // mov esi, sig
	a.imm32(uint32(sig))
	a.syscall(unix.SYS_KILL)
}

// jump is a short jump forward, to where here is called for its result.
func (a *assembler) jump(opcode byte) int {
	a.emit(opcode, 0)
	return len(a.b)
}

func (a *assembler) here(from int) { a.b[from-1] = byte(len(a.b) - from) }

// back is a short jump to an earlier place.
func (a *assembler) back(opcode byte, to int) {
	a.emit(opcode, byte(to-len(a.b)-2))
}
