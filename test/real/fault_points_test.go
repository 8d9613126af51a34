//go:build real

package real

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"blcr-cli/test/harness"
)

// These tests have criu do something wrong at a point of its work that they choose: it is
// killed, fails, stops or hangs there. A library that is loaded before criu's own counts
// the points, in criu and in all processes that it makes. The points are what criu does,
// whichever way it is told to do it.

// faultPoints is that library. The environment says what is to be done:
//
//	FAULT		POINT PLACE DOES NTH, such as "ibk3"
//	FAULT_PID	criu's pid
//	FAULT_SEEN	a file of that size for the counts
//
// A point is the transfer of an image ('i'), an end of tracing a process ('d'), a program
// that criu executes ('x') or criu's exit ('e'). The place is 'b', before it, 'a', after
// it, and for an image 'i', when some of it is in the pipe.
const faultPoints = `
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

static struct {
	int images, detaches, programs, exits, faults;
} none, *seen = &none;
static int criu, nth;
static char point, place, does;
static ino_t armed;	/* the pipe of the image */

/* Criu may come with an older libc than that of the compiler: nothing new is used. */
static int number(const char *s)
{
	int n = 0;

	while (*s >= '0' && *s <= '9')
		n = 10 * n + *s++ - '0';
	return n;
}

static ino_t fifo(int fd)
{
	struct stat st;

	return !syscall(SYS_fstat, fd, &st) && S_ISFIFO(st.st_mode) ? st.st_ino : 0;
}

__attribute__((constructor)) static void begin(void)
{
	const char *fault = getenv("FAULT"), *pid = getenv("FAULT_PID"), *file = getenv("FAULT_SEEN");
	int fd;
	void *at;

	if (!fault || !pid || !file || strlen(fault) < 4)
		return;
	point = fault[0];
	place = fault[1];
	does = fault[2];
	nth = number(fault + 3);
	criu = number(pid);
	fd = open(file, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return;
	at = mmap(0, sizeof(*seen), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (at != MAP_FAILED)
		seen = at;
}

static int self(void) { return syscall(SYS_getpid); }

/* now does what is to be done. It returns whether the call is to fail. */
static int now(void)
{
	__sync_fetch_and_add(&seen->faults, 1);
	switch (does) {
	case 'k': syscall(SYS_kill, criu, SIGKILL); break;
	case 'o': syscall(SYS_kill, self(), SIGKILL); break;
	case 's': syscall(SYS_kill, criu, SIGSTOP); break;
	case 'h': for (;;) pause();
	case 'f': errno = EIO; return 1;
	}
	return 0;
}

static int is(char p, int n, char where) { return p == point && n == nth && where == place; }

/* transferred is called when something has been moved through a descriptor. */
static int transferred(int fd)
{
	int before = errno, fails = 0;

	if (armed && fifo(fd) == armed) {
		armed = 0;
		fails = now();
	}
	if (!fails)
		errno = before;
	return fails;
}

#define TRANSFER(fd, call) ssize_t n = (call); return n > 0 && transferred(fd) ? -1 : n

ssize_t write(int fd, const void *b, size_t len) { TRANSFER(fd, syscall(SYS_write, fd, b, len)); }
ssize_t writev(int fd, const struct iovec *v, int c) { TRANSFER(fd, syscall(SYS_writev, fd, v, c)); }
ssize_t read(int fd, void *b, size_t len) { TRANSFER(fd, syscall(SYS_read, fd, b, len)); }
ssize_t readv(int fd, const struct iovec *v, int c) { TRANSFER(fd, syscall(SYS_readv, fd, v, c)); }
ssize_t splice(int in, off64_t *at, int fd, off64_t *to, size_t len, unsigned flags) { TRANSFER(fd, syscall(SYS_splice, in, at, fd, to, len, flags)); }

/* image returns the pipe that a message on a socket for images has. */
static ino_t image(int fd, const struct msghdr *m)
{
	static const char capture[] = "/streamer-capture.sock", serve[] = "/streamer-serve.sock";
	struct sockaddr_un to = {0};
	socklen_t len = sizeof(to) - 1;
	struct cmsghdr *c = CMSG_FIRSTHDR(m);
	int end;

	if (!c || c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS || syscall(SYS_getpeername, fd, &to, &len) || to.sun_family != AF_UNIX)
		return 0;
	if (!strstr(to.sun_path, capture) && !strstr(to.sun_path, serve))
		return 0;
	memcpy(&end, CMSG_DATA(c), sizeof(end));
	return fifo(end);
}

ssize_t sendmsg(int fd, const struct msghdr *m, int flags)
{
	int before = errno, n = 0;
	ino_t pipe = image(fd, m);
	ssize_t ret;

	errno = before;
	if (pipe)
		n = __sync_add_and_fetch(&seen->images, 1);
	if (pipe && is('i', n, 'b') && now())
		return -1;
	ret = syscall(SYS_sendmsg, fd, m, flags);
	if (ret > 0 && pipe && is('i', n, 'a') && now())
		return -1;
	if (pipe && is('i', n, 'i'))
		armed = pipe;
	return ret;
}

long ptrace(enum __ptrace_request request, ...)
{
	va_list list;
	pid_t pid;
	void *addr, *data;
	long word = 0, ret;
	int n = 0, peek = request > 0 && request < 4;

	va_start(list, request);
	pid = va_arg(list, pid_t);
	addr = va_arg(list, void *);
	data = va_arg(list, void *);
	va_end(list);
	if (request == PTRACE_DETACH && seen->images)
		n = __sync_add_and_fetch(&seen->detaches, 1);
	if (n && is('d', n, 'b') && now())
		return -1;
	ret = syscall(SYS_ptrace, request, pid, addr, peek ? &word : data);
	if (ret >= 0 && peek) {
		errno = 0;
		ret = word;
	}
	if (n && is('d', n, 'a') && now())
		return -1;
	return ret;
}

int execvp(const char *file, char *const argv[])
{
	int n = __sync_add_and_fetch(&seen->programs, 1);

	if (is('x', n, 'b') && now())
		return -1;
	return execvpe(file, argv, environ);
}

__attribute__((destructor)) static void end(void)
{
	if (self() == criu && is('e', __sync_add_and_fetch(&seen->exits, 1), 'b'))
		now();
}
`

