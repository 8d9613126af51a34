package images

// Limit is a limit of resources as of getrlimit(2), in its units; ^0 is none.
type Limit struct {
	Soft, Hard uint64
}

// Fields of task_core_entry, task_rlimits_entry and rlimit_entry.
const (
	taskLimits  = 8
	limitsLimit = 1
	limitSoft   = 1
	limitHard   = 2
)

// Limits returns the limits of a process, by the numbers of getrlimit(2), from core-PID.img.
// One that had ended has none.
func Limits(core []byte) (limits []Limit, err error) {
	m, err := kindCore.only(core)
	if err != nil {
		return nil, err
	}
	task, err := m.sub(coreTask)
	if err != nil {
		return nil, err
	}
	all, err := task.sub(taskLimits)
	if err != nil {
		return nil, err
	}
	for _, f := range all {
		if f.num != limitsLimit || f.wire != wireBytes {
			continue
		}
		l, err := parseMessage(f.data())
		if err != nil {
			return nil, err
		}
		limits = append(limits, Limit{l.u64(limitSoft), l.u64(limitHard)})
	}
	return limits, nil
}

// lower makes the limits of a task_core_entry those of most, by their numbers, where they
// are above.
func (m message) lower(most []uint64) (message, error) {
	if len(most) == 0 {
		return m, nil
	}
	return m.change(taskLimits, func(all message) (message, error) {
		n := 0
		for i, f := range all {
			if f.num != limitsLimit || f.wire != wireBytes || n == len(most) {
				continue
			}
			l, err := parseMessage(f.data())
			if err != nil {
				return nil, err
			}
			l = l.put(intField(limitSoft, min(l.u64(limitSoft), most[n])))
			all[i] = bytesField(limitsLimit, l.put(intField(limitHard, min(l.u64(limitHard), most[n]))).append(nil))
			n++
		}
		return all, nil
	})
}
