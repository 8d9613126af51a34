package signals

import (
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// CallerVar is the environment variable by which a command of ours gives another one a
// pipe: the number of a descriptor. The caller closes its end to have the command given
// up, and so does the kernel if the caller is killed. A signal could not be that: it may
// come when it is passed on to the job.
const CallerVar = "BLCR_CLI_CALLER"

// WatchCaller ends the process as SIGTERM does when the caller closes its end of that
// pipe, unless the guard has finished by then. It takes the variable out of the
// environment, and does nothing without it. It reports whether there is such a caller.
func (g *Guard) WatchCaller() bool {
	fd, err := strconv.Atoi(os.Getenv(CallerVar))
	os.Unsetenv(CallerVar)
	var st unix.Stat_t
	if err != nil || fd <= 2 || unix.Fstat(fd, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFIFO {
		return false
	}
	unix.CloseOnExec(fd)
	go func() {
		for {
			switch n, err := unix.Read(fd, make([]byte, 1)); {
			case err == unix.EINTR || n > 0:
			case err == nil:
				g.mu.Lock()
				defer g.mu.Unlock()
				if !g.finished {
					g.end(syscall.SIGTERM)
				}
				return
			default:
				return
			}
		}
	}()
	return true
}
