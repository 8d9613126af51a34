package images

import "time"

// Clocks are the clocks that count from the start of the machine, or from where
// the time namespace of the processes begins (timens_entry in timens.proto).
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
	var times [2]time.Duration
	for i := range times {
		num := uint32(1 + i)
		t, err := m.sub(num)
		if err != nil {
			return Clocks{}, err
		}
		if t == nil {
			return Clocks{}, malformed("required field %d is missing", num)
		}
		times[i] = time.Duration(t.u64(1))*time.Second + time.Duration(t.u64(2))
	}
	return Clocks{times[0], times[1]}, nil
}

// SetTimeNamespace changes ids-PID.img so that the task is in the time namespace
// with that id, an IDs.Time.
func SetTimeNamespace(ids []byte, id uint32) ([]byte, error) {
	return kindIDs.rewrite(ids, func(_ int, m message) (message, error) {
		return m.put(intField(idsTime, uint64(id))), nil
	})
}
