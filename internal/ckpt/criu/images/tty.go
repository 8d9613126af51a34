package images

import (
	"encoding/binary"
	"fmt"
)

// TTYType is the kind of a terminal (enum TtyType in tty.proto).
type TTYType uint32

// Terminal types.
const (
	TTYPty     TTYType = 1
	TTYConsole TTYType = 2
	TTYVirtual TTYType = 3
	TTYCurrent TTYType = 4 // /dev/tty
	TTYExt     TTYType = 5
	TTYSerial  TTYType = 6
)

// Fields of tty_info_entry, the first also of tty_data_entry.
const (
	ttyID      = 1
	ttyType    = 2
	ttyPacket  = 5
	ttySID     = 6
	ttyPGrp    = 7
	ttyRdev    = 8
	ttyTermios = 9
	ttyPty     = 12

	ptyIndex = 1 // of tty_pty_entry

	ttyDataData = 2 // of tty_data_entry
)

// slaveMajor is the major number of the slaves of pseudo terminals.
const slaveMajor = 136

// TTY is an entry of tty-info.img (tty_info_entry in tty.proto): a terminal, or
// one end of a pseudo terminal.
type TTY struct {
	ID     uint32
	Type   TTYType
	Master bool   // the end that is for the terminal emulator
	Index  uint32 // of TTYPty: the N of /dev/pts/N
	SID    int32  // the session that it is the controlling terminal of, 0 for none
	PGrp   int32  // the foreground process group of that session
	Hung   bool   // the other end had been closed
	Packet bool   // TIOCPKT is set
	Modes  *Modes // nil where there are none, as of /dev/tty
}

// Modes are a terminal's modes (termios_entry in tty.proto), as of termios(3),
// without what belongs to the line: size of characters, speed.
type Modes struct {
	Input, Output, Local uint32 // c_iflag, c_oflag, c_lflag
	Control              []byte // c_cc, and more of no meaning
}

// Fields of termios_entry.
const (
	termiosInput   = 1
	termiosOutput  = 2
	termiosLocal   = 4
	termiosControl = 8
)

// parseModes reads a termios_entry.
func parseModes(m message) (*Modes, error) {
	cc, err := m.repeated(termiosControl)
	if err != nil {
		return nil, err
	}
	modes := &Modes{Input: m.u32(termiosInput), Output: m.u32(termiosOutput), Local: m.u32(termiosLocal)}
	// criu copies the bytes of c_cc into an array of 32-bit words.
	for _, word := range cc {
		modes.Control = binary.LittleEndian.AppendUint32(modes.Control, uint32(word))
	}
	return modes, m.require(termiosInput, termiosOutput, termiosLocal)
}

// TTYs reads tty-info.img.
func TTYs(ttyInfo []byte) ([]TTY, error) { return all(kindTTYInfo, ttyInfo, parseTTY) }

// parseTTY reads a tty_info_entry.
func parseTTY(m message) (TTY, error) {
	if err := m.require(ttyID, ttyType, ttySID, ttyPGrp, ttyRdev); err != nil {
		return TTY{}, err
	}
	t := TTY{ID: m.u32(ttyID), Type: TTYType(m.u32(ttyType)), SID: int32(m.u32(ttySID)), PGrp: int32(m.u32(ttyPGrp)), Packet: m.u32(ttyPacket) != 0}
	termios, err := m.sub(ttyTermios)
	if err == nil && termios != nil {
		t.Modes, err = parseModes(termios)
	}
	if err != nil {
		return TTY{}, err
	}
	pty, err := m.sub(ttyPty)
	if err != nil || t.Type != TTYPty {
		return t, err
	}
	if pty == nil {
		return TTY{}, malformed("pseudo terminal %d has no index", t.ID)
	}
	t.Index = pty.u32(ptyIndex)
	t.Hung = termios == nil
	// The devices of masters are /dev/ptmx, 5:2, and majors 128 to 135.
	rdev := m.u32(ttyRdev)
	major, minor := rdev>>8&0xfff, rdev&0xff|rdev>>12&0xfff00
	t.Master = major == 5 && minor == 2 || major >= 128 && major < 136
	return t, err
}

// DropControllingTTYs changes tty-info.img to fit tasks, the result of
// SetSessions: a terminal whose session has no leader any more is no controlling
// terminal. criu would look for the leader in vain and give up ("No task found
// with sid").
func DropControllingTTYs(ttyInfo []byte, tasks []Task) ([]byte, error) {
	leads := sessionLeaders(tasks)
	return kindTTYInfo.rewrite(ttyInfo, func(_ int, m message) (message, error) {
		t, err := parseTTY(m)
		if err != nil || t.SID == 0 || leads[t.SID] {
			return m, err
		}
		return m.put(intField(ttySID, 0)).put(intField(ttyPGrp, 0)), nil
	})
}

