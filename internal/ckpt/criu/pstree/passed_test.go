package pstree

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/proc"
)

// passes is a program that passes a descriptor to a socket that it does not read from,
// closes its own, and says so.
const passes = `
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static void pass(int to, int fd)
{
	char byte = 0, control[CMSG_SPACE(sizeof fd)] = {0};
	struct iovec data = { &byte, 1 };
	struct msghdr m = { 0, 0, &data, 1, control, sizeof control };
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof fd);
	memcpy(CMSG_DATA(c), &fd, sizeof fd);
	if (sendmsg(to, &m, 0) < 0)
		_exit(1);
	close(fd);
}

int main(int argc, char **argv)
{
	int type = atoi(argv[2]), a[2], b[2];

	socketpair(AF_UNIX, type, 0, a);
	socketpair(AF_UNIX, SOCK_STREAM, 0, b);
	if (!strcmp(argv[1], "file")) {
		pass(a[0], open("/dev/null", O_RDONLY));
	} else if (!strcmp(argv[1], "itself")) { /* to its own peer */
		pass(a[0], a[0]);
	} else if (!strcmp(argv[1], "other")) { /* its peer is open */
		pass(b[0], a[0]);
	} else if (!strcmp(argv[1], "lonely")) { /* has lost its peer */
		close(a[1]);
		pass(b[0], a[0]);
	} else if (!strcmp(argv[1], "owner")) {
		if (fcntl(a[0], F_SETOWN, atoi(argv[3]) ? atoi(argv[3]) : getpid()))
			return 1;
	}
	write(1, "ready\n", 6);
	for (;;)
		pause();
}
`

// TestPassed: of the descriptors that are on their way to a socket only those are refused
// that CRIU cannot restore.
func TestPassed(t *testing.T) {
	program := compile(t, passes)
	resolve := func(pid int) error {
		_, err := resolve(t, &ckpt.CheckpointRequest{ID: int32(pid), Scope: ckpt.ScopeTree, Limit: 50 * time.Millisecond})
		return err
	}
	strange := homeless(t)
	for _, c := range []struct {
		args    string
		refused bool
	}{
		{"file 1", false}, {"file 2", false}, {"other 1", false}, {"other 2", false},
		{"itself 1", true}, {"itself 2", true}, {"itself 5", true}, {"lonely 1", true}, {"lonely 2", true},
	} {
		t.Run(strings.ReplaceAll(c.args, " ", "-"), func(t *testing.T) {
			pid := odd(t, program, strings.Fields(c.args)...)
			counted := false
			for d := range proc.Descriptors(pid) {
				counted = counted || proc.PassedOn(pid, d.FD) > 0
			}
			if !counted {
				t.Skip("this kernel does not say what is on its way")
			}
			if strings.HasPrefix(c.args, "lonely") && os.Geteuid() != 0 {
				t.Skip("looks at every process, which takes root")
			}
			if !c.refused {
				// What the tests before have left may take a moment to go.
				for begin := time.Now(); resolve(pid) != nil; {
					if time.Since(begin) > 5*time.Second && strange > 0 {
						t.Skip("there are sockets of processes that this pid namespace does not show")
					}
					if time.Since(begin) > time.Minute {
						t.Fatalf("refused: %q", detail(resolve(pid)))
					}
				}
				return
			}
			checkError(t, resolve(pid), syscall.EBUSY, fmt.Sprintf("process %d (odd) has a socket open as descriptor ", pid))
		})
	}
}

// homeless is how many sockets without a peer no process has open that is to be seen here.
// Before a test has passed any they are those of processes outside of this pid namespace.
func homeless(t *testing.T) (n int) {
	sockets, err := unixSockets()
	if err != nil {
		t.Fatal(err)
	}
	open, _ := new(preflight).openSockets()
	for _, s := range sockets {
		if s.inode != 0 && s.peer == 0 && !open[s.inode] {
			n++
		}
	}
	return n
}

// TestOwner: a file that sends signals to a process outside of the tree is refused, and
// one that sends them to one in it is not.
func TestOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("looks at files of other processes, which takes root where Yama is")
	}
	program := compile(t, passes)
	outsider, _, _ := start(t, "/bin/cat")
	for _, owner := range []int{0, outsider} {
		pid := odd(t, program, "owner", "1", fmt.Sprint(owner))
		before := opened(t)
		tree, err := resolve(t, &ckpt.CheckpointRequest{ID: int32(pid), Scope: ckpt.ScopeTree})
		if err == nil {
			tree.Close()
		}
		if owner == 0 {
			if err != nil {
				t.Errorf("its own: %q", detail(err))
			}
		} else {
			checkError(t, err, syscall.EOPNOTSUPP, fmt.Sprintf("sends its signals to process %d (F_SETOWN)", outsider))
		}
		if after := opened(t); after != before {
			t.Errorf("%d descriptors are open, before it were %d", after, before)
		}
	}
	if err := unix.Kill(outsider, 0); err != nil {
		t.Error(err)
	}
}

// opened is how many descriptors this process has open.
func opened(t *testing.T) (n int) {
	t.Helper()
	for _, err := range proc.Descriptors(os.Getpid()) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	return n
}
