package images

import (
	"encoding/binary"
	"fmt"
	"slices"
)

// FileType is the kind of an open file (enum fd_types in fdinfo.proto).
type FileType uint32

// File types.
const (
	TypeReg       FileType = 1
	TypePipe      FileType = 2
	TypeFIFO      FileType = 3
	TypeInet      FileType = 4
	TypeUnix      FileType = 5
	TypeEventFD   FileType = 6
	TypeEventPoll FileType = 7
	TypeInotify   FileType = 8
	TypeSignalFD  FileType = 9
	TypePacket    FileType = 10
	TypeTTY       FileType = 11
	TypeFanotify  FileType = 12
	TypeNetlink   FileType = 13
	TypeNS        FileType = 14
	TypeTun       FileType = 15
	TypeExt       FileType = 16
	TypeTimerFD   FileType = 17
	TypeMemFD     FileType = 18
	TypeBPFMap    FileType = 19
	TypePIDFD     FileType = 20
)

// Fields of file_entry. All from fileReg to fileLast are bodies, one for each
// type.
const (
	fileType     = 1
	fileID       = 2
	fileReg      = 3
	fileInet     = 4
	filePacket   = 6
	fileNetlink  = 7
	fileEventFD  = 8
	fileEpoll    = 9
	fileSignalFD = 10
	fileTimerFD  = 12
	fileInotify  = 13
	fileFanotify = 14
	fileExt      = 15
	fileUnix     = 16
	fileFIFO     = 17
	filePipe     = 18
	fileTTY      = 19
	fileMemFD    = 20
	fileBPFMap   = 21
	filePIDFD    = 22
	fileLast     = filePIDFD
)

// Fields of the bodies: reg_file_entry, pipe_entry, fifo_entry, tty_file_entry,
// unix_sk_entry, inet_sk_entry and memfd_file_entry.
const (
	regID       = 1
	regFlags    = 2
	regPos      = 3
	regFown     = 5
	regName     = 6
	regMount    = 7
	regSize     = 8
	regExternal = 9
	regMode     = 10
	regBuildID  = 11
	regChecksum = 14 // the last of the fields of build-id and checksum

	pipeID    = 2
	pipeFlags = 3

	fifoPipeID = 2
	fifoReg    = 3

	ttyFileInfo  = 2
	ttyFileFlags = 3
	ttyFileReg   = 6

	unixInode       = 2
	unixType        = 3
	unixState       = 4
	unixFlags       = 5
	unixUsage       = 6 // uflags
	unixPeer        = 8
	unixOptions     = 10
	unixName        = 11
	unixPermissions = 13
	unixDir         = 14
	unixDeleted     = 15

	inetInode     = 2
	inetType      = 4
	inetProtocol  = 5
	inetState     = 6
	inetLocalPort = 7
	inetPeerPort  = 8
	inetFlags     = 9
	inetLocal     = 11
	inetPeer      = 12
	inetOptions   = 14
	inetShutdown  = 19

	// Of sk_opts_entry.
	socketPriority = 8
	socketMark     = 10

	memfdFlags = 2
	memfdPos   = 3
	memfdInode = 5

	// The way to what is watched (fsnotify.proto, fh.proto).
	inotifyWatch   = 5
	inotifyHandle  = 7
	fanotifyMark   = 6
	fanotifyInode  = 7
	fanotifyMount  = 8
	fanotifyHandle = 2
	mountPath      = 2
	handlePath     = 4

	memfdInodeName = 1 // of memfd_inode_entry
	memfdInodeID   = 7
)

// unixExtern is USK_EXTERN of criu's sk-unix.c.
const unixExtern = 1 << 0

// File is an entry of files.img (file_entry in fdinfo.proto): an open file, or
// with TypeReg also a name that executables, mappings, directories, FIFOs and
// terminals refer to by its ID.
type File struct {
	ID    uint32
	Type  FileType
	Flags uint32 // of open(2)
	Pos   uint64 // the offset, of TypeReg and TypeMemFD

	// Name and Mode are of TypeReg (reg_file_entry), which is for directories,
	// devices and mapped files, too. The name is absolute, without " (deleted)".
	Name string
	Mode uint32 // of stat(2)

	PipeID    uint32 // of TypePipe and TypeFIFO: the inode
	TTYInfoID uint32 // of TypeTTY: the TTY.ID
	RegID     uint32 // of TypeFIFO and TypeTTY: the TypeReg entry with its name
	MemFD     uint32 // of TypeMemFD: the key in MemFDNames

	// Of TypeUnix (unix_sk_entry) and TypeInet.
	SocketType uint32 // of socket(2)
	State      uint32 // of TCP, for UNIX sockets as well: 1 is connected, 10 listening
	Inode      uint32
	Mark       uint32 // SO_MARK
	Priority   uint32 // SO_PRIORITY

	// Of TypeUnix. The name may be abstract (begin with a NUL byte) or empty; a
	// name in the file system ends in a NUL byte and may be relative to Dir.
	SocketName string
	Dir        string
	Peer       uint32 // the inode of the other end, 0 for none
	External   bool   // it was not open in the tree, but is the peer of one that was

	Inet InetSocket // of TypeInet
}