// SlaveName is the name of the slave of a pseudo terminal.
func SlaveName(index uint32) string { return fmt.Sprintf("/dev/pts/%d", index) }

// RenumberPTYs changes tty-info.img and files.img so that pseudo terminals have other
// numbers: numbers has the new one by the old one.
func RenumberPTYs(ttyInfo, files []byte, numbers map[uint32]uint32) (ttyInfo2, files2 []byte, err error) {
	slaves := make(map[uint32]uint32) // old numbers by TTY.ID
	ttyInfo2, err = kindTTYInfo.rewrite(ttyInfo, func(_ int, m message) (message, error) {
		t, err := parseTTY(m)
		n, other := numbers[t.Index]
		if err != nil || t.Type != TTYPty || !other {
			return m, err
		}
		if !t.Master {
			slaves[t.ID] = t.Index
			m = m.put(intField(ttyRdev, uint64(slaveMajor<<8|n&0xff|n&^0xff<<12)))
		}
		pty, err := m.sub(ttyPty)
		if err != nil {
			return nil, err
		}
		return m.put(bytesField(ttyPty, pty.put(intField(ptyIndex, uint64(n))).append(nil))), nil
	})
	if err != nil {
		return nil, nil, err
	}
	list, err := Files(files)
	if err != nil {
		return nil, nil, err
	}
	old := make(map[uint32]uint32) // numbers by File.ID of the entry with the name
	for _, f := range list {
		if n, slave := slaves[f.TTYInfoID]; f.Type == TypeTTY && slave {
			old[f.RegID] = n
		}
	}
	names := make(map[uint32]string)
	for _, f := range list {
		if n, slave := old[f.ID]; f.Type == TypeReg && slave && f.Name == SlaveName(n) {
			names[f.ID] = SlaveName(numbers[n])
		}
	}
	files2, err = Rename(files, names)
	return ttyInfo2, files2, err
}

// PruneTTYInfo removes from tty-info.img the terminals that no file refers to.
// files are those of files.img after Inherit.
func PruneTTYInfo(ttyInfo []byte, files []File) ([]byte, error) {
	return pruneTTYs(kindTTYInfo, ttyInfo, files)
}

// PruneTTYData removes from tty-data.img (tty_data_entry in tty.proto), where
// criu keeps what was typed and not yet read, the data of terminals that no file
// refers to: criu refuses it ("No tty found to queued data"). files are those of
// files.img after Inherit.
func PruneTTYData(ttyData []byte, files []File) ([]byte, error) {
	return pruneTTYs(kindTTYData, ttyData, files)
}

// pruneTTYs is for images whose entries begin with the id of a terminal.
func pruneTTYs(k kind, img []byte, files []File) ([]byte, error) {
	used := make(map[uint32]bool)
	for _, f := range files {
		if f.Type == TypeTTY {
			used[f.TTYInfoID] = true
		}
	}
	return k.rewrite(img, func(_ int, m message) (message, error) {
		if err := m.require(ttyID); err != nil || !used[m.u32(ttyID)] {
			return nil, err
		}
		return m, nil
	})
}

// mostUnread is as much as CRIU reads of a terminal. There may be more.
const mostUnread = 16 << 10

// Unread returns, from tty-info.img and tty-data.img, what was to be read by the masters of
// pseudo terminals, by their numbers: those that CRIU has taken something out of, by either
// end. Those of which it is not known, because there was too much or in packet mode (TIOCPKT of
// ioctl_tty(2)), are left out.
func Unread(ttyInfo, ttyData []byte) (map[uint32][]byte, error) {
	ttys, err := TTYs(ttyInfo)
	if err != nil {
		return nil, err
	}
	byID := make(map[uint32]TTY)
	for _, t := range ttys {
		byID[t.ID] = t
	}
	unread, unknown := make(map[uint32][]byte), make(map[uint32]bool)
	err = kindTTYData.each(ttyData, func(_ int, m message) error {
		t := byID[m.u32(ttyID)]
		data := []byte(m.text(ttyDataData))
		switch {
		case t.Type != TTYPty:
		case t.Packet || len(data) >= mostUnread:
			unknown[t.Index] = true
		case t.Master:
			unread[t.Index] = data
		case unread[t.Index] == nil:
			unread[t.Index] = []byte{}
		}
		return nil
	})
	for index := range unknown {
		delete(unread, index)
	}
	return unread, err
}
