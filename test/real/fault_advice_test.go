//go:build real

package real

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt"
)

// What is said about a failure below BLCR's line: who, what, and what to do.

// holder is a program that has something that criu cannot save, named by its
// argument; with a number it traces that process.
const holder = `
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	char params[256] = {0};
	if (argc != 2)
		return 2;
	if (!strcmp(argv[1], "shm")) {
		int id = shmget(IPC_PRIVATE, 4096, IPC_CREAT | 0600);
		if (id < 0 || shmat(id, 0, 0) == (void *)-1)
			return 3;
		shmctl(id, IPC_RMID, 0);
		printf("%d", id);
	} else if (!strcmp(argv[1], "vsock")) {
		printf("%d", socket(40, SOCK_STREAM, 0));
	} else if (!strcmp(argv[1], "mptcp")) {
		printf("%d", socket(AF_INET, SOCK_STREAM, 262));
	} else if (!strcmp(argv[1], "userfaultfd")) {
		printf("%ld", syscall(323, 0));
	} else if (!strcmp(argv[1], "io_uring")) {
		printf("%ld", syscall(425, 4, params));
	} else if (!strcmp(argv[1], "pipe")) {
		int fds[2];
		printf("%d", syscall(SYS_pipe2, fds, 040000) ? -1 : fds[0]);
	} else if (!strcmp(argv[1], "loop")) {
		printf("%d", open("/dev/loop0", O_RDONLY));
	} else if (!strcmp(argv[1], "linked")) {
		printf("%d", open("first", O_CREAT | O_RDWR, 0600));
		if (mkdir("below", 0700) || link("first", "below/second") || unlink("first"))
			return 3;
	} else if (!strcmp(argv[1], "queue")) {
		sprintf(params, "blcr-cli.%d", getpid());
		printf("%ld", syscall(SYS_mq_open, params, O_CREAT | O_EXCL | O_RDWR, 0600, 0));
	} else if (!strcmp(argv[1], "unmounted")) {
		if (mkdir("mnt", 0700) || mount("none", "mnt", "tmpfs", 0, 0)) {
			printf("-1");
		} else {
			printf("%d", open("mnt/blcr-cli-file", O_CREAT | O_RDWR, 0600));
			if (umount2("mnt", MNT_DETACH))
				return 3;
		}
	} else if (!strcmp(argv[1], "sender")) {
		int pair[2], on = 1;
		if (socketpair(AF_UNIX, SOCK_DGRAM, 0, pair) ||
		    setsockopt(pair[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) || write(pair[0], "x", 1) != 1)
			return 3;
	} else if (!strcmp(argv[1], "robust")) {
		int fd = open("mutex", O_CREAT | O_RDWR, 0600);
		pthread_mutexattr_t a;
		if (ftruncate(fd, 4096))
			return 3;
		pthread_mutex_t *m = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		pthread_mutexattr_init(&a);
		pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST);
		pthread_mutexattr_setpshared(&a, PTHREAD_PROCESS_SHARED);
		if (m == MAP_FAILED || pthread_mutex_init(m, &a) || pthread_mutex_lock(m))
			return 3;
	} else if (!strcmp(argv[1], "files")) {
		int n = 0;
		while (fcntl(n, F_GETFD) >= 0)
			n++;
		struct rlimit l = {n, n};
		if (setrlimit(RLIMIT_NOFILE, &l))
			return 3;
		printf("%d", n);
	} else if (!strcmp(argv[1], "memory")) {
		struct rlimit l = {1, 1};
		printf("1 B");
		fflush(stdout);
		if (setrlimit(RLIMIT_AS, &l))
			return 3;
	} else {
		printf("%ld", ptrace(PTRACE_SEIZE, atoi(argv[1]), 0, 0));
	}
	fflush(stdout);
	if (rename("making", "ready"))
		return 4;
	for (;;)
		pause();
}
`

