package main

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// way is one way to save a process.
type way interface {
	String() string
	times() *times
	clear() error                         // removes what the last save has written
	save(v *victim) error                 // returns when everything is on disk
	warm() error                          // reads the context into the page cache
	drop() error                          // removes it from there
	bringBack(v *victim) (restart, error) // the process is ended then
}

// restart is how long one took.
type restart struct {
	runs   time.Duration // from the start of the program until the target runs
	placed time.Duration // until all of its memory is in place
}

// times are the results for a way.
type times struct {
	total   []time.Duration // from the start of the program to its end
	frozen  []time.Duration // as observed by the target
	restart []time.Duration // until the target runs
	placed  []time.Duration // and until all of its memory is in place
	cold    []time.Duration // as restart, from the disk
	size    int64           // of the context
}

// ways returns the commands, criu, and the plain copy, in this order, with others
// between them.
func (b *bench) ways() []way {
	ours := b.command()
	ways := []way{ours}
	for i, dir := range b.also {
		ways = append(ways, &command{
			name:       filepath.Base(dir),
			checkpoint: filepath.Join(dir, "cr_checkpoint"),
			restart:    filepath.Join(dir, "cr_restart"),
			context:    b.path("context-" + strconv.Itoa(i)),
		})
	}
	if b.lazy {
		lazy := b.command()
		lazy.name, lazy.context, lazy.lazy = "lazy", b.path("context-lazy"), true
		ways = append(ways, lazy)
	}
	if b.compress != "" {
		ways = append(ways, b.compressing())
	}
	return append(ways, &plainCriu{path: b.criu.Path, dir: b.path("images")}, &copying{file: b.path("copy"), like: ours.context})
}

// command is the two commands, with a context file.
type command struct {
	name, checkpoint, restart string
	context                   string
	options                   []string // of cr_checkpoint
	lazy                      bool     // cr_restart --lazy
	measured                  times
}

// command returns the way that has to keep the limits.
func (b *bench) command() *command {
	return &command{name: "ours", checkpoint: b.checkpoint, restart: b.restart, context: b.path("context")}
}

// compressing returns the commands with --compress.
func (b *bench) compressing() *command {
	return &command{
		name: b.compress, checkpoint: b.checkpoint, restart: b.restart, context: b.path("context-compressed"),
		options: []string{"--compress=" + b.compress},
	}
}

func (c *command) String() string { return c.name }
func (c *command) times() *times  { return &c.measured }

func (c *command) clear() error { return os.RemoveAll(c.context) }

func (c *command) save(v *victim) error {
	return run(c.checkpoint, append(c.options, "-f", c.context, strconv.Itoa(v.pid))...)
}

func (c *command) warm() error { return read(c.context) }
func (c *command) drop() error { return forget(c.context) }

// bringBack ends the command by ending the restored process, which is its child.
func (c *command) bringBack(v *victim) (r restart, err error) {
	args := []string{c.context}
	if c.lazy {
		args = append(args, "--lazy")
	}
	cmd, output := prepare(c.restart, args...)
	v.reset()
	start := now()
	if err := cmd.Start(); err != nil {
		return r, err
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // an error is expected: the process is killed
		close(ended)
	}()
	var failed error
	err = v.await(func() bool {
		select {
		case <-ended:
			failed = fmt.Errorf("%v\n%s", cmd, output)
			return true
		default:
			return v.first.Load() != 0
		}
	})
	if err = cmp.Or(failed, err); err != nil {
		return r, err
	}
	r.runs = time.Duration(v.first.Load() - start)
	r.placed = r.runs
	if c.lazy {
		if err := v.await(func() bool { return !fillsMemory(cmd.Process.Pid) }); err != nil {
			return r, err
		}
		r.placed = time.Duration(now() - start)
	}
	if err := v.kill(false); err != nil {
		return r, err
	}
	<-ended
	return r, v.awaitTree()
}

