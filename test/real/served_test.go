//go:build real

package real

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// served is a file system (FUSE) with one file, "file", which may stop to answer.
type served struct {
	fd    int
	dir   string
	hangs atomic.Bool
	asked atomic.Bool // since it hangs
}

func serve(t *testing.T, dir string) *served {
	t.Helper()
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Skip("no FUSE: ", err)
	}
	s := &served{fd: fd, dir: dir}
	t.Cleanup(s.end)
	options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", fd)
	if err := unix.Mount("fuse", dir, "fuse", 0, options); err != nil {
		t.Skip("no FUSE: ", err)
	}
	go s.run()
	return s
}

// end has all that wait fail.
func (s *served) end() {
	if s.fd >= 0 {
		_ = unix.Unmount(s.dir, unix.MNT_FORCE)
		_ = unix.Unmount(s.dir, unix.MNT_DETACH)
	}
	s.fd = -1
}

func (s *served) run() {
	fd := s.fd
	defer unix.Close(fd)
	for buf := make([]byte, 1<<20); ; {
		n, err := unix.Read(fd, buf)
		if err == unix.EINTR || err == unix.ENOENT {
			continue
		}
		if err != nil || n < 40 {
			return
		}
		opcode, unique, node := binary.NativeEndian.Uint32(buf[4:]), binary.NativeEndian.Uint64(buf[8:]), binary.NativeEndian.Uint64(buf[16:])
		const lookup, forget, getattr, open, release, flush, start, openDir, releaseDir, interrupt = 1, 2, 3, 14, 18, 25, 26, 27, 29, 36
		attributes := func(node uint64) []byte {
			mode := uint32(unix.S_IFREG | 0o644)
			if node == 1 {
				mode = unix.S_IFDIR | 0o755
			}
			b := make([]byte, 88)
			binary.NativeEndian.PutUint64(b, node)
			binary.NativeEndian.PutUint32(b[60:], mode)
			binary.NativeEndian.PutUint32(b[64:], 1)
			return b
		}
		var answer []byte
		errno := unix.Errno(0)
		switch {
		case opcode == forget || opcode == interrupt:
			continue
		case s.hangs.Load():
			s.asked.Store(true)
			continue
		case opcode == start:
			answer = make([]byte, 64)
			binary.NativeEndian.PutUint32(answer, 7)
			binary.NativeEndian.PutUint32(answer[4:], 31)
			binary.NativeEndian.PutUint32(answer[20:], 4096)
		case opcode == lookup && bytes.HasPrefix(buf[40:n], []byte("file\x00")):
			answer = append(binary.NativeEndian.AppendUint64(nil, 2), make([]byte, 32)...)
			answer = append(answer, attributes(2)...)
		case opcode == getattr:
			answer = append(make([]byte, 16), attributes(node)...)
		case opcode == open || opcode == openDir:
			answer = make([]byte, 16)
		case opcode == release || opcode == flush || opcode == releaseDir:
		case opcode == lookup:
			errno = unix.ENOENT
		default:
			errno = unix.ENOSYS
		}
		head := binary.NativeEndian.AppendUint32(nil, uint32(16+len(answer)))
		head = binary.NativeEndian.AppendUint32(head, uint32(-int32(errno)))
		_, _ = unix.Write(fd, append(binary.NativeEndian.AppendUint64(head, unique), answer...))
	}
}

// TestServed: a job has something on a file system whose server does not answer. A signal, or
// the end of its time, ends the request, which says why, and the job has not been touched.
func TestServed(t *testing.T) {
	engine(t)
	if os.Geteuid() != 0 {
		t.Skip("only root may mount")
	}
	j := newJob(t, "counter")
	dir := filepath.Join(j.dir, "served")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for what, command := range map[string]string{"file": "exec 3<served/file; exec sleep 1000", "": "cd served; exec sleep 1000"} {
		s := serve(t, dir)
		p := j.start("sleep", []string{"/bin/sh", "-c", command}, nil)
		j.until("sleep to run", func() bool { return comm(p.pid) == "sleep" })
		s.hangs.Store(true)
		for _, c := range []struct {
			args   []string
			signal syscall.Signal
			status int
		}{{nil, unix.SIGTERM, 0}, {[]string{"--check"}, unix.SIGINT, 0}, {[]string{"--time", "1"}, 0, 62}} {
			s.asked.Store(false)
			save := j.command("cr_checkpoint", append(c.args, "-f", filepath.Join(j.dir, "ctx"), strconv.Itoa(p.pid))...)
			j.until("a question", s.asked.Load)
			if c.signal != 0 {
				_ = syscall.Kill(save.pid, c.signal)
			}
			end := j.wait(save)
			text, _ := os.ReadFile(save.stderr)
			if c.signal != 0 && (!end.Signaled() || end.Signal() != c.signal) || c.signal == 0 && end.ExitStatus() != c.status {
				t.Errorf("%q: %s", c.args, describe(end))
			}
			if !strings.Contains(string(text), filepath.Join(dir, what)+", and the program that serves its file system (FUSE) does not answer") {
				t.Errorf("%q says %q", c.args, text)
			}
			if got := stat(p.pid); got == nil || got.state == 'T' || got.state == 't' {
				t.Errorf("%q: the job is in state %v", c.args, got)
			}
		}
		j.noContext()
		s.end()
		_ = syscall.Kill(p.pid, syscall.SIGKILL)
		j.wait(p)
	}
}
