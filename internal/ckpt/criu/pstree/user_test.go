package pstree

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/proc"
)

// asUser calls f as an ordinary user; for root, in a thread that becomes nobody.
func asUser(t *testing.T, f func()) {
	if os.Geteuid() != 0 {
		f()
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // which ends with this
		const nobody = 65534
		_, _, errno := unix.RawSyscall(unix.SYS_SETGROUPS, 0, 0, 0)
		if errno == 0 {
			_, _, errno = unix.RawSyscall(unix.SYS_SETRESGID, nobody, nobody, nobody)
		}
		if errno == 0 {
			_, _, errno = unix.RawSyscall(unix.SYS_SETRESUID, nobody, nobody, nobody)
		}
		if errno != 0 {
			t.Errorf("cannot become nobody: %v", errno)
			return
		}
		_ = unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0) // which the change has taken away
		f()
	}()
	<-done
}

// TestPermissions: this process has something that its user could not have again, or
// that only looks so.
func TestPermissions(t *testing.T) {
	file := func(flags int, mode uint32, content string, then func(fd int, name string)) func(string) {
		return func(dir string) {
			name := dir + "/file"
			if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
				t.Error(err)
			}
			fd, err := unix.Open(name, flags|unix.O_CLOEXEC, 0)
			if err != nil {
				t.Error(err)
			}
			_ = os.Chmod(name, os.FileMode(mode))
			then(fd, name)
		}
	}
	keep := func(int, string) {}
	remove := func(_ int, name string) { os.Remove(name) }
	mapIt := func(prot, flags int) func(int, string) {
		return func(fd int, _ string) {
			addr, _, errno := unix.Syscall6(unix.SYS_MMAP, 0, 4096, uintptr(prot), uintptr(flags), uintptr(fd), 0)
			if errno != 0 {
				t.Error(errno)
			}
			unix.Close(fd)
			t.Cleanup(func() { unix.Syscall(unix.SYS_MUNMAP, addr, 4096, 0) })
		}
	}
	const shared, private = unix.MAP_SHARED, unix.MAP_PRIVATE
	const read, both = unix.PROT_READ, unix.PROT_READ | unix.PROT_WRITE
	for _, c := range []struct {
		what  string
		have  func(dir string)
		errno syscall.Errno // 0 for what a restart can have
		said  string
	}{
		{"open as it may be", file(unix.O_RDWR, 0o600, "content", keep), 0, ""},
		{"mode changed", file(unix.O_RDWR, 0o400, "content", keep), syscall.EACCES, "open as descriptor FD, and USER may not open it again to read and write"},
		{"reader", file(unix.O_RDONLY, 0o400, "content", keep), 0, ""},
		{"writer", file(unix.O_WRONLY, 0o200, "", keep), 0, ""},
		{"writer of what criu reads", file(unix.O_WRONLY, 0o200, "content", keep), syscall.EACCES, "to read and write"},
		{"O_PATH", file(unix.O_PATH, 0, "", keep), 0, ""},
		{"O_NOATIME", file(unix.O_RDONLY|unix.O_NOATIME, 0o400, "content", keep), 0, ""},
		{"removed", file(unix.O_RDWR, 0o600, "content", remove), 0, ""},
		{"removed, mode changed", file(unix.O_RDWR, 0o400, "content", remove), syscall.EACCES, "has the removed file DIR/file open"},
		{"mapped", file(unix.O_RDWR, 0o600, "content", mapIt(both, shared)), 0, ""},
		{"mapped, mode changed", file(unix.O_RDWR, 0o400, "content", mapIt(both, shared)), syscall.EACCES, "has DIR/file mapped, and USER may not open it again to read and write"},
		{"mapped to read, mode changed", file(unix.O_RDWR, 0o400, "content", mapIt(read, shared)), syscall.EACCES, "has DIR/file mapped"},
		{"mapped by a reader", file(unix.O_RDONLY, 0o400, "content", mapIt(both, private)), 0, ""},
		{"FIFO", func(dir string) {
			name := dir + "/fifo"
			_ = unix.Mkfifo(name, 0o600)
			if _, err := unix.Open(name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0); err != nil {
				t.Error(err)
			}
			_ = os.Chmod(name, 0o400)
		}, syscall.EACCES, "has DIR/fifo open as descriptor FD, and USER may not open it again to read and write"},
		{"directory", func(dir string) {
			_, _ = unix.Open(dir, unix.O_RDONLY|unix.O_CLOEXEC, 0)
			_ = os.Chmod(dir, 0o300)
		}, syscall.EACCES, "has DIR open as descriptor FD, and USER may not open it again to read"},
		{"hidden", func(dir string) {
			file(unix.O_RDONLY, 0o400, "content", keep)(dir)
			_ = os.Chmod(dir, 0)
		}, syscall.EACCES, "has DIR/file open as descriptor FD, and USER may not look it up"},
		{"UNIX socket", func(dir string) { bind(t, dir) }, 0, ""},
		{"UNIX socket in a directory", func(dir string) {
			bind(t, dir)
			_ = os.Chmod(dir, 0o500)
		}, syscall.EACCES, "has a socket open as descriptor FD with the name DIR/socket, which USER may not make again in that directory"},
	} {
		t.Run(strings.ReplaceAll(c.what, " ", "-"), func(t *testing.T) {
			dir := t.TempDir()
			for _, dir := range []string{dir, filepath.Dir(dir)} {
				if err := os.Chmod(dir, 0o777); err != nil {
					t.Fatal(err)
				}
			}
			asUser(t, func() {
				before := make(map[string]bool)
				for d := range proc.Descriptors(os.Getpid()) {
					before[d.Link] = true
				}
				own := dir + "/own"
				if err := os.Mkdir(own, 0o700); err != nil {
					t.Error(err)
					return
				}
				defer os.Chmod(own, 0o700)
				c.have(own)
				ours := -1
				for d := range proc.Descriptors(os.Getpid()) {
					if strings.Contains(d.Link, own) || strings.HasPrefix(d.Link, "socket:") && !before[d.Link] {
						ours = d.FD
					}
				}
				defer unix.Close(ours)
				process, err := proc.Read(os.Getpid())
				if err != nil {
					t.Error(err)
					return
				}
				p := &preflight{Tree: &Tree{}, user: true, may: make(map[access]error), asked: make(map[uint64]bool)}
				p.permissions(newSubject(process))
				// What else this process has is not the test's.
				var found []*ckpt.Error
				for _, err := range p.found {
					if e := err.(*ckpt.Error); strings.Contains(e.Detail[0], own) {
						found = append(found, e)
					}
				}
				said := strings.NewReplacer("DIR", own, "FD", fmt.Sprint(ours), "USER", me()).Replace(c.said)
				switch {
				case c.errno == 0 && len(found) > 0:
					t.Errorf("refused: %q", found[0].Detail)
				case c.errno == 0:
				case len(found) != 1 || found[0].Errno != c.errno || !strings.Contains(found[0].Detail[0], said) || len(found[0].Detail) != 2:
					t.Errorf("found %v, want %v: %q", found, c.errno, said)
				}
			})
		})
	}
}