// fillsMemory reports whether a process has a userfaultfd open.
func fillsMemory(pid int) bool {
	dir := fmt.Sprintf("/proc/%d/fd/", pid)
	names, _ := os.ReadDir(dir)
	return slices.ContainsFunc(names, func(name os.DirEntry) bool {
		file, _ := os.Readlink(dir + name.Name())
		return file == "anon_inode:[userfaultfd]"
	})
}

// plainCriu is criu with a directory of images, and with those of our options that
// change what it saves.
type plainCriu struct {
	path, dir string
	measured  times
}

func (*plainCriu) String() string  { return "criu" }
func (p *plainCriu) times() *times { return &p.measured }

func (p *plainCriu) clear() error { return os.RemoveAll(p.dir) }

func (p *plainCriu) save(v *victim) error {
	if err := os.Mkdir(p.dir, 0o700); err != nil {
		return err
	}
	err := run(p.path, "dump", "-D", p.dir, "-t", strconv.Itoa(v.pid), "--leave-running",
		"--shell-job", "--manage-cgroups=ignore", "-v1")
	if err != nil {
		return err
	}
	return each(p.dir, true, (*os.File).Sync)
}

func (p *plainCriu) warm() error {
	return each(p.dir, false, func(f *os.File) error {
		_, err := io.Copy(io.Discard, f)
		return err
	})
}

func (p *plainCriu) drop() error {
	return each(p.dir, false, func(f *os.File) error { return forget(f.Name()) })
}

func (p *plainCriu) bringBack(v *victim) (r restart, err error) {
	v.reset()
	start := now()
	err = run(p.path, "restore", "-D", p.dir, "--restore-detached", "--restore-sibling",
		"--shell-job", "--manage-cgroups=ignore", "-v1")
	if err != nil {
		return r, err
	}
	if err := v.await(func() bool { return v.first.Load() != 0 }); err != nil {
		return r, err
	}
	r.runs = time.Duration(v.first.Load() - start)
	r.placed = r.runs
	return r, v.kill(true)
}

// copying writes as many bytes into a file as a context has.
type copying struct {
	file, like string
	measured   times
}

func (*copying) String() string  { return "copy" }
func (c *copying) times() *times { return &c.measured }

func (c *copying) clear() error { return os.RemoveAll(c.file) }

func (c *copying) save(*victim) error {
	fi, err := os.Stat(c.like)
	if err != nil {
		return err
	}
	f, err := os.Create(c.file)
	if err != nil {
		return err
	}
	defer f.Close()
	for left := fi.Size(); left > 0; left -= int64(len(noise)) {
		if _, err := f.Write(noise[:min(left, int64(len(noise)))]); err != nil {
			return err
		}
	}
	return f.Sync()
}

func (c *copying) warm() error                        { return nil }
func (c *copying) drop() error                        { return nil }
func (c *copying) bringBack(*victim) (restart, error) { return restart{}, nil }

// noise is the data that is copied.
var noise = func() []byte {
	b := make([]byte, 1<<20)
	_, _ = rand.NewChaCha8([32]byte{}).Read(b)
	return b
}()

// prepare returns a command, and the buffer for its messages.
func prepare(path string, args ...string) (*exec.Cmd, *bytes.Buffer) {
	cmd := exec.Command(path, args...)
	output := new(bytes.Buffer)
	cmd.Stdout, cmd.Stderr = output, output
	return cmd, output
}

// run runs a program; an exit status other than 0 is an error.
func run(path string, args ...string) error {
	cmd, output := prepare(path, args...)
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%v: %w\n%s", cmd, err, output)
	}
	return nil
}

// each calls a function for every file in a directory, and if requested for the
// directory itself.
func each(dir string, too bool, do func(*os.File) error) error {
	files, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var paths []string
	for _, file := range files {
		paths = append(paths, filepath.Join(dir, file.Name()))
	}
	if too {
		paths = append(paths, dir)
	}
	for _, path := range paths {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		err = do(f)
		f.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// read reads a file to its end.
func read(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(io.Discard, f)
	return err
}

// forget removes a file from the page cache. It has to be on disk.
func forget(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return os.NewSyscallError("fadvise", unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED))
}