// points has counts, in the order of the library's.
type points struct{ images, detaches, programs, exits, faults int }

// faulty has the commands of the job use a criu that does as faultAt says.
func (j *job) faulty() {
	j.t.Helper()
	real := os.Getenv("CR_CRIU")
	if real == "" {
		j.t.Skip("it needs to know which criu is used")
	}
	j.write("points.c", faultPoints)
	cc := j.start("cc", []string{"/usr/bin/cc", "-O1", "-Wall", "-shared", "-fPIC", "-o", "points.so", "points.c"}, nil)
	j.silent(cc, j.wait(cc))
	script := `#!/bin/sh
case $1 in dump|restore|swrk) ;; *) exec ` + real + ` "$@" ;; esac
read -r FAULT <` + j.dir + `/fault
FAULT_PID=$$ FAULT_SEEN=` + j.dir + `/seen LD_PRELOAD=` + j.dir + `/points.so
export FAULT FAULT_PID FAULT_SEEN LD_PRELOAD
exec ` + real + ` "$@"
`
	if err := harness.WriteProgram(filepath.Join(j.dir, "criu"), []byte(script), 0o755); err != nil {
		j.t.Fatal(err)
	}
	j.env = append(j.env, "CR_CRIU="+filepath.Join(j.dir, "criu"))
}

// faultAt says what the next criu does at a point; at the 0. it does nothing.
func (j *job) faultAt(f fault) {
	j.write("seen", string(make([]byte, 4096)))
	j.write("fault", fmt.Sprintf("%c%c%c%d\n", f.point, f.place, f.does, f.nth))
}

// pointsSeen returns the counts so far.
func (j *job) pointsSeen() (p points) {
	text := []byte(j.read("seen"))
	for i, n := range []*int{&p.images, &p.detaches, &p.programs, &p.exits, &p.faults} {
		if len(text) >= 4*i+4 {
			*n = int(binary.LittleEndian.Uint32(text[4*i:]))
		}
	}
	return p
}