// bind makes a UNIX socket in a directory.
func bind(t *testing.T, dir string) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrUnix{Name: dir + "/socket"})
	}
	if err != nil {
		t.Error(err)
	}
}

// TestSockets: sockets that root makes and a user could not.
func TestSockets(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("it takes root to make them")
	}
	for _, c := range []struct {
		domain, kind, protocol int
		port                   int
		option, value          int
		errno                  syscall.Errno
		said                   string
	}{
		{domain: unix.AF_INET, kind: unix.SOCK_DGRAM, option: unix.SO_PRIORITY, value: 6},
		{unix.AF_INET, unix.SOCK_DGRAM, 0, 0, unix.SO_PRIORITY, 7, syscall.EPERM, "with the priority 7 (SO_PRIORITY), which takes CAP_NET_ADMIN"},
		{unix.AF_UNIX, unix.SOCK_STREAM, 0, 0, unix.SO_MARK, 5, syscall.EPERM, "with the mark 5 (SO_MARK), which takes CAP_NET_ADMIN"},
		{unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP, 0, 0, 0, syscall.EPERM, "which takes CAP_NET_RAW"},
		{unix.AF_PACKET, unix.SOCK_DGRAM, 0, 0, 0, 0, syscall.EPERM, "which takes CAP_NET_RAW"},
		{unix.AF_INET, unix.SOCK_STREAM, 0, 1, 0, 0, syscall.EACCES, "with the port PORT, which takes CAP_NET_BIND_SERVICE"},
		{unix.AF_INET6, unix.SOCK_DGRAM, 0, 1, 0, 0, syscall.EACCES, "with the port PORT, which takes CAP_NET_BIND_SERVICE"},
	} {
		fd, err := unix.Socket(c.domain, c.kind|unix.SOCK_CLOEXEC, c.protocol)
		if err == nil && c.option != 0 {
			err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, c.option, c.value)
		}
		port := 0
		if c.port != 0 && err == nil {
			err = unix.EADDRINUSE
			for port = 1; port < 1024 && err == unix.EADDRINUSE; port++ {
				if c.domain == unix.AF_INET {
					err = unix.Bind(fd, &unix.SockaddrInet4{Port: port})
				} else {
					err = unix.Bind(fd, &unix.SockaddrInet6{Port: port})
				}
			}
			port--
		}
		if err != nil {
			t.Logf("%+v: not here: %v", c, err)
			continue
		}
		asUser(t, func() {
			p := &preflight{Tree: &Tree{}}
			p.socket(&subject{Process: &proc.Process{Pid: os.Getpid()}}, fd, fd)
			if c.errno == 0 && len(p.found) == 0 {
				return
			}
			if len(p.found) != 1 {
				t.Errorf("%+v: found %v", c, p.found)
				return
			}
			checkError(t, p.found[0], c.errno, strings.ReplaceAll(c.said, "PORT", fmt.Sprint(port)))
		})
		unix.Close(fd)
	}
}

// TestNetlinkConnected: a netlink socket that is connected is refused for users, and only for
// them, and one that is not connected never.
func TestNetlinkConnected(t *testing.T) {
	for _, connect := range []bool{false, true} {
		fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		if connect {
			if err := unix.Connect(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
				t.Fatal(err)
			}
		}
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			t.Fatal(err)
		}
		for _, user := range []bool{false, true} {
			p := &preflight{user: user, sockets: map[uint64]openSocket{st.Ino: {&subject{Process: &proc.Process{Pid: os.Getpid()}}, fd}}}
			p.netlinkConnections()
			if refused := len(p.found) > 0; refused != (connect && user) {
				t.Errorf("connected %v, user %v: %v", connect, user, p.found)
			}
		}
	}
}
