package batch

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/proc"
	"blcr-cli/internal/show"
)

// directory holds the generations of one job:
//
//	lock             locked by the cr_batch that uses it; its pid
//	job              the first process of the job that runs: pid, start, session, boot;
//	                 or a cr_restart that restores it
//	.runs            the restart that is recorded there has ended, and the job runs
//	restarts         how often the job was restarted
//	context.000007   a generation, complete
//	stage.000007     its files, if there is a directory of such files
//	*.damaged        set aside
//
// A generation with files is complete if both are there.
type directory struct {
	path string // absolute: the job may have another working directory
	lock *os.File
}

// lockedError is that another cr_batch uses the directory.
type lockedError struct{ path, pid string }

func (e *lockedError) Error() string {
	if e.pid == "" {
		return fmt.Sprintf("%s: another cr_batch is at work there", show.Name(e.path)) // the disk was full
	}
	return fmt.Sprintf("%s: cr_batch with pid %s is at work there", show.Name(e.path), e.pid)
}

// openDirectory creates the directory if it is missing, and locks it. The error is a
// *lockedError if somebody else has locked it, and names a directory that others could
// have put files into: the contexts there would be restarted, and the process that the
// file job names be ended, with the power of this user.
func openDirectory(path string) (*directory, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	d := &directory{path: path}
	for {
		switch err := os.MkdirAll(path, 0o700); {
		case errors.Is(err, os.ErrExist):
			// Removed in between, or a link that leads nowhere.
			if fi, e := os.Lstat(path); e != nil || fi.IsDir() {
				continue
			}
			return nil, err
		case err != nil:
			return nil, err
		}
		if err := d.trusted(); errors.Is(err, os.ErrNotExist) {
			continue
		} else if err != nil {
			return nil, err
		}
		d.lock, err = os.OpenFile(d.file("lock"), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
		if errors.Is(err, os.ErrNotExist) {
			continue // the one before has ended and removed the directory
		}
		if err != nil {
			return nil, err
		}
		err = unix.Flock(int(d.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == unix.EWOULDBLOCK {
			text := make([]byte, 20)
			n, _ := d.lock.Read(text)
			d.lock.Close()
			return nil, &lockedError{path, show.Text(strings.TrimSpace(string(text[:n])))}
		}
		var st unix.Stat_t
		if err == nil {
			err = unix.Fstat(int(d.lock.Fd()), &st)
		}
		if err != nil {
			d.lock.Close()
			return nil, fmt.Errorf("%s: lock: %w", show.Name(path), err)
		}
		if st.Nlink > 0 {
			break
		}
		d.lock.Close() // removed at the end of the one before
	}
	// The pid is for people. The disk may be full, and sweep makes room.
	_ = d.lock.Truncate(0)
	_, _ = d.lock.WriteAt(fmt.Appendln(nil, os.Getpid()), 0)
	if err := d.sweep(); err != nil {
		d.lock.Close()
		return nil, err
	}
	return d, nil
}

// trusted returns an error if another user could have written what is in the directory.
// A group may write there: its members trust one another, but for root.
func (d *directory) trusted() error {
	var st unix.Stat_t
	if err := unix.Stat(d.path, &st); err != nil {
		return fmt.Errorf("%s: %w", show.Name(d.path), err)
	}
	uid := uint32(os.Geteuid())
	writable := uint32(0o002)
	if uid == 0 && st.Gid != 0 {
		writable |= 0o020
	}
	switch {
	case st.Uid != uid && st.Uid != 0:
		return fmt.Errorf("%s belongs to another user, %d, who could put checkpoints there: name a directory of your own by --dir", show.Name(d.path), st.Uid)
	case st.Mode&writable != 0:
		return fmt.Errorf("others may write to %s (mode %04o), and could put checkpoints there: chmod go-w, or name another directory by --dir", show.Name(d.path), st.Mode&0o7777)
	}
	return nil
}

// close unlocks the directory.
func (d *directory) close() { d.lock.Close() }

func (d *directory) file(name string) string { return filepath.Join(d.path, name) }

func (d *directory) context(n int) string { return d.file(fmt.Sprintf("context.%06d", n)) }
func (d *directory) stage(n int) string   { return d.file(fmt.Sprintf("stage.%06d", n)) }

var (
	generation = regexp.MustCompile(`^context\.([0-9]{6,9})$`)
	numbered   = regexp.MustCompile(`^(?:context|stage)\.([0-9]{6,9})(\.damaged)?$`)
	unfinished = regexp.MustCompile(`^\.(?:context\.[0-9]{6,9}|stage\.[0-9]{6,9})\.tmp$`)
)

// names returns the names in the directory: all of them, or an error.
func (d *directory) names() ([]string, error) {
	f, err := os.Open(d.path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Readdirnames(-1)
}

// sweep removes what an earlier run, which was killed, has left unfinished. A context
// whose files were not complete yet is set aside.
func (d *directory) sweep() error {
	names, err := d.names()
	if err != nil {
		return err
	}
	for _, name := range names {
		if !unfinished.MatchString(name) {
			continue
		}
		var n int
		if _, err := fmt.Sscanf(name, ".stage.%d.tmp", &n); err == nil && slices.Contains(names, filepath.Base(d.context(n))) && !slices.Contains(names, filepath.Base(d.stage(n))) {
			if err := d.setAside(n); err != nil {
				return err
			}
		}
		if err := os.RemoveAll(d.file(name)); err != nil {
			return err
		}
	}
	_ = os.Remove(d.file(fifoName))
	return nil
}

// stageTemp is the files of a generation that is not complete.
func (d *directory) stageTemp(n int) string { return d.file(fmt.Sprintf(".stage.%06d.tmp", n)) }

// stageBegins notes that a generation is to have files.
func (d *directory) stageBegins(n int) error { return os.MkdirAll(d.stageTemp(n), 0o700) }

// generations returns the numbers of the generations, the newest first.
func (d *directory) generations() (numbers []int, err error) {
	names, err := d.names()
	for _, name := range names {
		if m := generation.FindStringSubmatch(name); m != nil {
			n, _ := strconv.Atoi(m[1])
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	slices.Reverse(numbers)
	return numbers, err
}

// next returns the number of the next generation, which no file has had.
func (d *directory) next() (int, error) {
	last := 0
	names, err := d.names()
	for _, name := range names {
		last = max(last, number(name))
	}
	return last + 1, err
}

// prune removes all generations but the newest ones, and what was set aside before
// these. A context is removed before its files, so that none is left without.
func (d *directory) prune(keep int) error {
	generations, err := d.generations()
	if err != nil || len(generations) < keep {
		return err
	}
	oldest := generations[keep-1]
	var errs []error
	for _, n := range generations[keep:] {
		errs = append(errs, os.Remove(d.context(n)))
	}
	names, err := d.names()
	for _, name := range names {
		if n := number(name); n > 0 && n < oldest {
			err = errors.Join(err, os.RemoveAll(d.file(name)))
		}
	}
	return errors.Join(append(errs, err)...)
}

// number is that of a generation's file, also of one that was set aside; else 0.
func number(name string) (n int) {
	if m := numbered.FindStringSubmatch(name); m != nil {
		n, _ = strconv.Atoi(m[1])
	}
	return n
}

// setAside renames a damaged context.
func (d *directory) setAside(n int) error {
	return os.Rename(d.context(n), d.context(n)+".damaged")
}

// clear removes everything, and the directory if nothing else is in it.
func (d *directory) clear() error {
	names, err := d.names()
	errs := []error{err}
	for _, name := range names {
		if numbered.MatchString(name) || unfinished.MatchString(name) || name == fifoName || name == runsName || slices.Contains([]string{"job", ".job.tmp", "restarts", ".restarts.tmp"}, name) {
			errs = append(errs, os.RemoveAll(d.file(name)))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if err := os.Remove(d.file("lock")); err != nil {
		return err
	}
	if err := os.Remove(d.path); err != nil && !errors.Is(err, unix.ENOTEMPTY) && !errors.Is(err, unix.EBUSY) && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

const (
	fifoName = ".running"
	runsName = ".runs" // is there if the restart that was recorded has ended, and the job runs
)

// fifo creates a FIFO by which cr_restart tells that the job runs. The caller closes fd.
func (d *directory) fifo() (path string, fd int, err error) {
	path = d.file(fifoName)
	_ = os.Remove(path)
	if err := os.Remove(d.file(runsName)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", -1, err
	}
	if err := unix.Mkfifo(path, 0o600); err != nil {
		return "", -1, fmt.Errorf("mkfifo %s: %w", show.Name(path), err)
	}
	// For reading and writing it opens at once, and never ends.
	if fd, err = unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0); err != nil {
		return "", -1, fmt.Errorf("open %s: %w", show.Name(path), err)
	}
	return path, fd, nil
}

// write replaces a small file.
func (d *directory) write(name, text string) error {
	temp := d.file("." + name + ".tmp")
	err := os.WriteFile(temp, []byte(text), 0o600)
	if err == nil {
		err = os.Rename(temp, d.file(name))
	}
	if err != nil {
		_ = os.Remove(temp)
	}
	return err
}

// record notes the job's first process, or with restart the cr_restart that will be its
// parent. sid is its session; 0 if that is not about to change.
func (d *directory) record(pid, sid int, restart bool) error {
	p, err := proc.Read(pid)
	if err != nil {
		return nil // it has ended already
	}
	if sid == 0 {
		sid = p.Sid
	}
	boot, err := proc.Boot()
	if err != nil {
		return err
	}
	kind := "job"
	if restart {
		kind = "restart"
	}
	return d.write("job", fmt.Sprintln(pid, p.Start, sid, boot, kind))
}

// remains is what an earlier run has left running.
type remains struct {
	root    int   // the job's first process, if it still runs; else 0
	restart bool  // it is a cr_restart, which may not have restored the job yet
	rest    []int // without root: what is left of its session
}

// left returns what still runs of a job that was recorded. An error means that this
// cannot be known.
func (d *directory) left() (r remains, err error) {
	text, err := os.ReadFile(d.file("job"))
	if errors.Is(err, os.ErrNotExist) {
		return r, nil
	}
	boot, bootErr := proc.Boot()
	if err = errors.Join(err, bootErr); err != nil {
		return r, err
	}
	var pid, sid int
	var start uint64
	var id, kind string
	if n, _ := fmt.Sscan(string(text), &pid, &start, &sid, &id, &kind); n < 4 || id != boot || pid < 2 {
		return r, nil
	}
	if p, err := proc.Read(pid); err == nil && p.Start == start && !p.Dead() {
		r = remains{root: pid, restart: kind == "restart"}
		if _, err := os.Lstat(d.file(runsName)); err == nil && r.restart {
			// This process was killed before it could record the job.
			r.restart, r.root = false, (&job{pid: pid, restarted: true}).root()
		}
		return r, nil
	}
	all, err := proc.All()
	if err != nil {
		return r, err
	}
	if own, err := unix.Getsid(0); err != nil || own == sid || sid < 2 {
		return r, err
	}
	for _, p := range all {
		if p.Sid == sid && p.Start >= start && !p.Dead() {
			r.rest = append(r.rest, p.Pid)
		}
	}
	return r, nil
}

// forget removes the record of a job.
func (d *directory) forget() error {
	if err := os.Remove(d.file("job")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// countRestart adds one to the number of restarts and returns it.
func (d *directory) countRestart() (int, error) {
	text, _ := os.ReadFile(d.file("restarts"))
	n, _ := strconv.Atoi(strings.TrimSpace(string(text)))
	return n + 1, d.write("restarts", fmt.Sprintln(n+1))
}
