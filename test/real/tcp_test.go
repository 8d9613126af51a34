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