// hold starts the program that has such a thing; it returns what it says about it.
func (j *job) hold(kind string) string {
	j.t.Helper()
	j.write("hold.c", holder)
	cc := j.start("cc", []string{"/usr/bin/cc", "-o", "hold", "hold.c"}, nil)
	j.silent(cc, j.wait(cc))
	j.write("making", "")
	j.proc = j.start("hold", []string{filepath.Join(j.dir, "hold"), kind}, nil)
	j.pid = j.proc.pid
	j.until("the program to be ready", func() bool {
		select {
		case <-j.proc.ended:
			j.t.Skipf("no %s here: %s", kind, describe(j.proc.end))
		default:
		}
		return j.exists("ready")
	})
	said, _ := os.ReadFile(j.proc.stdout)
	if string(said) == "-1" {
		_ = syscall.Kill(j.pid, syscall.SIGKILL)
		j.wait(j.proc)
		j.t.Skipf("no %s here", kind)
	}
	return string(said)
}

// TestAdviceUnsaveable: what criu cannot save is named, with process and descriptor.
func TestAdviceUnsaveable(t *testing.T) {
	engine(t)
	const (
		cannot = ", which criu cannot save"
		closes = "\n- the program has to close it before it is saved\n"
	)
	for _, c := range []struct {
		kind   string
		errno  syscall.Errno
		detail string // PID, $DIR, and SAID for what the program says
	}{
		{"shm", 95, " has System V shared memory, segment SAID with the key 0x00000000, which criu cannot save outside of an IPC namespace\n- criu: Task "},
		{"vsock", 95, " has a VSOCK socket open as descriptor SAID" + cannot + "\n- criu: sockets: BUG! Unknown socket collected (family 40)" + closes},
		{"mptcp", 95, " has an MPTCP socket open as descriptor SAID" + cannot + "\n- criu: inet: Unsupported proto 262 for socket "},
		{"userfaultfd", 95, " has a userfaultfd open as descriptor SAID" + cannot + "\n- criu: Can't dump file SAID of that type [600] (anon anon_inode:[userfaultfd])" + closes},
		{"io_uring", 95, " has an io_uring open as descriptor SAID" + cannot + "\n- criu: "},
		{"pipe", 95, " has a pipe in packet mode (O_DIRECT)" + cannot + "\n- criu: The packetized mode for pipes is not supported yet" + closes},
		{"loop", 95, " has the block device /dev/loop0 open as descriptor SAID" + cannot + "\n- criu: Can't dump file SAID of that type [60600] (unknown /dev/loop0)" + closes},
		{"linked", 95, " has $DIR/first open as descriptor SAID, which was removed under that name and has another one in another directory: criu saves a removed file only if it has no name left\n" +
			"- criu: Can't create link remap for $DIR/first. Use link-remap option.\n- have the program open the file by its other name, or close it; "},
		{"queue", 95, " has the POSIX message queue /blcr-cli.PID open as descriptor SAID" + cannot + "\n- criu: Can't lookup mount="},
		{"unmounted", 95, " has /blcr-cli-file open as descriptor SAID, on a file system that was unmounted since, or that is another mount namespace's" + cannot + "\n- criu: Can't lookup mount="},
		{"sender", 16, " has a UNIX socket with a message in its queue that says who has sent it, or when (SO_PASSCRED, SO_TIMESTAMP)" + cannot +
			"\n- criu: skqueue: Control messages in queue, not supported\n- try again, when the program has received it\n"},
		{"files", 24, " has SAID of the SAID files open that it may have (ulimit -n), and criu has to open some more in it\n- criu: Can't create memfd in victim: Too many open files\n- have root raise that limit: prlimit --pid PID --nofile="},
		{"memory", 12, " may have SAID of address space (ulimit -v), and criu needs a little more in it\n- criu: remote mmap() failed: Cannot allocate memory\n- have root raise that limit: prlimit --pid PID --as=unlimited\n"},
	} {
		t.Run(c.kind, func(t *testing.T) {
			j := newJob(t, "counter")
			said := j.hold(c.kind)
			switch c.kind {
			case "queue":
				name, _ := unix.BytePtrFromString(fmt.Sprintf("blcr-cli.%d", j.pid))
				defer unix.Syscall(unix.SYS_MQ_UNLINK, uintptr(unsafe.Pointer(name)), 0, 0)
				fallthrough
			case "unmounted":
				// This can be foreseen.
				if end := j.wait(j.command("cr_checkpoint", "--check", strconv.Itoa(j.pid))); end != syscall.WaitStatus(c.errno)<<8 {
					t.Errorf("cr_checkpoint --check: %s, want exit status %d", describe(end), int(c.errno))
				}
			}
			want := fmt.Sprintf("Checkpoint failed: %s\n- process PID (hold)%s", ckpt.Strerror(c.errno), c.detail)
			want = strings.NewReplacer("SAID", said, "PID", strconv.Itoa(j.pid), "$DIR", j.dir).Replace(want)
			if !strings.HasSuffix(want, "\n") {
				want += "..."
			}
			j.fails(j.command("cr_checkpoint", "-f", filepath.Join(j.dir, "ctx"), strconv.Itoa(j.pid)), int(c.errno), want)
			p := j.command("cr_checkpoint", "-q", "-f", filepath.Join(j.dir, "ctx"), strconv.Itoa(j.pid))
			j.fails(p, int(c.errno), "")
			_ = syscall.Kill(j.pid, syscall.SIGKILL)
			j.wait(j.proc)
		})
	}
}

