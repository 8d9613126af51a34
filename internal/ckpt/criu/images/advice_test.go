package images

import (
	"os"
	"testing"
)

// TestAdvise: mappings in the ranges are to be wiped, or not locked, and no others.
func TestAdvise(t *testing.T) {
	mm, err := os.ReadFile("testdata/mm-root.img")
	if err != nil {
		t.Fatal(err)
	}
	locked, err := kindMM.rewrite(mm, func(_ int, m message) (message, error) {
		for i, f := range m {
			if f.num == mmVMA && f.wire == wireBytes {
				v, err := parseMessage(f.data())
				if err != nil {
					return nil, err
				}
				m[i] = bytesField(mmVMA, v.put(intField(vmaFlags, v.u64(vmaFlags)|mapLocked)).append(nil))
			}
		}
		return m, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	all, err := Mappings(locked)
	if err != nil || len(all) < 3 {
		t.Fatalf("%d mappings, %v", len(all), err)
	}
	out, err := Advise(locked, all[:1], all[1:2])
	if err != nil {
		t.Fatal(err)
	}
	m, err := kindMM.only(out)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, f := range m {
		if f.num != mmVMA || f.wire != wireBytes {
			continue
		}
		v, err := parseMessage(f.data())
		if err != nil {
			t.Fatal(err)
		}
		if wipe, lock := v.u64(vmaAdvice)&(1<<18) != 0, v.u64(vmaFlags)&0x2000 != 0; wipe != (n == 0) || lock != (n != 1) {
			t.Errorf("mapping %d: wiped %v, locked %v", n, wipe, lock)
		}
		n++
	}
	if wiped, err := Wiped(out); err != nil || len(wiped) != 1 || wiped[0] != all[0] {
		t.Errorf("%x are wiped, %v", wiped, err)
	}
	if after, err := Mappings(out); err != nil || len(after) != len(all) {
		t.Errorf("%d mappings, %v", len(after), err)
	}
}
