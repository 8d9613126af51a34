package binary

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// badFor is how long a bad answer is believed, while there is a criu with a good one. What
// was wrong may be put right without a trace in the identity: a capability, a mount, a
// kernel setting.
const badFor = time.Minute

// answerFile remembers answers, one small file for each criu, in a directory
// that nobody else can write to. Whatever is wrong with directory or file, the
// answer is not remembered, and that is all. A nil *answerFile remembers nothing.
type answerFile struct{ dir string }

// answerDir is where the answers of user euid are: a place that is empty when the machine
// has restarted.
func answerDir(euid int, runtimeDir string) string {
	switch {
	case euid == 0:
		return "/run/blcr-cli"
	case filepath.IsAbs(runtimeDir):
		return filepath.Join(runtimeDir, "blcr-cli")
	}
	// As in a batch job. It is for all to write to, so that somebody else may have taken
	// the name; see open.
	return fmt.Sprintf("/dev/shm/blcr-cli-%d", euid)
}

// fileName is the same for what was at a path before, whose answer is thus
// replaced. If two paths ever have the same, each finds the other's key in it.
func fileName(id identity) string { return hashed("criu-check", id.path) }

// hashed is a name that begins with prefix and stands for text.
func hashed(prefix, text string) string {
	h := fnv.New64a()
	h.Write([]byte(text))
	return fmt.Sprintf("%s-%016x", prefix, h.Sum64())
}

// The file is four lines, of which the last shows that they are whole, and a cache of
// criu's.
const (
	good    = "usable "
	without = "usable-without-breakpoints "
	bad     = "unusable "
	lastly  = "end\n"
	maxSize = 16 << 10 // it leaves room for mostKerndat
)

func encode(id identity, a answer) string {
	line := good + a.version
	switch {
	case !a.usable:
		line = bad + a.why
	case a.noBreakpoints:
		line = without + a.version
	}
	return "blcr-cli criu check 4\n" + id.key + "\n" + line + "\n" + lastly + a.kerndat
}

// decode is encode's reverse. It is not ok if the text is none that encode made
// for id.
func decode(id identity, text string) (a answer, ok bool) {
	lines := strings.SplitAfterN(text, "\n", 5)
	if len(lines) != 5 {
		return answer{}, false
	}
	line := strings.TrimSuffix(lines[2], "\n")
	if a.version, a.usable = strings.CutPrefix(line, without); a.usable {
		a.noBreakpoints = true
	} else if a.version, a.usable = strings.CutPrefix(line, good); !a.usable {
		a.version = ""
		a.why = strings.TrimPrefix(line, bad)
	}
	a.kerndat = lines[4]
	return a, encode(id, a) == text
}

// recall returns the answer of the criu that id is the identity of, if there is
// one to believe: a bad one has to be younger than age.
func (f *answerFile) recall(id identity, age time.Duration) (answer, bool) {
	dir, err := f.open()
	if err != nil {
		return answer{}, false
	}
	defer unix.Close(dir)
	// Not blocking, should it be a FIFO.
	fd, err := unix.Openat(dir, fileName(id), unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return answer{}, false
	}
	defer unix.Close(fd)
	st, ok := ours(fd, unix.S_IFREG)
	if !ok || st.Size > maxSize {
		return answer{}, false
	}
	buf := make([]byte, st.Size)
	n, err := unix.Read(fd, buf)
	if err != nil {
		return answer{}, false
	}
	a, ok := decode(id, string(buf[:n]))
	if ok && !a.usable {
		since := time.Since(time.Unix(st.Mtim.Unix()))
		ok = 0 <= since && since < age
	}
	return a, ok
}

// keep remembers an answer. Of several at a time one stays.
func (f *answerFile) keep(id identity, a answer) {
	text := encode(id, a)
	if f == nil || len(text) > maxSize {
		return
	}
	dir, err := f.create()
	if err != nil {
		return
	}
	defer unix.Close(dir)
	name := fileName(id)
	temp := fmt.Sprintf(".%s.%016x", name, rand.Uint64())
	fd, err := unix.Openat(dir, temp, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return
	}
	n, err := unix.Write(fd, []byte(text))
	if unix.Close(fd) == nil && err == nil && n == len(text) && unix.Renameat(dir, temp, dir, name) == nil {
		return
	}
	_ = unix.Unlinkat(dir, temp, 0)
}

// lock waits until no other process that has the lock asks a criu, for as long as an answer
// may take. The caller calls unlock.
func (f *answerFile) lock() (unlock func()) {
	dir, err := f.create()
	if err != nil {
		return func() {}
	}
	for end := time.Now().Add(limit); unix.Flock(dir, unix.LOCK_EX|unix.LOCK_NB) == unix.EWOULDBLOCK && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
	}
	return func() { unix.Close(dir) }
}

// create is open for a directory that need not be there.
func (f *answerFile) create() (int, error) {
	dir, err := f.open()
	if err == unix.ENOENT {
		_ = unix.Mkdir(f.dir, 0o700) // it fails if another one was faster, too
		dir, err = f.open()
	}
	return dir, err
}

// open opens the directory, if it can be trusted. The caller closes it.
func (f *answerFile) open() (int, error) {
	if f == nil {
		return -1, unix.ENOTDIR
	}
	fd, err := unix.Open(f.dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	if _, ok := ours(fd, unix.S_IFDIR); !ok {
		unix.Close(fd)
		return -1, unix.EPERM
	}
	return fd, nil
}

// ours is whether the open file is of that type, belongs to us, and nobody else
// may write to it.
func ours(fd int, fileType uint32) (st unix.Stat_t, ok bool) {
	err := unix.Fstat(fd, &st)
	return st, err == nil && st.Mode&unix.S_IFMT == fileType && int(st.Uid) == unix.Geteuid() && st.Mode&0o022 == 0
}
