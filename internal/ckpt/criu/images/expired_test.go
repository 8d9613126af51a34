package images

import (
	"testing"

	criucore "github.com/checkpoint-restore/go-criu/v8/crit/images/criu-core"
	"github.com/checkpoint-restore/go-criu/v8/crit/images/siginfo"
	"github.com/checkpoint-restore/go-criu/v8/crit/images/timer"
	"google.golang.org/protobuf/proto"
)

// TestExpireTimers: timers that are not set expire at once if they are the only ones that can have
// sent a signal.
func TestExpireTimers(t *testing.T) {
	itimer := func(value uint64) *timer.ItimerEntry {
		return &timer.ItimerEntry{Isec: new(uint64(0)), Iusec: new(uint64(0)), Vsec: new(uint64(0)), Vusec: new(value)}
	}
	posix := func(signal uint32, interval, value uint64) *timer.PosixTimerEntry {
		return &timer.PosixTimerEntry{
			ItId: new(uint32(0)), ClockId: new(uint32(1)), SiSigno: new(signal), ItSigevNotify: new(uint32(0)), SivalPtr: new(uint64(0)), Overrun: new(uint32(0)),
			Isec: new(interval), Insec: new(uint64(0)), Vsec: new(uint64(0)), Vnsec: new(value),
		}
	}
	core := func(real *timer.ItimerEntry, timers ...*timer.PosixTimerEntry) *criucore.CoreEntry {
		return &criucore.CoreEntry{Tc: &criucore.TaskCoreEntry{
			Timers:   &timer.TaskTimersEntry{Real: real, Virt: itimer(0), Prof: itimer(0), Posix: timers},
			SignalsS: &siginfo.SignalQueueEntry{Signals: []*siginfo.SiginfoEntry{{Siginfo: []byte{64, 0, 0, 0, 1}}}},
		}}
	}
	const alarm = 1 << 13
	for name, test := range map[string]struct {
		signals    uint64
		core, want *criucore.CoreEntry
	}{
		"alarm(2)":                 {alarm, core(itimer(0)), core(itimer(1))},
		"alarm(2), set":            {alarm, core(itimer(7)), core(itimer(7))},
		"another signal":           {1 << 9, core(itimer(0), posix(12, 0, 0)), core(itimer(0), posix(12, 0, 0))},
		"timer_create(2)":          {1 << 11, core(itimer(0), posix(12, 0, 5), posix(12, 0, 0)), core(itimer(0), posix(12, 0, 5), posix(12, 0, 1))},
		"an interval":              {1 << 11, core(itimer(0), posix(12, 3, 0)), core(itimer(0), posix(12, 3, 0))},
		"several":                  {1 << 11, core(itimer(0), posix(12, 0, 0), posix(12, 0, 0)), core(itimer(0), posix(12, 0, 0), posix(12, 0, 0))},
		"SIGALRM":                  {alarm, core(itimer(0), posix(14, 0, 0)), core(itimer(0), posix(14, 0, 1))},
		"SIGALRM, several":         {alarm, core(itimer(0), posix(14, 0, 0), posix(14, 0, 0)), core(itimer(1), posix(14, 0, 0), posix(14, 0, 0))},
		"the last signal of all":   {1 << 63, core(itimer(0), posix(64, 0, 0)), core(itimer(0), posix(64, 0, 1))},
		"a timer without a signal": {alarm, core(itimer(7), posix(0, 0, 0)), core(itimer(7), posix(0, 0, 0))},
	} {
		t.Run(name, func(t *testing.T) {
			img := encode(t, kindCore, test.core)
			if pending, err := Pending(img); pending != 1<<63 || err != nil {
				t.Errorf("pending: %x, %v", pending, err)
			}
			got, err := ExpireTimers(img, test.signals)
			if err != nil {
				t.Fatal(err)
			}
			b, err := kindCore.body(got)
			if err == nil {
				b, err = payload(b)
			}
			entry := new(criucore.CoreEntry)
			if err == nil {
				err = proto.UnmarshalOptions{AllowPartial: true}.Unmarshal(b, entry)
			}
			if err != nil {
				t.Fatal(err)
			}
			if !proto.Equal(entry, test.want) {
				t.Errorf("got %v, want %v", entry, test.want)
			}
		})
	}
}
