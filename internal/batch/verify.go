package batch

import (
	"context"
	"errors"
	"os"

	"blcr-cli/internal/ckpt/kernel/header"
	"blcr-cli/internal/ctxfile"
)

// verify reads all of a context. It returns what is damaged, or "" if it is whole, as far
// as it has checksums. An error means that it could not be read, which is not its fault.
func verify(path string) (damage string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	kind, err := ctxfile.Sniff(int(f.Fd()))
	if err == nil && kind == ctxfile.BLCR {
		return verifyBLCR(f)
	}
	c, err := ctxfile.Open(context.Background(), int(f.Fd()))
	if err == nil {
		defer c.Close()
		_, err = c.Verify(func(d ctxfile.Damage) {
			if damage == "" {
				damage = d.Err.Error()
			}
		})
	}
	if damage != "" {
		return damage, nil
	}
	var e *ctxfile.Error
	if errors.As(err, &e) && e.Reason != "" {
		return e.Error(), nil
	}
	return "", err
}

// verifyBLCR looks at both ends of a context of BLCR's module, which has no checksums.
func verifyBLCR(f *os.File) (damage string, err error) {
	fi, err := f.Stat()
	if err != nil {
		return "", err
	}
	if _, err := f.Seek(0, 0); err != nil {
		return "", err
	}
	if _, err := header.Read(f); err == header.ErrForeign || err == header.ErrTruncated {
		return err.Error(), nil
	} else if err != nil {
		return "", err
	}
	ended, err := header.Ends(f, fi.Size())
	if err == nil && !ended {
		damage = "it has no end"
	}
	return damage, err
}

// keepsStdio reports whether cr_restart can give the job its own standard descriptors, as
// it can for all contexts but those of BLCR's module. The job's output then goes to where
// this run's goes, also if it is another job of the batch system.
func (b *batch) keepsStdio(n int) bool {
	f, err := os.Open(b.dir.context(n))
	if err != nil {
		return false
	}
	defer f.Close()
	kind, err := ctxfile.Sniff(int(f.Fd()))
	return err == nil && kind != ctxfile.BLCR
}
