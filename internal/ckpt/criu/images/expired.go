package images

import "encoding/binary"

// CRIU saves the signals that are pending for a process before it saves the memory, and the
// timers after that. What a timer of setitimer(2) or timer_create(2) that is set for once sends
// in between is in no image, nor is that the timer was set.

// Fields of task_core_entry, thread_core_entry, signal_queue_entry, siginfo_entry,
// task_timers_entry, itimer_entry and posix_timer_entry.
const (
	taskTimers    = 7
	taskSignals   = 10
	threadSignals = 9

	queueSignal = 1
	signalInfo  = 1

	timersReal  = 1
	timersPosix = 4

	itimerInterval = 1 // seconds and microseconds, then those of the value
	posixSignal    = 3
	posixInterval  = 7 // seconds and nanoseconds, then those of the value
)

// Pending returns the signals that were pending for a thread, or for its process, signal N as bit
// N-1, from core-TID.img.
func Pending(core []byte) (signals uint64, err error) {
	m, err := kindCore.only(core)
	if err != nil {
		return 0, err
	}
	for _, at := range [][2]uint32{{coreTask, taskSignals}, {coreThread, threadSignals}} {
		sub, err := m.sub(at[0])
		if err != nil {
			return 0, err
		}
		queue, err := sub.sub(at[1])
		if err != nil {
			return 0, err
		}
		for _, f := range queue {
			if f.num != queueSignal || f.wire != wireBytes {
				continue
			}
			entry, err := parseMessage(f.data())
			if err != nil {
				return 0, err
			}
			// siginfo_t, which begins with the number.
			if info := entry.text(signalInfo); len(info) >= 4 {
				signals |= 1 << (binary.LittleEndian.Uint32([]byte(info)) - 1)
			}
		}
	}
	return signals, nil
}

// ExpireTimers changes core-PID.img so that timers that are not set, and that may have sent one of
// these signals, expire at once. A signal that several timers of timer_create(2) may have sent is
// left out, unless it is SIGALRM: it is then that of setitimer(2).
func ExpireTimers(core []byte, signals uint64) ([]byte, error) {
	return kindCore.rewrite(core, func(_ int, m message) (message, error) {
		return m.change(coreTask, func(task message) (message, error) {
			return task.change(taskTimers, func(timers message) (message, error) {
				const sigalrm = 14
				at := make(map[uint32]int) // the index of the timer of a signal, -1 of several
				for i, f := range timers {
					if f.num != timersPosix || f.wire != wireBytes {
						continue
					}
					timer, err := parseMessage(f.data())
					if err != nil {
						return nil, err
					}
					if signal := timer.u32(posixSignal); timer.unset(posixInterval) && signals>>(signal-1)&1 != 0 {
						if _, another := at[signal]; another {
							i = -1
						}
						at[signal] = i
					}
				}
				for _, i := range at {
					if i >= 0 {
						timer, _ := parseMessage(timers[i].data())
						timers[i] = bytesField(timersPosix, timer.put(intField(posixInterval+3, 1)).append(nil))
					}
				}
				if i, ok := at[sigalrm]; signals>>(sigalrm-1)&1 == 0 || ok && i >= 0 {
					return timers, nil
				}
				return timers.change(timersReal, func(timer message) (message, error) {
					if timer.unset(itimerInterval) {
						timer = timer.put(intField(itimerInterval+3, 1))
					}
					return timer, nil
				})
			})
		})
	})
}

// unset reports whether a timer is not set: its interval and its value, which begin at that
// field, are 0.
func (m message) unset(first uint32) bool {
	return m.u64(first)|m.u64(first+1)|m.u64(first+2)|m.u64(first+3) == 0
}