// InetSocket is the rest of a socket of IPv4 or IPv6 (inet_sk_entry in
// sk-inet.proto).
type InetSocket struct {
	Protocol    uint32 // of IP: 6 is TCP
	Local, Peer InetAddr
	Shutdown    uint32 // the argument of shutdown(2), and one more; 0 for neither direction
}

// InetAddr is an address of IPv4 or IPv6 and a port.
type InetAddr struct {
	IP   string // its bytes: 4, 16, or any other number if the image is not sound
	Port uint16
}

// Files reads files.img.
func Files(files []byte) ([]File, error) { return all(kindFiles, files, parseFile) }

// bodies are the fields of file_entry with the body of a type.
var bodies = map[FileType]uint32{
	TypeReg: fileReg, TypePipe: filePipe, TypeFIFO: fileFIFO, TypeTTY: fileTTY, TypeUnix: fileUnix,
	TypeInet: fileInet, TypeMemFD: fileMemFD,
}

// parseFile reads a file_entry. Of types that are not in bodies only ID and Type
// are read.
func parseFile(m message) (File, error) {
	f := File{ID: m.u32(fileID), Type: FileType(m.u32(fileType))}
	if err := m.require(fileType, fileID); err != nil {
		return File{}, err
	}
	num, known := bodies[f.Type]
	if !known {
		return f, nil
	}
	body, err := m.sub(num)
	if err != nil {
		return File{}, err
	}
	if body == nil {
		return File{}, malformed("file %#x of type %d has no body", f.ID, f.Type)
	}
	switch f.Type {
	case TypeReg:
		f.Flags, f.Pos = body.u32(regFlags), body.u64(regPos)
		f.Name, f.Mode = body.text(regName), body.u32(regMode)
		if f.Name == "" {
			return File{}, malformed("file %#x has no name", f.ID)
		}
	case TypePipe:
		f.PipeID, f.Flags = body.u32(pipeID), body.u32(pipeFlags)
	case TypeFIFO:
		f.PipeID, f.RegID = body.u32(fifoPipeID), body.u32(fifoReg)
	case TypeTTY:
		f.TTYInfoID, f.Flags, f.RegID = body.u32(ttyFileInfo), body.u32(ttyFileFlags), body.u32(ttyFileReg)
	case TypeUnix:
		f.SocketName, f.Dir = body.text(unixName), body.text(unixDir)
		f.SocketType, f.Flags = body.u32(unixType), body.u32(unixFlags)
		f.State, f.Inode, f.Peer = body.u32(unixState), body.u32(unixInode), body.u32(unixPeer)
		f.External = body.u32(unixUsage)&unixExtern != 0
		err = f.options(body, unixOptions)
	case TypeInet:
		f.SocketType, f.Flags = body.u32(inetType), body.u32(inetFlags)
		f.State, f.Inode = body.u32(inetState), body.u32(inetInode)
		f.Inet.Protocol, f.Inet.Shutdown = body.u32(inetProtocol), body.u32(inetShutdown)
		if f.Inet.Local, err = inetAddr(body, inetLocal, inetLocalPort); err == nil {
			f.Inet.Peer, err = inetAddr(body, inetPeer, inetPeerPort)
		}
		if err == nil {
			err = f.options(body, inetOptions)
		}
	case TypeMemFD:
		f.Flags, f.Pos, f.MemFD = body.u32(memfdFlags), body.u64(memfdPos), body.u32(memfdInode)
	}
	return f, err
}

// options reads what of a sk_opts_entry takes a right.
func (f *File) options(body message, num uint32) error {
	options, err := body.sub(num)
	f.Mark, f.Priority = options.u32(socketMark), options.u32(socketPriority)
	return err
}

// inetAddr reads an address, of which the image has the 32-bit words as they are
// in memory, and its port.
func inetAddr(m message, words, port uint32) (InetAddr, error) {
	all, err := m.repeated(words)
	var ip []byte
	for _, w := range all {
		ip = binary.LittleEndian.AppendUint32(ip, uint32(w))
	}
	return InetAddr{string(ip), uint16(m.u32(port))}, err
}

// MemFDNames reads memfd.img (memfd_inode_entry in memfd.proto): the names of
// memfds by File.MemFD.
func MemFDNames(memfd []byte) (map[uint32]string, error) {
	names := make(map[uint32]string)
	err := kindMemFD.each(memfd, func(_ int, m message) error {
		names[m.u32(memfdInodeID)] = m.text(memfdInodeName)
		return m.require(memfdInodeID)
	})
	return names, err
}