// TestAdviceRobust: a robust mutex in a file is no reason to refuse a process that runs on,
// nor if the file is saved.
func TestAdviceRobust(t *testing.T) {
	engine(t)
	j := newJob(t, "counter")
	j.hold("robust")
	ctx, pid := filepath.Join(j.dir, "ctx"), strconv.Itoa(j.pid)
	for _, signal := range []string{"--kill", "--term", "-S10"} {
		j.fails(j.command("cr_checkpoint", signal, "-f", ctx, pid), 95, fmt.Sprintf("Checkpoint failed: %s\n- process %s (hold) holds a robust mutex in the file %s/mutex, "+
			"which says that its owner has died (EOWNERDEAD) when the job has ended, also to the restarted job\n- --save-shared saves the file with the job; or have the program unlock it\n",
			ckpt.Strerror(95), pid, j.dir))
	}
	j.checkpoint(ctx, pid)
	j.checkpoint(ctx, "--stop", pid)
	j.checkpoint(ctx, "--cont", pid)
	j.checkpoint(ctx, "--kill", "--save-shared", pid)
	j.killed([]int{j.pid})
}

// TestAdviceTraced: who traces is named.
func TestAdviceTraced(t *testing.T) {
	engine(t)
	j := newJob(t, "counter")
	j.launch()
	tracer := newJob(t, "counter")
	tracer.hold(strconv.Itoa(j.pid))
	j.fails(j.command("cr_checkpoint", "-f", filepath.Join(j.dir, "ctx"), strconv.Itoa(j.pid)), 56,
		fmt.Sprintf("Checkpoint failed: One or more target processes is being ptraced\n- process %d (counter) is traced by process %d (hold)\n- detach it there, or end that\n", j.pid, tracer.pid))
	_ = syscall.Kill(tracer.pid, syscall.SIGKILL)
	tracer.wait(tracer.proc)
	j.checkpoint(filepath.Join(j.dir, "ctx"), strconv.Itoa(j.pid))
	j.advances()
	j.finish()
}

// TestAdviceUsers: whose a process is, and what an ordinary user lacks.
func TestAdviceUsers(t *testing.T) {
	engine(t)
	j := newJob(t, "counter")
	j.launch()
	if err := os.Chmod(j.dir, 0o1777); err != nil {
		t.Fatal(err)
	}
	args := []string{filepath.Join(bin, "cr_checkpoint"), "-f", filepath.Join(j.dir, "ctx"), strconv.Itoa(j.pid)}
	p := j.start("cr_checkpoint", args, &syscall.Credential{Uid: 65534, Gid: 65534})
	end := j.wait(p)
	stderr, _ := os.ReadFile(p.stderr)
	switch end {
	case 38 << 8: // no criu that such a user may use
		if !bytes.Contains(stderr, []byte("\n- run this as root")) && !bytes.Contains(stderr, []byte("\n- to get one, ")) && !bytes.Contains(stderr, []byte("Permission denied\n")) {
			t.Errorf("stderr: %s", stderr)
		}
	default:
		j.fails(p, 1, fmt.Sprintf("Checkpoint failed: Operation not permitted\n- Bad permissions to checkpoint task %d\n- process %d (counter) belongs to root: run cr_checkpoint as root\n", j.pid, j.pid))
	}
	j.advances()
	j.finish()
}

