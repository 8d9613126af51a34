package images

// TTYType is the kind of a terminal.
type TTYType uint32

// Terminal types (enum TtyType in tty.proto).
const (
	TTYPty     TTYType = 1
	TTYConsole TTYType = 2
	TTYVirtual TTYType = 3
	TTYCurrent TTYType = 4 // /dev/tty
	TTYExt     TTYType = 5
	TTYSerial  TTYType = 6
)

// Fields of tty_info_entry and tty_data_entry.
const (
	ttyEntryID = 1 // of both
	ttyType    = 2
	ttySID     = 6
	ttyPGrp    = 7
	ttyRdev    = 8
	ttyTermios = 9
	ttyPty     = 12
	ttyPtyIdx  = 1 // tty_pty_entry.index
	ttyDev     = 13
)

// TTY is an entry of tty-info.img: a terminal, or one end of a pseudo terminal.
type TTY struct {
	ID     uint32
	Type   TTYType
	Master bool   // the end that is for the terminal emulator
	Index  uint32 // of TTYPty: the N of /dev/pts/N
	SID    int32  // the session it controlled, 0 is none
	PGrp   int32  // its foreground group
	Hung   bool   // the other end had been closed
	Rdev   uint32 // device number, as of stat(2)
	Dev    uint32 // that of the file system that the device file is on
}

// TTYs reads tty-info.img.
func TTYs(ttyInfo []byte) ([]TTY, error) {
	var all []TTY
	err := kindTTYInfo.each(ttyInfo, func(m message) error {
		t, err := parseTTY(m)
		all = append(all, t)
		return err
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}

// parseTTY reads an entry of tty-info.img.
func parseTTY(m message) (TTY, error) {
	if err := m.require(ttyEntryID, ttyType, ttySID, ttyPGrp, ttyRdev); err != nil {
		return TTY{}, err
	}
	t := TTY{
		ID: m.u32(ttyEntryID), Type: TTYType(m.u32(ttyType)), Rdev: m.u32(ttyRdev), Dev: m.u32(ttyDev),
		SID: int32(m.u32(ttySID)), PGrp: int32(m.u32(ttyPGrp)),
	}
	pty, ok, err := m.sub(ttyPty)
	if err != nil {
		return TTY{}, err
	}
	if t.Type != TTYPty {
		return t, nil
	}
	if !ok {
		return TTY{}, malformed("pseudo terminal %d has no index", t.ID)
	}
	t.Index = pty.u32(ttyPtyIdx)
	_, termios, err := m.sub(ttyTermios)
	t.Hung = !termios
	// The devices of masters are /dev/ptmx, 5:2, and majors 128 to 135.
	major, minor := t.Rdev>>8&0xfff, t.Rdev&0xff|t.Rdev>>12&0xfff00
	t.Master = major == 5 && minor == 2 || major >= 128 && major < 136
	return t, err
}

// Terminal is a terminal that the tree uses and somebody else provided: its
// other end, if it has one, was not saved.
type Terminal struct {
	TTY
	Files []uint32 // ids of its open files; give them to Redirect
	FDs   []Ref
}

// OutsideTTYs are the terminals that have to come from cr_restart, in the order
// of ttys. Not among them are pseudo terminals whose master is in the tree, and
// ones that had hung up; those criu makes itself. /dev/tty is, unless the
// terminal behind it is one of the former.
func OutsideTTYs(files []File, ttys []TTY, tables map[uint32][]FD) []Terminal {
	masters := make(map[uint32]bool)
	for _, t := range ttys {
		if t.Master {
			masters[t.Index] = true
		}
	}
	inside := func(t TTY) bool {
		return t.Type == TTYPty && (t.Hung || masters[t.Index])
	}
	controls := make(map[int32]bool) // sessions whose terminal is inside
	for _, t := range ttys {
		if inside(t) && t.SID != 0 {
			controls[t.SID] = true
		}
	}
	open := make(map[uint32][]uint32)
	for _, f := range files {
		if f.Type == TypeTTY {
			open[f.TTYInfoID] = append(open[f.TTYInfoID], f.ID)
		}
	}
	var outside []Terminal
	for _, t := range ttys {
		if inside(t) || t.Type == TTYCurrent && controls[t.SID] {
			continue
		}
		if ids := open[t.ID]; len(ids) > 0 {
			outside = append(outside, Terminal{t, ids, refs(tables, TypeTTY, ids...)})
		}
	}
	return outside
}

// ReleaseTTYs changes tty-info.img to fit a pstree.img after AdoptTasks: a
// terminal whose session has no leader any more controls none. criu would look
// for the leader in vain and give up ("No task found with sid").
func ReleaseTTYs(ttyInfo []byte, tasks []Task) (out []byte, changed bool, err error) {
	leads := make(map[int32]bool)
	for _, t := range tasks {
		if t.SID == t.PID {
			leads[t.SID] = true
		}
	}
	return kindTTYInfo.rewrite(ttyInfo, func(m message) (message, verdict, error) {
		t, err := parseTTY(m)
		if err != nil || t.SID == 0 || leads[t.SID] {
			return m, keep, err
		}
		m = m.put(numberField(ttySID, 0))
		return m.put(numberField(ttyPGrp, 0)), replace, nil
	})
}

// PruneTTYInfo removes from tty-info.img what no file refers to any more.
// files is files.img after Redirect.
func PruneTTYInfo(ttyInfo []byte, files []File) (out []byte, changed bool, err error) {
	return pruneTTYs(kindTTYInfo, ttyInfo, files)
}

// PruneTTYData removes from tty-data.img, where criu keeps what was typed and
// not yet read, that of terminals no file refers to any more: criu refuses it
// ("No tty found to queued data"). files is files.img after Redirect.
func PruneTTYData(ttyData []byte, files []File) (out []byte, changed bool, err error) {
	return pruneTTYs(kindTTYData, ttyData, files)
}

// pruneTTYs is for images whose entries begin with the id of a terminal.
func pruneTTYs(k kind, img []byte, files []File) ([]byte, bool, error) {
	used := make(map[uint32]bool)
	for _, f := range files {
		if f.Type == TypeTTY {
			used[f.TTYInfoID] = true
		}
	}
	return k.rewrite(img, func(m message) (message, verdict, error) {
		if err := m.require(ttyEntryID); err != nil {
			return nil, keep, err
		}
		if used[m.u32(ttyEntryID)] {
			return m, keep, nil
		}
		return nil, remove, nil
	})
}
