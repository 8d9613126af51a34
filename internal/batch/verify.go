package batch

import (
	"context"
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ctxfile"
	"blcr-cli/internal/generations"
)

// verify reads all of a context. It returns what is damaged, or "" if it is whole, as far
// as it has checksums. An error means that it could not be read, which is not its fault:
// a *generations.Fault if it may be because of it nevertheless. A large context takes
// minutes, which a signal ends: then b.ending is set, and the results mean nothing.
func (b *batch) verify(path string) (damage string, err error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan bool)
	go func() {
		damage, err = verify(ctx, path)
		close(done)
	}()
	for {
		select {
		case <-done:
			b.pause(0) // those signals first that have come
			return damage, err
		case sig := <-b.signals:
			if b.take(sig.(unix.Signal)); b.ending {
				cancel()
			}
		}
	}
}

func verify(ctx context.Context, path string) (damage string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	err = generations.Verify(ctx, int(f.Fd()), nil)
	if fault, ok := errors.AsType[*generations.Fault](err); ok && !fault.Unreadable {
		return fault.Reason, nil
	}
	return "", err
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
