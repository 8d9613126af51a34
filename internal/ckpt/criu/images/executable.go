package images

import (
	"bytes"
	"math"
)

// CopyFile adds to files.img a second entry of the file id, a TypeReg, which is opened for
// reading, and returns the new image and the id of that entry.
func CopyFile(files []byte, id uint32) (changed []byte, added uint32, err error) {
	var entry message
	err = kindFiles.each(files, func(_ int, m message) error {
		f, err := parseFile(m)
		if err != nil {
			return err
		}
		added = max(added, f.ID)
		if f.ID == id && f.Type == TypeReg {
			entry, err = parseMessage(m.append(nil))
		}
		return err
	})
	if err != nil {
		return nil, 0, err
	}
	if entry == nil || added == math.MaxUint32 {
		return nil, 0, malformed("there is no file %#x, or no free id", id)
	}
	added++
	entry, err = entry.change(fileReg, func(reg message) (message, error) {
		return reg.put(intField(regID, uint64(added))).put(intField(regFlags, readOnly)), nil
	})
	if err != nil {
		return nil, 0, err
	}
	return appendEntry(bytes.Clone(files), entry.put(intField(fileID, uint64(added)))), added, nil
}

// SetExecutable changes mm-PID.img so that the task's executable is the file id.
func SetExecutable(mm []byte, id uint32) ([]byte, error) {
	return kindMM.rewrite(mm, func(_ int, m message) (message, error) {
		return m.put(intField(mmExe, uint64(id))), nil
	})
}
