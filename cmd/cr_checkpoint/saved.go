package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/show"
)

// steps are the times that the steps of a checkpoint have taken.
type steps struct {
	begun  time.Time
	last   time.Time
	frozen time.Duration // how long the processes have stood still, 0 if they do not run on
	taken  []step
}

type step struct {
	name string
	took time.Duration
}

func startSteps() *steps {
	now := time.Now()
	return &steps{begun: now, last: now}
}

// done notes the end of a step.
func (s *steps) done(name string) {
	now := time.Now()
	s.taken = append(s.taken, step{name, now.Sub(s.last)})
	s.last = now
}

// seconds returns a duration for a line, rounded to two digits or so.
func seconds(d time.Duration) string {
	if d < 100*time.Millisecond {
		return fmt.Sprintf("%d ms", d.Milliseconds())
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}

// tellSaved ends a checkpoint that has succeeded: with the times of its steps if the
// command is verbose, and on a terminal with a line that says what has been saved. With
// BLCR's module the output is BLCR's, in which there is neither.
func (w *work) tellSaved(engine ckpt.Engine, s *steps) {
	if engine.Describe() == "" {
		return
	}
	var times []string
	for _, t := range s.taken {
		times = append(times, t.name+" "+seconds(t.took))
	}
	w.con.Notef("- %s\n", strings.Join(times, ", "))
	if !w.con.Terminal() {
		return
	}
	frozen := ""
	if s.frozen > 0 {
		frozen = " (frozen " + seconds(s.frozen) + ")"
	}
	w.con.Errorf("saved %sinto %s in %s%s\n", w.savedSize(engine), show.Name(w.savedName()), seconds(time.Since(s.begun)), frozen)
}

// savedName is the name of the context that has been written.
func (w *work) savedName() string {
	if w.dest == destFd {
		return fmt.Sprintf("descriptor %d", w.request.FD)
	}
	return w.target.Path
}

// savedSize is the size of that context, with a blank behind it; "" if it is not known.
func (w *work) savedSize(engine ckpt.Engine) string {
	size := int64(0)
	switch w.dest {
	case destDir:
	case destFd:
		if w.request.Compress == 0 {
			size, _ = engine.Progress()
		}
	default:
		if st, err := os.Stat(w.target.Path); err == nil && st.Mode().IsRegular() {
			size = st.Size()
		}
	}
	if size == 0 {
		return ""
	}
	return show.Size(size) + " "
}