// TestAdviceTarget: why the context cannot be written there.
func TestAdviceTarget(t *testing.T) {
	engine(t)
	j := newJob(t, "counter")
	j.launch()
	pid := strconv.Itoa(j.pid)
	none := filepath.Join(j.dir, "none")
	j.fails(j.command("cr_checkpoint", "-f", none+"/ctx", pid), 2,
		"Unable to open file '"+none+"/.ctx.tmp': No such file or directory\nFailed to open checkpoint file '"+none+"/ctx'\n- there is no directory "+none+"\n")
	j.fails(j.command("cr_checkpoint", "-q", "-f", none+"/ctx", pid), 2, "")
	if err := os.Mkdir(none, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("none", none, "tmpfs", unix.MS_RDONLY, ""); err != nil {
		t.Skip(err)
	}
	defer unix.Unmount(none, unix.MNT_DETACH)
	j.fails(j.command("cr_checkpoint", "-f", none+"/ctx", pid), 30,
		"Unable to open file '"+none+"/.ctx.tmp': Read-only file system\nFailed to open checkpoint file '"+none+"/ctx'\n- the file system "+none+" (tmpfs) is read-only\n")
	j.advances()
	j.finish()
}

// TestAdviceChanged: which file has changed, how, and what to do.
func TestAdviceChanged(t *testing.T) {
	engine(t)
	j := newJob(t, "counter")
	exe, ctx := filepath.Join(j.dir, "exe"), filepath.Join(j.dir, "ctx")
	sh := j.start("sh", []string{"/bin/sh", "-c", `cp "$0" exe`, j.args[0]}, nil)
	j.silent(sh, j.wait(sh))
	j.args[0] = exe
	j.launch()
	j.checkpoint(ctx, "--kill", strconv.Itoa(j.pid))
	j.killed([]int{j.pid})
	st, err := os.Stat(exe)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(exe, st.Size()+1); err != nil {
		t.Fatal(err)
	}
	j.fails(j.command("cr_restart", ctx), 116, fmt.Sprintf("Restart failed: Stale file handle\n- %s is not the file that was saved: its size is %d, not %d\n"+
		"- bring the one that was saved back, or have it found elsewhere by cr_restart --relocate; cr_checkpoint --save-all takes mapped files along\n", exe, st.Size()+1, st.Size()))
	if err := os.Truncate(exe, st.Size()); err != nil {
		t.Fatal(err)
	}
	j.nothing()
	j.restart(ctx)
	j.finish()
}

// TestAdviceOtherKind: a file that the job had open and that is something else now is not
// opened. CRIU would wait for ever for the other end of a FIFO, and write into a device.
func TestAdviceOtherKind(t *testing.T) {
	engine(t)
	j := newJob(t, "counter")
	j.launch()
	out, ctx := j.proc.stdout, filepath.Join(j.dir, "ctx")
	j.checkpoint(ctx, "--kill", strconv.Itoa(j.pid))
	j.killed([]int{j.pid})
	for _, c := range []struct {
		kind string
		make func() error
	}{
		{"FIFO", func() error { return unix.Mkfifo(out, 0o600) }},
		{"device", func() error { return os.Symlink("/dev/null", out) }},
	} {
		if err := errors.Join(os.Remove(out), c.make()); err != nil {
			t.Fatal(err)
		}
		want := fmt.Sprintf("- %s is not the file that was saved: it is of another kind\n- bring it back, or have it found elsewhere by cr_restart --relocate\n", out)
		j.fails(j.command("cr_restart", ctx), 116, "Restart failed: Stale file handle\n"+want)
		j.nothing()
	}
	// A link to a file is as good as one.
	other := filepath.Join(j.dir, "other")
	if err := errors.Join(os.Remove(out), os.WriteFile(other, nil, 0o600), os.Symlink(other, out)); err != nil {
		t.Fatal(err)
	}
	j.restart(ctx)
	j.finish()
}
