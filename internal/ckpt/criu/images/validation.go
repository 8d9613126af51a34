package images

import "encoding/binary"

// Validation is what criu checks of a file before it gives it to a process
// (reg_file_entry in regfile.proto). What is not in the image is not checked.
type Validation struct {
	Size    uint64
	HasSize bool
	Mode    uint32 // of stat(2); 0 if it is not checked
	BuildID []byte // of an ELF file, filled with zeros to a multiple of 4 bytes; nil if it is not checked
}

// Validations reads from files.img what is checked, by File.ID.
func Validations(files []byte) (map[uint32]Validation, error) {
	found := make(map[uint32]Validation)
	err := kindFiles.each(files, func(_ int, m message) error {
		if FileType(m.u32(fileType)) != TypeReg {
			return nil
		}
		reg, err := m.sub(fileReg)
		if err != nil {
			return err
		}
		v := Validation{Size: reg.u64(regSize), HasSize: reg.has(regSize), Mode: reg.u32(regMode)}
		words, err := reg.repeated(regBuildID)
		for _, word := range words {
			v.BuildID = binary.LittleEndian.AppendUint32(v.BuildID, uint32(word))
		}
		found[m.u32(fileID)] = v
		return err
	})
	return found, err
}
