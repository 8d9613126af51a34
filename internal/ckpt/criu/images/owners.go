package images

import "strings"

// Owned is something that a restore makes again and gives to its owner.
type Owned struct {
	UID, GID uint32
	Name     string // of a UNIX socket
	Memory   bool   // it is memory that processes share, as that of a memfd
	Inode    uint64 // of a removed file, as of stat(2)
}

// Owners returns what of that kind is in ghost-file-N.img, or its beginning, in memfd.img or
// in files.img.
func Owners(name string, img []byte) (all []Owned, err error) {
	add := func(m message, name string) {
		all = append(all, Owned{UID: m.u32(2), GID: m.u32(3), Name: name, Memory: name == ""})
	}
	switch {
	case IsGhost(name):
		g, err := ReadGhost(img)
		return []Owned{{UID: g.UID, GID: g.GID, Inode: g.Inode}}, err
	case name == MemFDName:
		err = kindMemFD.each(img, func(_ int, m message) error {
			add(m, "")
			return m.require(2, 3)
		})
	case name == FilesName:
		err = kindFiles.each(img, func(_ int, entry message) error {
			if FileType(entry.u32(fileType)) != TypeUnix {
				return nil
			}
			socket, err := entry.sub(fileUnix)
			if err != nil || socket.u32(unixUsage)&unixExtern != 0 {
				return err
			}
			permissions, err := socket.sub(unixPermissions)
			if name, named := strings.CutSuffix(socket.text(unixName), "\x00"); named && name != "" && permissions != nil && (socket.u32(unixState) == listening || socket.u32(unixType) == datagram) {
				add(permissions, name)
			}
			return err
		})
	}
	return all, err
}

// States and types of UNIX sockets that are bound to their names again.
const (
	listening = 10
	datagram  = 2
)
