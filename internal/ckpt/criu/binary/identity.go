package binary

import (
	"errors"
	"fmt"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/proc"
)

// errNotProgram is said of a file that is there and cannot be a criu.
var errNotProgram = errors.New("not an executable file")

// identity is that of a criu on this machine, since it was started, for a caller of our
// user, capabilities, namespaces and root: an answer holds as long as all of it is the
// same.
type identity struct {
	path string // absolute, without symbolic links
	key  string // the whole, printable, one line
}

// identify returns the identity of the criu at name. The error is errNotProgram
// or has the errno of looking at it.
func identify(name string) (identity, error) {
	path, err := filepath.EvalSymlinks(name)
	if err != nil {
		return identity{}, err
	}
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return identity{}, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Mode&0o111 == 0 {
		return identity{}, errNotProgram
	}
	boot, err := proc.Boot()
	if err != nil {
		// Not wrapped: it does not say that there is no criu.
		return identity{}, fmt.Errorf("no identity without /proc: %v", err)
	}
	standing, err := proc.Standing()
	if err != nil {
		return identity{}, fmt.Errorf("no identity without /proc: %v", err)
	}
	key := []byte(boot + " ")
	key = strconv.AppendInt(key, int64(unix.Geteuid()), 10)
	key = append(key, ' ')
	key = strconv.AppendQuoteToASCII(key, path)
	key = appendFile(key, &st)
	// The criu that "make criu" makes is a script, and this what it runs.
	if unix.Stat(filepath.Join(filepath.Dir(path), "usr/sbin/criu"), &st) == nil {
		key = appendFile(key, &st)
	}
	key = append(key, ' ')
	key = append(key, standing...)
	return identity{path: path, key: string(key)}, nil
}

// appendFile appends to key what changes when the file is replaced, or changed
// in content, mode or capabilities.
func appendFile(key []byte, st *unix.Stat_t) []byte {
	for _, n := range [...]uint64{
		uint64(st.Dev), uint64(st.Ino), uint64(st.Size),
		uint64(st.Mtim.Sec), uint64(st.Mtim.Nsec),
		uint64(st.Ctim.Sec), uint64(st.Ctim.Nsec),
	} {
		key = append(key, ' ')
		key = strconv.AppendUint(key, n, 10)
	}
	return key
}
