package proc

import (
	"io"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// Files are read by raw system calls: package os would open an epoll descriptor,
// which BLCR's module could not save. It would also take nine of them where three
// are enough, and there are as many files as processes.

// Limits for what is read of a file, in bytes.
const (
	// The longest file of one record is /proc/PID/status, with 65536 groups.
	mostRecord = 1 << 20

	// Every pid that there can be, 2^22, with a blank.
	mostChildren = 32 << 20

	mostArguments = 256 << 10 // what people want to see of a command line
	mostMounts    = 8 << 20   // there may be 100000 by default, of some 80 bytes
	mostLocks     = 8 << 20   // of some 60 bytes
)

// read returns a file whose text is one record for the kernel, so that a read
// that does not fill the buffer has reached the end. Of a longer one than
// mostRecord it returns the beginning.
func read(path string) ([]byte, error) { return readFile(path, mostRecord, true) }

// readAll returns any file; of a longer one than limit the beginning.
func readAll(path string, limit int) ([]byte, error) { return readFile(path, limit, false) }

func readFile(path string, limit int, record bool) ([]byte, error) {
	f, err := open(path)
	if err != nil {
		return nil, err
	}
	defer f.close()
	text := make([]byte, 0, 4<<10)
	for {
		if len(text) == cap(text) {
			text = slices.Grow(text, len(text))
		}
		n, err := unix.Read(int(f), text[len(text):min(cap(text), limit)])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, err
		}
		text = text[:len(text)+n]
		if n == 0 || len(text) == limit || record && len(text) < cap(text) {
			return text, nil
		}
	}
}

// file is an open file, as an io.Reader.
type file int

func open(path string) (file, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	return file(fd), err
}

func (f file) close() { unix.Close(int(f)) }

// Read implements io.Reader.
func (f file) Read(b []byte) (int, error) {
	for {
		switch n, err := unix.Read(int(f), b); {
		case err == unix.EINTR:
		case err != nil:
			return 0, err
		case n == 0 && len(b) > 0:
			return 0, io.EOF
		default:
			return n, nil
		}
	}
}

// numbers returns the names in a directory that are numbers.
func numbers(dir string) ([]int, error) {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	return numbersIn(fd)
}

// numbersIn returns the names in an open directory that are numbers.
func numbersIn(fd int) ([]int, error) {
	var all []int
	buf := make([]byte, 8<<10)
	for {
		n, err := unix.ReadDirent(fd, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n <= 0 {
			return all, err
		}
		_, _, names := unix.ParseDirent(buf[:n], -1, nil)
		for _, name := range names {
			if number, err := strconv.Atoi(name); err == nil {
				all = append(all, number)
			}
		}
	}
}
