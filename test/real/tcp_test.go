//go:build real

package real

import (
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
)

// TestConnectionOutside: a TCP connection to a process that is not saved is refused, with
// the address and, if it is on this machine, the process of the other end. A connection
// that the other end has closed, and a program that listens, are not.
func TestConnectionOutside(t *testing.T) {
	if why := criuBefore(4, 2, "no TCP on new kernels")(); why != "" {
		t.Skip(why)
	}
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		t.Run(address, func(t *testing.T) {
			j := newCaller(t)
			l, err := net.Listen("tcp", address)
			if err != nil {
				t.Skip(err)
			}
			defer l.Close()
			j.write("program", `
import socket, sys
c = socket.create_connection((sys.argv[1], int(sys.argv[2])))
open("ready", "w").close()
while c.recv(10): pass
s = socket.socket()
s.bind(("127.0.0.1", 0))
s.listen(3)
with open("port.tmp", "w") as f: f.write(str(s.getsockname()[1]))
import os; os.rename("port.tmp", "port")
s.accept()[0].send(b"here")
`)
			host, port, _ := net.SplitHostPort(l.Addr().String())
			p := j.run("/usr/bin/python3", "program", host, port)
			c, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			j.until("the script to be ready", func() bool { return j.exists("ready") })
			ctx := j.dir + "/ctx"
			asked := j.command("cr_checkpoint", "--kill", "-f", ctx, fmt.Sprint(p.pid))
			end := j.wait(asked)
			said, _ := os.ReadFile(asked.stderr)
			peer := ":" + port
			if end != syscall.WaitStatus(95<<8) || !strings.Contains(string(said), peer) || !strings.Contains(string(said), fmt.Sprintf("in process %d ", os.Getpid())) {
				t.Errorf("%s: %s", describe(end), said)
			}
			j.noContext()
			c.Close()
			var listens []byte
			j.until("the program to listen", func() bool {
				listens, _ = os.ReadFile(j.dir + "/port")
				return len(listens) > 0
			})
			j.savedAndKilled(p)
			p = j.command("cr_restart", ctx)
			j.until("an answer", func() bool {
				conn, err := net.Dial("tcp", "127.0.0.1:"+string(listens))
				if err != nil {
					return false
				}
				defer conn.Close()
				text, _ := io.ReadAll(conn)
				return string(text) == "here"
			})
			j.silent(p, j.wait(p))
		})
	}
}

// TestHalfClosed: of connections of which one end has been shut down, the other end receives
// what it has not read yet, and answers, whichever end is restored first.
func TestHalfClosed(t *testing.T) {
	if why := criuBefore(4, 2, "no TCP on new kernels")(); why != "" {
		t.Skip(why)
	}
	for _, address := range []string{"127.0.0.1", "::1"} {
		for _, first := range []string{"client", "server"} { // is the first process
			t.Run(address+"/"+first, func(t *testing.T) {
				j := newCaller(t)
				j.write("program", `
import os, socket, sys, time
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
l = socket.socket(family)
l.bind((sys.argv[1], 0))
l.listen(50)
clients = [socket.create_connection(l.getsockname()[:2]) for _ in range(20)]
servers = [l.accept()[0] for _ in clients]
l.close()
for n, c in enumerate(clients):
	c.sendall(b"asked %d" % n)
	if n % 3 == 0:
		servers[n].sendall(b"early, ")
	if n % 2 == 0:
		c.shutdown(socket.SHUT_WR)
	if n % 4 == 2:
		assert servers[n].recv(100) == b"asked %d" % n
child = os.fork()
is_client = (child != 0) == (sys.argv[2] == "client")
for s in servers if is_client else clients:
	s.close()
if child:
	open("ready", "w").close()
while not os.path.exists("go"):
	time.sleep(0.01)
if is_client:
	for n, c in enumerate(clients):
		if n % 2 == 1:
			c.shutdown(socket.SHUT_WR)
		answer = b""
		while b := c.recv(100):
			answer += b
		assert answer == (b"early, " if n % 3 == 0 else b"") + b"answered %d" % n, (n, answer)
else:
	for n, c in enumerate(servers):
		asked = b""
		while b := c.recv(100):
			asked += b
		assert asked == (b"" if n % 4 == 2 else b"asked %d" % n), (n, asked)
		c.sendall(b"answered %d" % n)
		c.close()
if child:
	sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) or 5)
`)
				p := j.run("/usr/bin/python3", "program", address, first)
				j.until("the program to be ready", func() bool { return j.exists("ready") })
				j.savedAndKilled(p)
				j.write("go", "")
				j.ends(j.again("ctx"), 5, "", "")
				j.nothing()
			})
		}
	}
}
