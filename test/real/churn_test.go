//go:build real

package real

import (
	"strconv"
	"testing"
)

// TestChurn: a job makes and closes TCP connections between its own processes, and starts
// processes by pidfds, while it is looked at. No end of these is taken for another program's.
func TestChurn(t *testing.T) {
	engine(t)
	j := newJob(t, "churn")
	j.write("churn.py", `import os, socket, threading, time
listener = socket.create_server(("127.0.0.1", 0))
for i in range(3):
	if os.fork() == 0:
		while True:
			peer, _ = listener.accept()
			while peer.recv(9): pass
			peer.close()
def connect():
	while True:
		with socket.create_connection(listener.getsockname()) as s:
			s.send(b"x")
			time.sleep(0.02)
			s.shutdown(socket.SHUT_WR)
			s.recv(9)
def start():
	while True:
		pid = os.fork()
		if pid == 0:
			time.sleep(0.01)
			os._exit(0)
		fd = os.pidfd_open(pid)
		os.waitpid(pid, 0)
		os.close(fd)
for i in range(3):
	if os.fork() == 0:
		connect()
if os.fork() == 0:
	start()
open("ready", "w").close()
while True:
	time.sleep(1000)
`)
	p := j.run("/usr/bin/python3", "churn.py")
	j.until("the program to be ready", func() bool { return j.exists("ready") })
	for range 40 {
		check := j.command("cr_checkpoint", "--check", strconv.Itoa(p.pid))
		if end := j.wait(check); end.ExitStatus() != 0 && end.ExitStatus() != 16 {
			t.Fatalf("cr_checkpoint --check: %s", describe(end))
		}
	}
	killMarked(j.marker(), 0)
	j.wait(p)
}
