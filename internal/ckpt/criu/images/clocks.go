package images

import "time"

// Clocks are the clocks that count from the start of the machine, or of what the
// processes took for it.
type Clocks struct {
	Monotonic, Boottime time.Duration
}

// ReadClocks reads timens-N.img, where N is 0 for processes in the time namespace
// of the criu that has saved them, and else their IDs.Time.
func ReadClocks(timens []byte) (Clocks, error) {
	m, err := kindTimens.only(timens)
	if err != nil {
		return Clocks{}, err
	}
	var c Clocks
	for num, clock := range map[uint32]*time.Duration{1: &c.Monotonic, 2: &c.Boottime} {
		t, ok, err := m.sub(num)
		if err != nil {
			return Clocks{}, err
		}
		if !ok {
			return Clocks{}, malformed("required field %d is missing", num)
		}
		*clock = time.Duration(t.u64(1))*time.Second + time.Duration(t.u64(2))
	}
	return c, nil
}

// PutTime changes ids-PID.img so that the task is in the time namespace with that
// number.
func PutTime(ids []byte, number uint32) ([]byte, error) {
	out, _, err := kindIDs.rewrite(ids, func(m message) (message, verdict, error) {
		return m.put(numberField(12, uint64(number))), replace, nil
	})
	return out, err
}
