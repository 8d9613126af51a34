package batch

import (
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/show"
)

const (
	// pidTime is how long a pid in use is waited for before new ones are taken.
	pidTime = 30 * time.Second
	// pidPause is between attempts.
	pidPause = 2 * time.Second
)

// contextFaults are the statuses of cr_restart that mean the context, whose checksums are
// right, cannot be restored on any machine.
var contextFaults = []int{int(unix.EIO), int(unix.EINVAL), int(unix.EBADMSG)}

// restart restarts the newest good generation and runs it to its end. If there is none it
// returns false, and the command is to be started.
func (b *batch) restart() (end End, ok bool) {
	generations := b.dir.generations()
	if len(generations) == 0 {
		return End{}, false
	}
	if n, err := b.dir.countRestart(); err != nil {
		b.Log.Printf("%v", err)
		return End{Status: StatusUnable}, true
	} else if b.MaxRestarts > 0 && n > b.MaxRestarts {
		b.Log.Printf("the job was restarted %d times, the limit; its contexts stay in %s", b.MaxRestarts, show.Name(b.dir.path))
		return End{Status: StatusUnable}, true
	}
	for _, n := range generations {
		damage, err := verify(b.dir.context(n))
		if err != nil {
			b.Log.Printf("generation %d cannot be read: %v", n, err)
			return End{Status: StatusUnable}, true
		}
		if damage == "" && b.Stage != "" {
			if _, err := os.Stat(b.dir.stage(n)); err != nil {
				damage = "it has no files of " + show.Name(b.Stage)
			}
		}
		if damage == "" {
			end, again := b.restartOne(n)
			if !again {
				return end, true
			}
			damage = "cr_restart cannot restore it"
		}
		b.Log.Printf("generation %d is damaged, and set aside: %s", n, damage)
		if err := b.dir.setAside(n); err != nil {
			b.Log.Printf("%v", err)
			return End{Status: StatusUnable}, true
		}
	}
	b.Log.Printf("no generation is left; the job begins anew")
	return End{}, false
}

// restartOne restarts one generation, and runs the job to its end if that succeeds. It
// returns again if the context is at fault.
func (b *batch) restartOne(n int) (end End, again bool) {
	var options []string
	if b.keepsStdio(n) {
		options = append(options, "--keep-stdio")
	}
	for begun := time.Now(); ; {
		if b.Stage != "" {
			if err := copyTree(b.dir.stage(n), b.Stage); err != nil {
				b.Log.Printf("files of generation %d: %v", n, err)
				return End{Status: StatusUnable}, false
			}
		}
		if _, err := b.startRestart(n, options...); err != nil {
			b.Log.Printf("cannot start cr_restart: %v", err)
			return End{Status: StatusUnable}, false
		}
		end = b.supervise()
		if b.last.running || b.ending {
			return end, false
		}
		status := b.last.status
		b.Log.Printf("restarting generation %d failed (%s)", n, result(status, nil))
		switch code := status.ExitStatus(); {
		case !status.Exited():
			return end, false
		case code == busy && time.Since(begun) < pidTime:
			if b.pause(pidPause); b.ending {
				return b.requeue(), false
			}
			continue
		case code == busy && !slices.Contains(options, "--no-restore-pid"):
			b.Log.Printf("the job gets new process IDs")
			options = append(options, "--no-restore-pid")
			continue
		case slices.Contains(contextFaults, code):
			return end, true
		}
		b.Log.Printf("that is not the context's fault: it is kept, and the same command tries again; cr_info --check %s says more", show.Name(b.dir.context(n)))
		return end, false
	}
}

// pause waits, for d at most, and for less if the job is to be ended.
func (b *batch) pause(d time.Duration) {
	over := time.After(d)
	for !b.ending {
		select {
		case sig := <-b.signals:
			b.take(sig.(unix.Signal))
		case <-over:
			return
		}
	}
}
