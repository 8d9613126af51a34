// Recording records a terminal session with the commands, in asciicast format version 2:
// a program is saved twice, looked at by cr_info, ended and restored. A shell runs on a
// pseudo-terminal and gets the session typed; everything that is in the file it has
// printed, at that time. 'make recording' runs this.
//
// Usage: recording PROGRAMS FILE, as root. PROGRAMS is a directory with the commands and
// with .count, which is demo/count.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// session is what is typed.
var session = []string{
	"./count >numbers &",
	"cr_checkpoint --backup -f sim.context $!",
	"cr_checkpoint --backup -f sim.context --term $!",
	"paste -s -d ' ' numbers",
	"cr_info .",
	"cr_info --diff sim.context.~1~ sim.context",
	"cr_restart sim.context; echo $?",
	"paste -s -d ' ' numbers",
}

const (
	columns, rows = 124, 30
	prompt        = "$ "
	key           = 20 * time.Millisecond  // between two keys
	thought       = 600 * time.Millisecond // before a command
	patience      = time.Minute            // for a command
)

// header is the first line of the file.
type header struct {
	Version   int               `json:"version"`
	Width     int               `json:"width"`
	Height    int               `json:"height"`
	Timestamp int64             `json:"timestamp"`
	Title     string            `json:"title"`
	Env       map[string]string `json:"env"`
}

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: recording PROGRAMS FILE")
		os.Exit(2)
	}
	if err := record(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "recording:", err)
		os.Exit(1)
	}
}

func record(programs, file string) error {
	programs, err := filepath.Abs(programs)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "demo")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := os.Symlink(filepath.Join(programs, ".count"), filepath.Join(dir, "count")); err != nil {
		return err
	}
	// The name of this machine is in each context.
	runtime.LockOSThread()
	if err := errors.Join(unix.Unshare(unix.CLONE_NEWUTS), unix.Sethostname([]byte("node1"))); err != nil {
		return fmt.Errorf("another host name: %w", err)
	}
	t, err := start(programs, dir)
	if err != nil {
		return err
	}
	err = t.play()
	if err := errors.Join(err, t.stop()); err != nil {
		return err
	}
	return os.WriteFile(file, t.out.Bytes(), 0o644)
}

// terminal is a shell on a pseudo-terminal, and what it has printed.
type terminal struct {
	shell *exec.Cmd
	main  *os.File
	begin time.Time
	lines *json.Encoder // into out
	out   bytes.Buffer
}

// start starts the shell.
func start(programs, dir string) (*terminal, error) {
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	t := &terminal{main: os.NewFile(uintptr(fd), "ptmx"), begin: time.Now()}
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err := errors.Join(err, unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0),
		unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: columns})); err != nil {
		return nil, err
	}
	side, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	defer side.Close()
	t.shell = exec.Command("bash", "--norc", "--noprofile", "--noediting", "-i")
	t.shell.Dir = dir
	t.shell.Stdin, t.shell.Stdout, t.shell.Stderr = side, side, side
	t.shell.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	env := map[string]string{"TERM": "xterm-256color", "SHELL": "/bin/bash"}
	t.shell.Env = []string{"PATH=" + programs + ":" + os.Getenv("PATH"), "PS1=" + prompt, "HISTFILE=", "CR_ENGINE=criu", "HOME=" + dir, "LC_ALL=C.UTF-8"}
	for name, value := range env {
		t.shell.Env = append(t.shell.Env, name+"="+value)
	}
	t.lines = json.NewEncoder(&t.out)
	t.lines.SetEscapeHTML(false)
	return t, errors.Join(t.shell.Start(), t.lines.Encode(header{2, columns, rows, t.begin.Unix(), "blcr-cli: save, look, restore", env}))
}

// play types the session.
func (t *terminal) play() error {
	err := t.read(func(text string) bool { return text == prompt })
	for _, line := range session {
		if err != nil {
			return err
		}
		time.Sleep(thought)
		for i := range line {
			if _, err := t.main.WriteString(line[i : i+1]); err != nil {
				return err
			}
			if err := t.read(func(text string) bool { return strings.HasSuffix(text, line[i:i+1]) }); err != nil {
				return err
			}
			time.Sleep(key)
		}
		if _, err := t.main.WriteString("\n"); err != nil {
			return err
		}
		err = t.read(func(text string) bool { return strings.HasSuffix(text, "\n"+prompt) })
	}
	return err
}

// read notes what is printed, until that is what done wants.
func (t *terminal) read(done func(text string) bool) error {
	text := ""
	buffer := make([]byte, 4096)
	if err := t.main.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	for !done(text) {
		n, err := t.main.Read(buffer)
		if err != nil {
			return fmt.Errorf("after %q: %w", text, err)
		}
		at := time.Since(t.begin).Round(time.Millisecond).Seconds()
		if err := t.lines.Encode([]any{at, "o", string(buffer[:n])}); err != nil {
			return err
		}
		text += string(buffer[:n])
	}
	return nil
}

// stop ends the shell.
func (t *terminal) stop() error {
	_, err := t.main.WriteString("\x04")
	if err == nil {
		err = t.shell.Wait()
	}
	return errors.Join(err, t.main.Close())
}
