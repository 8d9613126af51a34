package criu

import (
	"context"
	"runtime"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/ctxfile"
)

// source is where a restore has its images from. Its methods may be called from
// many goroutines.
type source interface {
	// Has tells whether there is an image of that name.
	Has(name string) bool
	// Bytes returns a whole image, which must be a small one.
	Bytes(name string) ([]byte, error)
	// Serve writes an image into a pipe. A reader that goes away is no error.
	Serve(name string, pipe int) error
	// Abort ends every call under way, with an error.
	Abort()
	Close() error
}

// openSource opens the context that the request names.
func openSource(r *ckpt.RestartRequest) (source, error) {
	if r.Dir != "" {
		return openDirSource(int(r.FD), r.Dir)
	}
	c, err := ctxfile.Open(context.Background(), int(r.FD))
	if err != nil {
		return nil, err
	}
	if c.Header().Compression != "" {
		runtime.GOMAXPROCS(ctxfile.Workers())
	}
	return c, nil
}
