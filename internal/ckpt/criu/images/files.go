package images

import (
	"cmp"
	"encoding/binary"
	"net/netip"
	"slices"
)

// FileType is what kind of file an entry of files.img or fdinfo-N.img is for.
type FileType uint32

// File types (enum fd_types in fdinfo.proto).
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

// Fields of file_entry. All from fileReg on are bodies, one for each type.
const (
	fileType  = 1
	fileID    = 2
	fileReg   = 3
	fileInet  = 4
	fileUnix  = 16
	fileFIFO  = 17
	filePipe  = 18
	fileTTY   = 19
	fileMemFD = 20
	fileLast  = 22
)

// Fields of fdinfo_entry.
const (
	fdFile  = 1
	fdFlags = 2
	fdType  = 3
	fdFD    = 4
)

// Fields of the bodies.
const (
	regID        = 1
	regFlags     = 2
	regPos       = 3
	regFown      = 5
	regName      = 6
	regSize      = 8
	regMode      = 10
	regBuildID   = 11
	regCheckLast = 14 // 11 to 14 are build-id and checksum

	pipeID    = 2
	pipeFlags = 3

	fifoPipeID = 2
	fifoReg    = 3

	ttyFileInfo  = 2
	ttyFileFlags = 3
	ttyFileReg   = 6

	unixInode = 2
	unixType  = 3
	unixState = 4
	unixFlags = 5
	unixUsage = 6 // uflags: what the socket is to criu
	unixPeer  = 8
	unixName  = 11
	unixDir   = 14

	inetInode     = 2
	inetFamily    = 3
	inetType      = 4
	inetProtocol  = 5
	inetState     = 6
	inetLocalPort = 7
	inetPeerPort  = 8
	inetFlags     = 9
	inetLocal     = 11
	inetPeer      = 12

	memfdFlags = 2
	memfdPos   = 3
	memfdInode = 5

	memfdInodeName = 1 // of memfd_inode_entry
	memfdInodeID   = 7
)

// unixExtern is USK_EXTERN of criu's sk-unix.c.
const unixExtern = 1 << 0

// File is an entry of files.img: an open file, or (TypeReg) a name that
// executables, mappings, directories, FIFOs and terminals refer to by its ID.
type File struct {
	ID    uint32
	Type  FileType
	Flags uint32 // as of open(2)

	// Of TypeReg, which also is for directories, devices and what was mapped.
	Name    string // absolute; without " (deleted)"
	Pos     uint64
	Size    uint64
	HasSize bool // criu insists on that size, see DropValidation
	Mode    uint32

	PipeID    uint32 // of TypePipe and TypeFIFO: the inode
	TTYInfoID uint32 // of TypeTTY: which entry of tty-info.img
	RegID     uint32 // of TypeFIFO and TypeTTY: the TypeReg entry with its name

	// Of TypeUnix. The name may be abstract (begin with a NUL byte) or empty; one
	// of the file system has its NUL byte at the end, and may be relative to Dir.
	SocketName string
	Dir        string
	SocketType uint32 // as of socket(2)
	State      uint32 // as of TCP: 1 connected, 10 listening
	Inode      uint32
	Peer       uint32 // inode, 0 is none
	External   bool   // nobody's who was saved, but somebody's peer

	Inet InetSocket // of TypeInet; its SocketType, State and Inode are above

	MemFD uint32 // of TypeMemFD: which entry of memfd.img; Pos is above
}

// InetSocket is a socket of IPv4 or IPv6.
type InetSocket struct {
	Protocol    uint32         // of IP: 6 is TCP
	Local, Peer netip.AddrPort // invalid if they make no sense
}