// Fields of fdinfo_entry.
const (
	fdFile  = 1
	fdFlags = 2
	fdType  = 3
	fdFD    = 4
)

// FD is a descriptor and the open file behind it: an entry of fdinfo-N.img
// (fdinfo_entry in fdinfo.proto).
type FD struct {
	FD     uint32
	FileID uint32
	Type   FileType
	Flags  uint32 // of F_GETFD: FD_CLOEXEC
}

// FDs reads fdinfo-N.img, a table of descriptors. N is IDs.Files of the tasks
// that have this table.
func FDs(fdinfo []byte) ([]FD, error) { return all(kindFDInfo, fdinfo, parseFD) }

// parseFD reads a fdinfo_entry.
func parseFD(m message) (FD, error) {
	fd := FD{FD: m.u32(fdFD), FileID: m.u32(fdFile), Type: FileType(m.u32(fdType)), Flags: m.u32(fdFlags)}
	return fd, m.require(fdFile, fdFlags, fdType, fdFD)
}

// Tables are tables of descriptors by the N of fdinfo-N.img.
type Tables map[uint32][]FD

// fds returns the descriptors of files ids, in the order of table and number.
func (t Tables) fds(typ FileType, ids ...uint32) []uint32 {
	var refs []uint64 // a table and a number in it
	for n, fds := range t {
		for _, fd := range fds {
			if fd.Type == typ && slices.Contains(ids, fd.FileID) {
				refs = append(refs, uint64(n)<<32|uint64(fd.FD))
			}
		}
	}
	slices.Sort(refs)
	var fds []uint32
	for _, r := range refs {
		fds = append(fds, uint32(r))
	}
	return fds
}

// RemapType is how criu keeps a file that has lost its name (enum remap_type in
// remap-file-path.proto).
type RemapType uint32

// Remap types.
const (
	RemapLinked RemapType = 0 // it still has another name, which is another entry of files.img
	RemapGhost  RemapType = 1 // its content is in ghost-file-N.img
	RemapProc   RemapType = 2 // it was in /proc of a process that has ended
)

// Remap is an entry of remap-fpath.img (remap_file_path_entry in
// remap-file-path.proto): a file that has lost its name.
type Remap struct {
	File uint32 // File.ID
	To   uint32 // of RemapLinked a File.ID, of RemapGhost the N, of RemapProc a pid
	Type RemapType
}

// Remaps reads remap-fpath.img.
func Remaps(remap []byte) ([]Remap, error) {
	return all(kindRemap, remap, func(m message) (Remap, error) {
		return Remap{m.u32(1), m.u32(2), RemapType(m.u32(3))}, m.require(1, 2)
	})
}

// Ghost is the beginning of ghost-file-N.img (ghost_file_entry in ghost-file.proto): a file
// that has lost its name. Its content follows.
type Ghost struct {
	UID, GID uint32
	Mode     uint32 // of stat(2), with the type
	Modified Time   // zero in images of an old criu
}

// Time is a point in time (timeval in time.proto).
type Time struct{ Sec, Usec int64 }

// ghostModified is the field of ghost_file_entry with the time of the last change.
const ghostModified = 8

// ReadGhost reads ghost-file-N.img, or its beginning.
func ReadGhost(img []byte) (Ghost, error) {
	m, _, err := ghostEntry(img)
	if err != nil {
		return Ghost{}, err
	}
	time, err := m.sub(ghostModified)
	if err != nil {
		return Ghost{}, err
	}
	return Ghost{
		UID: m.u32(1), GID: m.u32(2), Mode: m.u32(3),
		Modified: Time{int64(time.u64(1)), int64(time.u64(2))},
	}, m.require(1, 2, 3)
}

// ghostEntry returns the first entry of an image of a ghost file, or of its beginning, and
// what of the image precedes its content.
func ghostEntry(img []byte) (m message, length int, err error) {
	b, err := kindGhost.body(img)
	if err != nil {
		return nil, 0, err
	}
	p, err := payload(b)
	if err == nil {
		m, err = parseMessage(p)
	}
	if err != nil {
		return nil, 0, fmt.Errorf("%s: %w", kindGhost.name, err)
	}
	return m, len(img) - len(b) + 4 + len(p), nil
}

// OwnGhost returns the beginning of an image of a ghost file, or of such a beginning, with
// another owner and group, for a user who may not make others' files. A program is not
// set-user-ID or set-group-ID any more. Skip is how much of the image it replaces.
func OwnGhost(img []byte, uid, gid uint32) (head []byte, skip int64, err error) {
	m, length, err := ghostEntry(img)
	if err != nil {
		return nil, 0, err
	}
	const setIDs = 0o6000
	m = m.put(intField(1, uint64(uid))).put(intField(2, uint64(gid))).put(intField(3, uint64(m.u32(3)&^setIDs)))
	return appendEntry(append([]byte(nil), img[:8]...), m), int64(length), nil
}