// fault is what the library is told.
type fault struct {
	point byte
	nth   int
	place byte
	does  byte
}

func (f fault) String() string {
	point := map[byte]string{'i': "image", 'd': "detach", 'x': "program", 'e': "exit"}[f.point]
	place := map[byte]string{'b': "before", 'a': "after", 'i': "inside"}[f.place]
	does := map[byte]string{'k': "criu is killed", 'o': "the process is killed", 's': "criu is stopped", 'h': "it hangs", 'f': "it fails"}[f.does]
	return fmt.Sprintf("%s %s %d: %s", place, point, f.nth, does)
}

// faultsAt are those that are tried at the points that were counted. Those at images have
// the place and what is done.
func faultsAt(p points, atImage []string) (all []fault) {
	for n := range p.images {
		for _, s := range atImage {
			all = append(all, fault{'i', n + 1, s[0], s[1]})
		}
	}
	for n := range p.detaches {
		for _, s := range []string{"bk", "ak", "bs", "as"} {
			all = append(all, fault{'d', n + 1, s[0], s[1]})
		}
	}
	for n := range p.programs {
		for _, s := range []string{"bh", "bf", "bk", "bs"} {
			all = append(all, fault{'x', n + 1, s[0], s[1]})
		}
	}
	return append(all, fault{'e', 1, 'b', 'k'}, fault{'e', 1, 'b', 's'})
}

// faced waits until a command has ended or, for a fault after which nothing goes on by
// itself, gives it up by SIGTERM. It returns how it ends, and in how much time.
func (j *job) faced(p *process, f fault) (end syscall.WaitStatus, said string, took time.Duration) {
	j.t.Helper()
	if f.does == 's' || f.does == 'h' {
		ended := false
		j.until("the fault, or the command's end", func() bool {
			select {
			case <-p.ended:
				ended = true
			default:
			}
			return ended || j.pointsSeen().faults > 0
		})
		if !ended {
			begin := time.Now()
			_ = unix.Kill(p.pid, unix.SIGTERM)
			j.wait(p)
			took = time.Since(begin)
		}
	}
	end = j.wait(p)
	text, _ := os.ReadFile(p.stderr)
	return end, string(text), took
}

// TestFaultDumpPoints has criu killed, fail, stop and hang at every image that it
// transfers in a dump, at every program that it executes, whenever it lets go of a
// process, and at its end. The job runs on, the old context is there or the new one, and
// nothing is left.
func TestFaultDumpPoints(t *testing.T) {
	engine(t)
	v := &victim{job: newJob(t, "pipes")}
	v.launch()
	if err := os.Mkdir(filepath.Join(v.dir, "to"), 0o755); err != nil {
		t.Fatal(err)
	}
	v.ctx = filepath.Join(v.dir, "to", "ctx")
	v.faulty()
	v.faultAt(fault{'i', 0, 'b', 'k'})
	v.checkpoint(v.ctx, strconv.Itoa(v.pid))
	v.note()
	all := v.pointsSeen()
	if all == (points{}) {
		t.Skip("this criu does not load the library")
	}
	if all.images < 10 || all.detaches == 0 || all.exits != 1 {
		t.Fatalf("points of a dump: %+v", all)
	}
	atImage := []string{"bk", "ak", "ik", "bf", "af", "if", "as"}
	var longest time.Duration
	failed := 0
	tried := faultsAt(all, atImage)
	for i, f := range tried {
		var args []string
		if f.point == 'i' && i%2 == 1 {
			args = []string{"--kill"} // which nothing comes of
		}
		v.faultAt(f)
		what := fmt.Sprint(f, " ", args)
		p := v.command("cr_checkpoint", append(args, "-f", v.ctx, strconv.Itoa(v.pid))...)
		end, said, took := v.faced(p, f)
		longest = max(longest, took)
		if n := v.pointsSeen().faults; n != 1 {
			t.Errorf("%s: there were %d faults", what, n)
		}
		switch {
		case end == 0 && len(args) == 0 && said == "":
			v.note()
		case end.Exited() && (end.ExitStatus() == 5 || f.point == 'x') && strings.HasPrefix(said, "Checkpoint failed: ") && strings.Contains(said, "\n- "):
			failed++
		case end.Signaled() && end.Signal() == unix.SIGTERM && said == "" && took > 0:
			failed++
		default:
			t.Errorf("%s: %s\n%s", what, describe(end), said)
		}
		v.intact()
		if left, _ := os.ReadDir(v.tmp); len(left) > 0 || t.Failed() {
			t.Fatalf("%s; left in TMPDIR: %v", what, left)
		}
	}
	t.Logf("%d faults at %d images, %d detaches, %d programs and the end; %d made the checkpoint fail; given up within %v",
		len(tried), all.images, all.detaches, all.programs, failed, longest)
	if failed < all.images*(len(atImage)-1) {
		t.Error("too few of them have had an effect")
	}
	v.faultAt(fault{'i', 0, 'b', 'k'})
	v.checkpoint(v.ctx, strconv.Itoa(v.pid))
	v.finish()
}