// Files reads files.img.
func Files(files []byte) ([]File, error) {
	var all []File
	err := kindFiles.each(files, func(m message) error {
		f, err := parseFile(m)
		all = append(all, f)
		return err
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}

// parseFile reads an entry of files.img.
func parseFile(m message) (File, error) {
	if err := m.require(fileType, fileID); err != nil {
		return File{}, err
	}
	f := File{ID: m.u32(fileID), Type: FileType(m.u32(fileType))}
	num, known := map[FileType]uint32{
		TypeReg: fileReg, TypePipe: filePipe, TypeFIFO: fileFIFO, TypeTTY: fileTTY, TypeUnix: fileUnix,
		TypeInet: fileInet, TypeMemFD: fileMemFD,
	}[f.Type]
	if !known {
		return f, nil
	}
	body, ok, err := m.sub(num)
	if err != nil {
		return File{}, err
	}
	if !ok {
		return File{}, malformed("file %#x of type %d has no body", f.ID, f.Type)
	}
	switch f.Type {
	case TypeReg:
		f.Name = body.text(regName)
		if f.Name == "" {
			return File{}, malformed("file %#x has no name", f.ID)
		}
		f.Flags = body.u32(regFlags)
		f.Pos = body.u64(regPos)
		f.Size, f.HasSize = body.number(regSize)
		f.Mode = body.u32(regMode)
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
	case TypeInet:
		f.SocketType, f.State, f.Flags = body.u32(inetType), body.u32(inetState), body.u32(inetFlags)
		f.Inode = body.u32(inetInode)
		f.Inet, err = parseInet(body)
	case TypeMemFD:
		f.Flags, f.Pos, f.MemFD = body.u32(memfdFlags), body.u64(memfdPos), body.u32(memfdInode)
	}
	return f, err
}

// parseInet reads an inet_sk_entry.
func parseInet(m message) (s InetSocket, err error) {
	s.Protocol = m.u32(inetProtocol)
	if s.Local, err = address(m, inetLocal, inetLocalPort); err == nil {
		s.Peer, err = address(m, inetPeer, inetPeerPort)
	}
	return s, err
}

// address reads an address, of which the image has the words as they are in
// memory, and its port.
func address(m message, words, port uint32) (netip.AddrPort, error) {
	all, err := m.numbers(words)
	if err != nil {
		return netip.AddrPort{}, err
	}
	var b []byte
	for _, w := range all {
		b = binary.LittleEndian.AppendUint32(b, uint32(w))
	}
	ip, ok := netip.AddrFromSlice(b)
	if !ok { // nobody but people asks for it
		return netip.AddrPort{}, nil
	}
	return netip.AddrPortFrom(ip, uint16(m.u32(port))), nil
}

// MemFDNames reads memfd.img: the names by what File.MemFD says.
func MemFDNames(memfd []byte) (map[uint32]string, error) {
	names := make(map[uint32]string)
	err := kindMemFD.each(memfd, func(m message) error {
		names[m.u32(memfdInodeID)] = m.text(memfdInodeName)
		return m.require(memfdInodeID)
	})
	return names, err
}

// Flags of open(2).
const (
	readOnly   = 0
	writeOnly  = 1
	accessMode = 3
)

// FD is an entry of fdinfo-N.img: a descriptor and the open file behind it.
type FD struct {
	FD     uint32
	FileID uint32
	Type   FileType
	Flags  uint32 // FD_CLOEXEC
}

// FDs reads fdinfo-N.img. N is IDs.Files of the tasks that have this table.
func FDs(fdinfo []byte) ([]FD, error) {
	var all []FD
	err := kindFDInfo.each(fdinfo, func(m message) error {
		all = append(all, FD{
			FD: m.u32(fdFD), FileID: m.u32(fdFile), Type: FileType(m.u32(fdType)), Flags: m.u32(fdFlags),
		})
		return m.require(fdFile, fdFlags, fdType, fdFD)
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}

// Ref is a descriptor in one of the saved tables.
type Ref struct {
	Table uint32 // the N of fdinfo-N
	FD    uint32
}

// refs are the descriptors for files ids, in the order of table and number.
func refs(tables map[uint32][]FD, typ FileType, ids ...uint32) []Ref {
	var all []Ref
	for n, fds := range tables {
		for _, fd := range fds {
			if fd.Type == typ && slices.Contains(ids, fd.FileID) {
				all = append(all, Ref{n, fd.FD})
			}
		}
	}
	slices.SortFunc(all, func(a, b Ref) int {
		return cmp.Or(cmp.Compare(a.Table, b.Table), cmp.Compare(a.FD, b.FD))
	})
	return all
}

// Pipe is a pipe of which the tree has one end only.
type Pipe struct {
	ID    uint32   // the inode, as in pipe:[ID]
	Write bool     // the tree has the end for writing, else that for reading
	Files []uint32 // ids of the open files of that end; give them to Redirect
	FDs   []Ref
}

// Socket is a UNIX socket whose peer was not saved.
type Socket struct {
	Type  uint32 // as of socket(2)
	Named bool   // the peer has a name, by which criu finds it again
	Files []uint32
	FDs   []Ref
}

// OutsideSockets are the connected UNIX sockets between the tree and somebody
// who was not saved, in the order of files.img. criu has saved them only if it
// was told to, with --external unix[INODE], and cannot connect those again whose
// peer has no name. tables serve for Socket.FDs.
func OutsideSockets(files []File, tables map[uint32][]FD) []Socket {
	outside := make(map[uint32]File)
	for _, f := range files {
		if f.Type == TypeUnix && f.External {
			outside[f.Inode] = f
		}
	}
	var sockets []Socket
	for _, f := range files {
		peer, ok := outside[f.Peer]
		if f.Type != TypeUnix || f.External || f.Peer == 0 || !ok {
			continue
		}
		sockets = append(sockets, Socket{
			Type: f.SocketType, Named: peer.SocketName != "",
			Files: []uint32{f.ID}, FDs: refs(tables, TypeUnix, f.ID),
		})
	}
	return sockets
}

// OutsidePipes are the pipes between the tree and somebody who was not saved,
// in the order of files.img. FIFOs are not among them: criu opens those by
// name. tables are the fdinfo-N images by N; they only serve for Pipe.FDs.
func OutsidePipes(files []File, tables map[uint32][]FD) []Pipe {
	type ends struct {
		read, write bool
		files       []uint32
	}
	pipes := make(map[uint32]*ends)
	var order []uint32
	for _, f := range files {
		if f.Type != TypePipe {
			continue
		}
		e := pipes[f.PipeID]
		if e == nil {
			e = new(ends)
			pipes[f.PipeID] = e
			order = append(order, f.PipeID)
		}
		// A pipe opened again through /proc can be for both.
		e.read = e.read || f.Flags&accessMode != writeOnly
		e.write = e.write || f.Flags&accessMode != readOnly
		e.files = append(e.files, f.ID)
	}
	var outside []Pipe
	for _, id := range order {
		if e := pipes[id]; e.read != e.write {
			outside = append(outside, Pipe{id, e.write, e.files, refs(tables, TypePipe, e.files...)})
		}
	}
	return outside
}
