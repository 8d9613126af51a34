package batch

import (
	"errors"
	"math/rand/v2"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/generations"
	"blcr-cli/internal/show"
)

// passing are the statuses of cr_restart for what is in the way and may pass, and how long
// that is waited for: a pid in use, before new ones are taken; addresses of connections
// that were closed, for a minute; a removed file of the job's that is there again, for a
// moment while another job restores one of that name.
var passing = map[int]time.Duration{
	busy:                 30 * time.Second,
	int(unix.EADDRINUSE): 90 * time.Second,
	int(unix.EEXIST):     30 * time.Second,
}

// unsupported is the status of cr_restart for what this machine cannot do, as clocks of
// their own for jobs of users that keep their pids.
const unsupported = int(unix.EOPNOTSUPP)

// contextFaults are the statuses of cr_restart that can mean that the context cannot be
// restored on any machine, although its checksums are right. EIO is also for what it knows
// nothing about. So such a context is kept, and an older one is tried.
var contextFaults = []int{int(unix.EIO), int(unix.EINVAL), int(unix.EBADMSG)}

// restart restarts the newest good generation and runs it to its end. If there is none it
// returns false, and the command is to be started.
func (b *batch) restart() (end End, ok bool) {
	all, err := b.dir.generations()
	if err != nil {
		b.Log.Printf("%v", err)
		return End{Status: StatusUnable}, true
	}
	if len(all) == 0 {
		return End{}, false
	}
	kept := false
	n, err := b.dir.countRestart()
	if err != nil {
		b.Log.Printf("%v", err)
	}
	switch {
	case b.MaxRestarts == 0:
	case err != nil:
		return End{Status: StatusUnable}, true
	case n > b.MaxRestarts:
		b.Log.Printf("the job was restarted %d times, the limit; its contexts stay in %s", b.MaxRestarts, show.Name(b.dir.path))
		return End{Status: StatusUnable}, true
	}
	for _, n := range all {
		damage, err := b.verify(b.dir.context(n))
		if b.ending {
			b.Log.Printf("the restart is given up")
			return b.requeue(), true
		}
		if err == nil && damage == "" && b.Stage != "" {
			_, err = os.Stat(b.dir.stage(n))
		}
		_, unreadable := errors.AsType[*generations.Fault](err)
		switch {
		case unreadable:
			b.Log.Printf("generation %d cannot be read here, and is kept: %v", n, err)
			kept = true
			continue
		case err != nil:
			b.Log.Printf("generation %d cannot be read: %v", n, err)
			return End{Status: StatusUnable}, true
		case damage == "":
			end, again := b.restartOne(n)
			if !again {
				return end, true
			}
			b.Log.Printf("generation %d is kept; what is wrong may also be this machine's fault", n)
			kept = true
			continue
		}
		b.Log.Printf("generation %d is damaged, and set aside: %s", n, damage)
		if err := b.dir.setAside(n); err != nil {
			b.Log.Printf("%v", err)
			return End{Status: StatusUnable}, true
		}
	}
	if kept {
		b.Log.Printf("no generation can be restarted; those that are not damaged stay in %s, and the same command tries again", show.Name(b.dir.path))
		return End{Status: StatusUnable}, true
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
		case time.Since(begun) < passing[code]:
			// Not at the same times as another one that waits.
			if b.pause(time.Second + rand.N(2*time.Second)); b.ending {
				return b.requeue(), false
			}
			continue
		case (code == busy || code == unsupported) && !slices.Contains(options, "--no-restore-pid"):
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
			continue
		default:
		}
		select {
		case sig := <-b.signals:
			b.take(sig.(unix.Signal))
		case <-over:
			return
		}
	}
}