// TestFaultRestorePoints is the same for a restore. Of the job nothing is there, or it runs.
func TestFaultRestorePoints(t *testing.T) {
	j, ctx := newEnded(t, "pipes")
	j.faulty()
	// again has a restart that is as it should be, and ends the job.
	again := func() points {
		j.faultAt(fault{'i', 0, 'b', 'k'})
		j.rewind()
		keepClear(j.pid)
		pids := 0
		j.restart(ctx)
		pids = len(tree(j.pid))
		if pids != 2 {
			t.Errorf("%d processes", pids)
		}
		for _, pid := range tree(j.pid) {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
		j.wait(j.proc)
		j.nothing()
		return j.pointsSeen()
	}
	all := again()
	if all.images < 10 || all.exits != 1 {
		t.Fatalf("points of a restore: %+v", all)
	}
	atImage := []string{"bk", "ak", "ik", "bo", "io", "bf", "af", "if", "as"}
	var longest time.Duration
	failed, ran := 0, 0
	tried := faultsAt(all, atImage)
	for _, f := range tried {
		j.faultAt(f)
		j.rewind()
		keepClear(j.pid)
		p := j.command("cr_restart", ctx)
		runs := false
		j.until("the job to run, the fault, or the command's end", func() bool {
			select {
			case <-p.ended:
				return true
			default:
			}
			runs = j.beat() > 0
			return runs || (f.does == 's' || f.does == 'h') && j.pointsSeen().faults > 0
		})
		if runs {
			ran++
			_ = unix.Kill(p.pid, unix.SIGTERM)
		}
		end, said, took := j.faced(p, f)
		longest = max(longest, took)
		if n := j.pointsSeen().faults; n > 1 || n == 0 && !runs {
			t.Errorf("%v: there were %d faults", f, n)
		}
		switch {
		case runs:
		case end.Exited() && (end.ExitStatus() == 5 || f.point == 'x') && strings.HasPrefix(said, "Restart failed: ") && strings.Contains(said, "\n- "):
			failed++
		case end.Signaled() && end.Signal() == unix.SIGTERM && said == "" && took > 0:
			failed++
		default:
			t.Errorf("%v: %s\n%s", f, describe(end), said)
		}
		j.nothing()
		if t.Failed() {
			t.Fatalf("%v: %s", f, said)
		}
	}
	t.Logf("%d faults at %d images, %d detaches, %d programs and the end; %d made the restart fail, after %d the job ran; given up within %v",
		len(tried), all.images, all.detaches, all.programs, failed, ran, longest)
	if failed < all.images*(len(atImage)-1) {
		t.Error("too few of them have had an effect")
	}
	if got := again(); !slices.Equal([]int{got.images, got.exits}, []int{all.images, all.exits}) {
		t.Errorf("points of the last restore: %+v, of the first: %+v", got, all)
	}
	j.faultAt(fault{'i', 0, 'b', 'k'})
	j.rewind()
	keepClear(j.pid)
	j.restart(ctx)
	j.finish()
}
