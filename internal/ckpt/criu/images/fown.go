package images

// OwnerKind is what the number of a file's owner is of (F_OWNER_TID and so on of fcntl(2)).
type OwnerKind uint32

// The kinds.
const (
	OwnerThread OwnerKind = iota
	OwnerProcess
	OwnerGroup
)

// ownerFields are the fields of a file_entry with a body that says who gets the signals of
// the file (fown_entry in fown.proto), and the fields of these bodies that do.
var ownerFields = map[uint32]uint32{
	fileReg: regFown, fileInet: 13, filePacket: 6, fileNetlink: 11, fileEventFD: 3, fileEpoll: 3, fileSignalFD: 3,
	fileTimerFD: 3, fileInotify: 4, fileFanotify: 3, fileExt: 5, fileUnix: 9, filePipe: 4, fileTTY: 4,
	fileMemFD: 4, fileBPFMap: 4, filePIDFD: 5,
}

// Fields of fown_entry.
const (
	ownerKind = 4
	ownerID   = 5
)

// MapOwners changes files.img so that files send their signals to other owners: owner is
// called with each that there is, and returns the number of the one to be, 0 for none.
func MapOwners(files []byte, owner func(kind OwnerKind, id int32) int32) ([]byte, error) {
	return kindFiles.rewrite(files, func(_ int, m message) (message, error) {
		for num, inside := range ownerFields {
			body, err := m.sub(num)
			if err != nil {
				return nil, err
			}
			fown, err := body.sub(inside)
			if err != nil {
				return nil, err
			}
			id := int32(fown.u32(ownerID))
			if id == 0 {
				continue
			}
			if to := owner(OwnerKind(fown.u32(ownerKind)), id); to != id {
				fown = fown.put(intField(ownerID, uint64(uint32(to))))
				m = m.put(bytesField(num, body.put(bytesField(inside, fown.append(nil))).append(nil)))
			}
		}
		return m, nil
	})
}
