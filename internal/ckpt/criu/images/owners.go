package images

import "strings"

// Owned is something that a restore makes again and gives to its owner.
type Owned struct {
	UID, GID uint32
	Name     string // of a UNIX socket; "" of memory
}

// Owners returns what of that kind is in memfd.img, memory that processes share, or in
// files.img, UNIX sockets.
func Owners(name string, img []byte) (all []Owned, err error) {
	add := func(m message, name string) {
		all = append(all, Owned{UID: m.u32(2), GID: m.u32(3), Name: name})
	}
	switch {
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
			if socket.u32(unixDeleted) != 0 {
				return err // see DropLostOwners
			}
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

// DropLostOwners changes files.img so that UNIX sockets whose names were removed get no owner
// and mode, for a user's restart. A user's CRIU, which cannot look at such a socket, has taken
// any for them, and nobody sees them: the name that it gets for a moment is removed again.
func DropLostOwners(files []byte) ([]byte, error) {
	return kindFiles.rewrite(files, func(_ int, m message) (message, error) {
		socket, err := m.sub(fileUnix)
		if err != nil || socket.u32(unixDeleted) == 0 {
			return m, err
		}
		return m.put(bytesField(fileUnix, socket.without(unixPermissions, unixPermissions).append(nil))), nil
	})
}
