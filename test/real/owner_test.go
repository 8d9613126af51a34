//go:build real

package real

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"blcr-cli/test/harness"

	"golang.org/x/sys/unix"
)

// TestFileOwners: files send their signals to the process group that the job has after a
// restart, and to nobody if that was a process outside of the job which has ended.
func TestFileOwners(t *testing.T) {
	engine(t)
	python := harness.Tool(t, "/usr/bin/python3", "python3")
	j := newJob(t, "counter")
	outside := j.start("sleep", []string{"/bin/sleep", "1000"}, nil)
	j.write("owners.py", `import fcntl, os, struct, sys, time
group, gone = os.pipe()[0], [os.open("file", os.O_RDWR | os.O_CREAT), os.open("/dev/zero", os.O_RDWR)]
fcntl.fcntl(group, 15, struct.pack("ii", 2, os.getpgrp()))
for f in gone:
	fcntl.fcntl(f, fcntl.F_SETOWN, int(sys.argv[1]))
open("ready", "w").close()
while not os.access("go", os.F_OK):
	time.sleep(0.01)
owner = lambda f: struct.unpack("ii", fcntl.fcntl(f, 16, bytes(8)))
if owner(group) != (2, os.getpgrp()) or any(owner(f)[1] for f in gone):
	print(owner(group), os.getpgrp(), [owner(f) for f in gone])
	os._exit(1)
os._exit(7)
`)
	p := j.run(python, "owners.py", strconv.Itoa(outside.pid))
	j.until("the program to be ready", func() bool { return j.exists("ready") })
	ctx := filepath.Join(j.dir, "ctx")
	save := j.command("cr_checkpoint", "--kill", "-f", ctx, strconv.Itoa(p.pid))
	j.silent(save, j.wait(save))
	j.wait(p)
	_ = unix.Kill(outside.pid, unix.SIGKILL)
	j.wait(outside)
	j.write("go", "")
	j.ends(j.again(ctx), 7, "", "")
}

// TestUnreadTerminal: what a job has not read yet from its own terminal is as it was, in the job
// that runs on and in the restarted one.
func TestUnreadTerminal(t *testing.T) {
	engine(t)
	python := harness.Tool(t, "/usr/bin/python3", "python3")
	j := newJob(t, "counter")
	j.write("unread.py", `import os, time
pairs = [os.openpty() for _ in range(3)]
os.write(pairs[0][1], b"one\ntwo\n")
os.write(pairs[1][0], b"typed\n")
for pair in pairs[:2]:
	os.dup(pair[0]), os.open(os.ttyname(pair[1]), os.O_RDWR | os.O_NOCTTY)
open("ready", "w").close()
while not os.access("go", os.F_OK):
	time.sleep(0.01)
got = []
for master, slave in pairs[:2]:
	os.write(slave, b"end")
	text = b""
	while not text.endswith(b"end"):
		text += os.read(master, 1000)
	got.append(text)
got.append(os.read(pairs[1][1], 1000))
open("got", "w").write(repr(got))
os._exit(7)
`)
	const want = `[b'one\r\ntwo\r\nend', b'typed\r\nend', b'typed\n']`
	p := j.run(python, "unread.py")
	j.until("the program to be ready", func() bool { return j.exists("ready") })
	for n, to := range [][]string{{"-f", filepath.Join(j.dir, "ctx")}, {"--run", "-d", filepath.Join(j.dir, "images")}} {
		if n == 1 {
			if err := os.Mkdir(filepath.Join(j.dir, "images"), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		save := j.command("cr_checkpoint", append(to, strconv.Itoa(p.pid))...)
		j.silent(save, j.wait(save))
	}
	j.write("go", "")
	j.ends(p, 7, "", "")
	if got := j.read("got"); got != want {
		t.Errorf("the program that ran on has read %s, want %s", got, want)
	}
	for range 2 {
		j.write("got", "")
		j.ends(j.again(filepath.Join(j.dir, "ctx")), 7, "", "")
		if got := j.read("got"); got != want {
			t.Errorf("the restarted program has read %s, want %s", got, want)
		}
	}
}

// TestClosedTerminal: a program learns after a restart that the other end of its terminal has
// been closed, and of another one that it has not been opened yet.
func TestClosedTerminal(t *testing.T) {
	engine(t)
	python := harness.Tool(t, "/usr/bin/python3", "python3")
	j := newJob(t, "counter")
	j.write("closed.py", `import os, select, time
closed, slave = os.openpty()
os.close(slave)
fresh = os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY)
open("ready", "w").close()
while not os.access("go", os.F_OK):
	time.sleep(0.01)
poll = select.poll()
for fd in closed, fresh:
	poll.register(fd, select.POLLIN)
os._exit(7 if poll.poll(0) == [(closed, select.POLLHUP)] else 1)
`)
	p := j.run(python, "closed.py")
	j.until("the program to be ready", func() bool { return j.exists("ready") })
	ctx := filepath.Join(j.dir, "ctx")
	save := j.command("cr_checkpoint", "--kill", "-f", ctx, strconv.Itoa(p.pid))
	j.silent(save, j.wait(save))
	j.wait(p)
	j.write("go", "")
	j.ends(j.again(ctx), 7, "", "")
}
