package images

import (
	"slices"
	"strconv"
	"strings"
)

// External is an open file between the tree and a process that was not saved,
// which criu cannot restore. criu calls such a file external, too.
type External struct {
	Files []uint32 // File.ID of the open files that are it; keys for Inherit
	FDs   []uint32 // the saved descriptors of these, in the order of table and number
}

// ExternalPipe is a pipe of which only one end was open in the tree.
type ExternalPipe struct {
	External
	ID uint32 // the inode, as in pipe:[ID]
}

// ExternalSocket is a connected UNIX socket whose peer was not open in the tree.
type ExternalSocket struct {
	External
	Type uint32 // of socket(2)

	// PeerName is the name of the peer, by which criu finds it again, as
	// File.SocketName; "" if it has none. PeerDir is its File.Dir.
	PeerName, PeerDir string
}

// ExternalTTY is a terminal whose other end, if it has one, was not open in the
// tree.
type ExternalTTY struct {
	External
	TTY TTY
}

// Flags of open(2).
const (
	readOnly   = 0
	writeOnly  = 1
	accessMode = 3
)

// ExternalPipes returns the pipes of which only one end was open in the tree, in
// the order of files.img. The other end may have been open elsewhere or nowhere;
// ParseExternalPipes tells which. FIFOs are not among them: criu opens those by
// name. tables serve for External.FDs only.
func ExternalPipes(files []File, tables Tables) []ExternalPipe {
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
		// A pipe that was opened through /proc can be for both.
		e.read = e.read || f.Flags&accessMode != writeOnly
		e.write = e.write || f.Flags&accessMode != readOnly
		e.files = append(e.files, f.ID)
	}
	var external []ExternalPipe
	for _, id := range order {
		if e := pipes[id]; e.read != e.write {
			external = append(external, ExternalPipe{External{e.files, tables.fds(TypePipe, e.files...)}, id})
		}
	}
	return external
}

// ExternalSockets returns the connected UNIX sockets whose peer was not open in
// the tree, in the order of files.img. criu has saved them only if it was told
// to, with --external unix[INODE], and cannot connect those whose peer has no
// name. tables serve for External.FDs only.
func ExternalSockets(files []File, tables Tables) []ExternalSocket {
	peers := make(map[uint32]File)
	for _, f := range files {
		if f.Type == TypeUnix && f.External {
			peers[f.Inode] = f
		}
	}
	var external []ExternalSocket
	for _, f := range files {
		peer, ok := peers[f.Peer]
		if f.Type != TypeUnix || f.External || f.Peer == 0 || !ok {
			continue
		}
		external = append(external, ExternalSocket{
			External: External{[]uint32{f.ID}, tables.fds(TypeUnix, f.ID)},
			Type:     f.SocketType, PeerName: peer.SocketName, PeerDir: peer.Dir,
		})
	}
	return external
}

// TerminalSessions returns the sessions whose controlling terminal is a pseudo terminal with
// its master in the tree, as those of what script(1) and expect(1) run.
func TerminalSessions(ttys []TTY) map[int32]bool {
	_, controlled := internalTTYs(ttys)
	return controlled
}

// OwnPTYs returns the numbers of the pseudo terminals that criu makes itself.
func OwnPTYs(ttys []TTY) map[uint32]bool {
	internal, _ := internalTTYs(ttys)
	own := make(map[uint32]bool)
	for _, t := range ttys {
		if internal(t) {
			own[t.Index] = true
		}
	}
	return own
}

// internalTTYs returns which terminals criu makes itself, and the sessions whose
// controlling terminal is one of those.
func internalTTYs(ttys []TTY) (internal func(TTY) bool, controlled map[int32]bool) {
	masters := make(map[uint32]bool)
	for _, t := range ttys {
		if t.Master {
			masters[t.Index] = true
		}
	}
	internal = func(t TTY) bool { return t.Type == TTYPty && (t.Hung || masters[t.Index]) }
	controlled = make(map[int32]bool)
	for _, t := range ttys {
		if internal(t) && t.SID != 0 {
			controlled[t.SID] = true
		}
	}
	return internal, controlled
}

// ExternalTTYs returns the terminals that a restart has to provide, in the order
// of ttys. Not among them are pseudo terminals whose master is in the tree, and
// those that had hung up: criu makes both itself. /dev/tty is among them unless
// the terminal behind it is one of these. Nor is a device, such as a serial line, that the job
// has opened for itself: one that controls no session, and that tables show as no standard
// descriptor.
func ExternalTTYs(files []File, ttys []TTY, tables Tables) []ExternalTTY {
	internal, controlled := internalTTYs(ttys)
	external := opened(files, ttys, tables, func(t TTY) bool { return !internal(t) && !(t.Type == TTYCurrent && controlled[t.SID]) })
	return slices.DeleteFunc(external, func(e ExternalTTY) bool {
		device := e.TTY.Type == TTYSerial || e.TTY.Type == TTYVirtual || e.TTY.Type == TTYConsole
		return device && e.TTY.SID == 0 && len(e.FDs) > 0 && !slices.ContainsFunc(e.FDs, func(fd uint32) bool { return fd <= 2 })
	})
}

// HungTTYs returns the pseudo terminals that had hung up, as ExternalTTYs the others.
func HungTTYs(files []File, ttys []TTY, tables Tables) []ExternalTTY {
	return opened(files, ttys, tables, func(t TTY) bool { return t.Hung && !t.Master })
}

// opened returns the terminals of a kind that are open.
func opened(files []File, ttys []TTY, tables Tables, is func(TTY) bool) []ExternalTTY {
	open := make(map[uint32][]uint32)
	for _, f := range files {
		if f.Type == TypeTTY {
			open[f.TTYInfoID] = append(open[f.TTYInfoID], f.ID)
		}
	}
	var external []ExternalTTY
	for _, t := range ttys {
		if ids := open[t.ID]; is(t) && len(ids) > 0 {
			external = append(external, ExternalTTY{External{ids, tables.fds(TypeTTY, ids...)}, t})
		}
	}
	return external
}

// ParseExternalPipes reads the member ExternalPipesName of a context: the inodes
// of the pipes whose other end another process had open when the tree was saved.
// That of other pipes with one end was open nowhere, which CRIU's images do not
// tell. The member is text with one inode on each line; other lines are ignored.
func ParseExternalPipes(text []byte) map[uint32]bool {
	inodes := make(map[uint32]bool)
	for _, word := range strings.Fields(string(text)) {
		if n, err := strconv.ParseUint(word, 10, 32); err == nil {
			inodes[uint32(n)] = true
		}
	}
	return inodes
}
