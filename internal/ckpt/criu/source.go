package criu

import (
	"context"
	"runtime"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/ckpt/criu/imagedir"
	"blcr-cli/internal/ckpt/criu/images"
	"blcr-cli/internal/ctxfile"
)

// source is where a restore has its images from. Its methods may be called from
// many goroutines.
type source interface {
	images.Source
	// Serve writes an image into a pipe. A reader that goes away is no error.
	Serve(name string, pipe int) error
	// ReadAt reads a part of an image: all of b, or up to the image's end.
	ReadAt(name string, b []byte, offset int64) (int, error)
	// Abort ends every call under way, with an error.
	Abort()
	Close() error
}

// openSource opens the context that the request names. Cancelling ctx ends the wait
// for a pipe.
func openSource(ctx context.Context, r *ckpt.RestartRequest) (source, error) {
	if r.Dir != "" {
		dir, err := imagedir.Open(int(r.FD), r.Dir)
		if err != nil {
			return nil, err
		}
		if err := dir.Restorable(); err != nil {
			dir.Close()
			return nil, err
		}
		return dir, nil
	}
	var st unix.Stat_t
	if r.Lazy && unix.Fstat(int(r.FD), &st) == nil && st.Mode&unix.S_IFMT != unix.S_IFREG && st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return nil, &ckpt.Error{Op: "read", Object: "context", Errno: unix.ESPIPE, Detail: []string{
			"a lazy restart reads from the context while the job runs, so that has to be a file: copy it into one, or leave --lazy out",
		}}
	}
	c, err := ctxfile.Open(ctx, int(r.FD))
	if err != nil {
		return nil, err
	}
	if c.Header().Compression != "" {
		runtime.GOMAXPROCS(ctxfile.Workers())
	}
	return c, nil
}
