//go:build real

package real

import (
	"path/filepath"
	"strconv"
	"testing"
)

// TestTimersOnce: timers that are set for once, of timer_create(2) and of setitimer(2), send their
// signals once each also if they expire while CRIU saves the process. It saves the timers after
// the memory, and the pending signals before that.
func TestTimersOnce(t *testing.T) {
	engine(t)
	for _, end := range []string{"kill", "run"} {
		t.Run(end, func(t *testing.T) {
			t.Parallel()
			j := newJob(t, "timers")
			j.write("timers.py", `
import ctypes, os, signal, time
libc = ctypes.CDLL(None)
count = {}
def handler(number, frame): count[number] = count.get(number, 0) + 1
class Event(ctypes.Structure):
    _fields_ = [("value", ctypes.c_void_p), ("signal", ctypes.c_int), ("notify", ctypes.c_int), ("rest", ctypes.c_char * 48)]
class Spec(ctypes.Structure):
    _fields_ = [("interval", ctypes.c_long * 2), ("value", ctypes.c_long * 2)]
signals = range(signal.SIGRTMIN, signal.SIGRTMIN + 28)
timers = []
for n in signals:
    signal.signal(n, handler)
    timers.append(ctypes.c_void_p())
    assert libc.timer_create(time.CLOCK_MONOTONIC, ctypes.byref(Event(None, n, 0)), ctypes.byref(timers[-1])) == 0
signal.signal(signal.SIGALRM, handler)
memory = bytearray(os.urandom(1 << 20) * 100)
for i, timer in enumerate(timers):
    at = 50000000 + i * 20000000
    assert libc.timer_settime(timer, 0, ctypes.byref(Spec((0, 0), (0, at))), None) == 0
signal.setitimer(signal.ITIMER_REAL, 0.2)
open("ready", "w").close()
while not os.access("go", os.F_OK):
    time.sleep(0.01)
end = time.monotonic() + 2
while len(count) < len(signals) + 1 and time.monotonic() < end:
    time.sleep(0.01)
os._exit(0 if sorted(count.items()) == [(n, 1) for n in [signal.SIGALRM, *signals]] else 1)
`)
			p := j.run("/usr/bin/python3", "timers.py")
			j.until("the timers to be set", func() bool { return j.exists("ready") })
			ctx := filepath.Join(j.dir, "ctx")
			if save := j.command("cr_checkpoint", "--"+end, "-f", ctx, strconv.Itoa(p.pid)); j.wait(save) != 0 {
				t.Fatal("no checkpoint")
			}
			j.write("go", "")
			if end == "run" {
				j.ends(p, 0, "", "")
			} else {
				j.wait(p)
			}
			j.ends(j.again(ctx), 0, "", "")
		})
	}
}
