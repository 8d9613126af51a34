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
//	job              the first process of the job that runs: pid, start, boot
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
	return fmt.Sprintf("%s: cr_batch with pid %s is at work there", show.Name(e.path), e.pid)
}

// openDirectory creates the directory if it is missing, and locks it. The error is a
// *lockedError if somebody else has locked it.
func openDirectory(path string) (*directory, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	d := &directory{path: path}
	for {
		switch err := os.MkdirAll(path, 0o700); {
		case errors.Is(err, os.ErrExist):
			continue // removed in between
		case err != nil:
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
	if err = d.lock.Truncate(0); err == nil {
		_, err = d.lock.WriteAt(fmt.Appendln(nil, os.Getpid()), 0)
	}
	if err != nil {
		d.lock.Close()
		return nil, err
	}
	d.sweep()
	return d, nil
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

// names returns the names in the directory.
func (d *directory) names() []string {
	f, err := os.Open(d.path)
	if err != nil {
		return nil
	}
	defer f.Close()
	names, _ := f.Readdirnames(-1)
	return names
}

// sweep removes what an earlier run, which was killed, has left unfinished.
func (d *directory) sweep() {
	for _, name := range d.names() {
		if unfinished.MatchString(name) {
			_ = os.RemoveAll(d.file(name))
		}
	}
	_ = os.Remove(d.file(fifoName))
}

// generations returns the numbers of the generations, the newest first.
func (d *directory) generations() (numbers []int) {
	for _, name := range d.names() {
		if m := generation.FindStringSubmatch(name); m != nil {
			n, _ := strconv.Atoi(m[1])
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	slices.Reverse(numbers)
	return numbers
}

// next returns the number of the next generation, which no file has had.
func (d *directory) next() int {
	last := 0
	for _, name := range d.names() {
		if m := numbered.FindStringSubmatch(name); m != nil {
			n, _ := strconv.Atoi(m[1])
			last = max(last, n)
		}
	}
	return last + 1
}

// prune removes all generations but the newest ones. A context is removed before its
// files, so that none is left without.
func (d *directory) prune(keep int) error {
	var errs []error
	for i, n := range d.generations() {
		if i >= keep {
			errs = append(errs, os.Remove(d.context(n)), os.RemoveAll(d.stage(n)))
		}
	}
	return errors.Join(errs...)
}

// setAside renames a damaged context.
func (d *directory) setAside(n int) error {
	return os.Rename(d.context(n), d.context(n)+".damaged")
}

// clear removes everything, and the directory if nothing else is in it.
func (d *directory) clear() error {
	var errs []error
	for _, name := range d.names() {
		if numbered.MatchString(name) || unfinished.MatchString(name) || name == fifoName || name == "job" || name == "restarts" {
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

const fifoName = ".running"

// fifo creates a FIFO by which cr_restart tells that the job runs. The caller closes fd.
func (d *directory) fifo() (path string, fd int, err error) {
	path = d.file(fifoName)
	_ = os.Remove(path)
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
	if err := os.WriteFile(temp, []byte(text), 0o600); err != nil {
		return err
	}
	return os.Rename(temp, d.file(name))
}

// record notes the job's first process.
func (d *directory) record(pid int) error {
	p, err := proc.Read(pid)
	if err != nil {
		return nil // it has ended already
	}
	boot, err := proc.Boot()
	if err != nil {
		return err
	}
	return d.write("job", fmt.Sprintln(pid, p.Start, p.Sid, boot))
}

// left returns the job's first process, if one that was recorded still runs, or else what
// is left of its session.
func (d *directory) left() (root int, rest []int) {
	text, err := os.ReadFile(d.file("job"))
	if err != nil {
		return 0, nil
	}
	var pid, sid int
	var start uint64
	var id string
	boot, err := proc.Boot()
	if n, _ := fmt.Sscan(string(text), &pid, &start, &sid, &id); n != 4 || err != nil || id != boot || pid < 2 || sid < 2 {
		return 0, nil
	}
	if p, err := proc.Read(pid); err == nil && p.Start == start && !p.Dead() {
		return pid, nil
	}
	all, err := proc.All()
	if err != nil {
		return 0, nil
	}
	if own, err := unix.Getsid(0); err != nil || own == sid {
		return 0, nil
	}
	for _, p := range all {
		if p.Sid == sid && p.Start >= start && !p.Dead() {
			rest = append(rest, p.Pid)
		}
	}
	return 0, rest
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
