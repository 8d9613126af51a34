package pstree

import (
	"context"
	"fmt"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/hints"
	"blcr-cli/internal/proc"
	"blcr-cli/internal/reexec"
	"blcr-cli/internal/show"
	"blcr-cli/internal/signals"
)

// A file system that a program serves (FUSE) may not answer. CRIU would wait for it, with the
// processes frozen, and could not be stopped without harm to them. So each file of theirs
// there is asked for its attributes before. A process that asks cannot even be killed once the
// program has read its question, and does so for this one.

const roleAsker = "asker"

func init() {
	reexec.Register(reexec.Role{Name: roleAsker, Run: func(_ []int, paths []string) int {
		for _, path := range paths {
			var st unix.Statx_t
			_ = unix.Statx(unix.AT_FDCWD, path, unix.AT_STATX_FORCE_SYNC, unix.STATX_BASIC_STATS, &st)
			_, _ = unix.Write(0, []byte{0}) // answered
		}
		return 0
	}})
}

// mostServed is how many files are asked for.
const mostServed = 1000

// served returns the files of the tree that are on such file systems: paths in /proc, and which
// files they are, without those that are in known, to which it adds them. It asks no server.
func (t *Tree) served(known map[string]bool) (paths, files []string) {
	devices := proc.Served(t.Root)
	if len(devices) == 0 {
		return nil, nil
	}
	add := func(pid int, path, link string) {
		var st unix.Statx_t
		if known[link] || len(files) == mostServed || !strings.HasPrefix(link, "/") || unix.Statx(unix.AT_FDCWD, path, unix.AT_STATX_DONT_SYNC, 0, &st) != nil || !devices[unix.Mkdev(st.Dev_major, st.Dev_minor)] {
			return
		}
		known[link] = true
		paths = append(paths, path)
		files = append(files, fmt.Sprintf("%s has %s", hints.Process(pid), show.Name(link)))
	}
	for _, pid := range t.PIDs {
		for _, which := range []string{"cwd", "root", "exe"} {
			path, link := proc.Place(pid, which)
			add(pid, path, link)
		}
		for d, err := range proc.Descriptors(pid) {
			if err == nil {
				add(pid, proc.Open(pid, d.FD), d.Link)
			}
		}
		for m, err := range proc.Mappings(pid) {
			if err == nil && devices[m.Dev] {
				add(pid, m.Link(pid), m.Path)
			}
		}
	}
	return paths, files
}

// awaitServed returns when these files have been answered for, or with an error when ctx is
// cancelled.
func (t *Tree) awaitServed(ctx context.Context, known map[string]bool) error {
	paths, files := t.served(known)
	var pipe [2]int
	if len(paths) == 0 || unix.Pipe2(pipe[:], unix.O_CLOEXEC) != nil {
		return nil
	}
	defer unix.Close(pipe[0])
	pid, err := reexec.Start(roleAsker, nil, paths, reexec.Attr{Env: []string{"GOMAXPROCS=1"}, Files: []uintptr{uintptr(pipe[1])}})
	unix.Close(pipe[1])
	if err != nil {
		return nil
	}
	answered := 0
	for buf := make([]byte, mostServed); ctx.Err() == nil; {
		ready := []unix.PollFd{{Fd: int32(pipe[0]), Events: unix.POLLIN}}
		if n, _ := unix.Poll(ready, 50); n <= 0 {
			continue
		}
		n, err := unix.Read(pipe[0], buf)
		if n > 0 {
			answered += n
		} else if err != unix.EINTR {
			_, _ = signals.Wait(pid)
			return nil
		}
	}
	_ = unix.Kill(pid, unix.SIGKILL)
	e := &ckpt.Error{Op: "checkpoint", Object: "processes", Errno: syscall.ECANCELED}
	if answered < len(files) {
		e = with(e, files[answered]+", and the program that serves its file system (FUSE) does not answer")
	}
	return e
}
