package criu

import (
	"fmt"
	"iter"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/ckpt/criu/images"
)

// Files that are external to the tree cannot be restored: a terminal, or one end
// of a pipe or a UNIX socket whose other end was open elsewhere. As with BLCR the
// job gets what cr_restart has open under the same number instead: its standard
// input as standard input, and so on, also above 2. Where cr_restart has nothing
// open under that number, a terminal becomes cr_restart's terminal, and a pipe
// one whose other end is closed.

// external replaces those files. It needs files.img as it is otherwise served.
func (p *plan) external(source source, r *ckpt.RestartRequest) error {
	tables, err := p.tables(source)
	if err != nil {
		return err
	}
	files, err := images.Files(p.images[images.FilesName])
	if err != nil {
		return err
	}
	ids, err := images.Read(source, images.Name("ids", p.tasks[0].PID), images.TaskIDs)
	if err != nil {
		return err
	}
	own := tables[ids.Files]
	p.readMoved(own)
	isExternal, err := externalPipes(source)
	if err != nil {
		return err
	}
	keys := make(map[uint32]images.InheritKeys)
	add := func(e images.External, k images.InheritKeys) {
		for _, id := range e.Files {
			keys[id] = k
		}
	}
	for _, pipe := range images.ExternalPipes(files, tables) {
		if !isExternal(pipe.ID) {
			continue
		}
		if k := p.keys(pipe.External); k.Default != "" { // else criu makes one whose other end is closed
			add(pipe.External, k)
		}
	}
	for _, socket := range images.ExternalSockets(files, tables) {
		if socket.Type == unix.SOCK_DGRAM && listens(socket.PeerName, socket.PeerDir) {
			continue // criu connects it again, for example to a system logger
		}
		k := p.keys(socket.External)
		if k.Default == "" {
			k.Default = p.deadSocket(int(socket.Type))
		}
		add(socket.External, k)
	}
	if err := p.planTerminal(source, files, tables); err != nil {
		return err
	}
	ttys, err := p.ttys(source)
	if err != nil {
		return err
	}
	if ttys, err = p.renumber(ttys); err != nil {
		return err
	}
	for _, tty := range images.ExternalTTYs(files, ttys, tables) {
		k := p.keys(tty.External)
		if k.Default == "" {
			k.Default = p.terminalKey()
		}
		if tty.TTY.Type == images.TTYCurrent {
			k = images.InheritKeys{Default: p.terminalKey()}
		}
		add(tty.External, k)
	}
	// CRIU makes a pseudo terminal for each that had hung up, by a device that often only root
	// may open.
	if unix.Faccessat(unix.AT_FDCWD, "/dev/pts/ptmx", unix.R_OK|unix.W_OK, unix.AT_EACCESS) != nil {
		for _, tty := range images.HungTTYs(files, ttys, tables) {
			add(tty.External, images.InheritKeys{Default: p.deadTerminal(ttys)})
		}
	}
	if err := p.semaphores(source, tables, add); err != nil {
		return err
	}
	if r.KeepStdio {
		p.ownStdio(own, files, add)
	}
	if len(keys) == 0 {
		return nil
	}
	changed, inheritance, err := images.Inherit(p.images[images.FilesName], keys)
	if err != nil {
		return err
	}
	p.images[images.FilesName] = changed
	for n := range tables {
		name := images.Name("fdinfo", n)
		if p.images[name], err = images.Read(source, name, inheritance.FDInfo); err != nil {
			return err
		}
	}
	return p.prune(source)
}

// semaphores has criu inherit eventfds that are semaphores, as it makes ordinary ones.
func (p *plan) semaphores(source source, tables images.Tables, add func(images.External, images.InheritKeys)) error {
	done := make(map[uint32]bool)
	for task, err := range p.ids(source) {
		if err != nil {
			return err
		}
		for _, s := range p.attributes.Semaphores(task.pid) {
			for _, fd := range tables[task.Files] {
				if fd.FD != s.FD || fd.Type != images.TypeEventFD || done[fd.FileID] {
					continue
				}
				done[fd.FileID] = true
				flags := unix.EFD_SEMAPHORE | unix.EFD_CLOEXEC
				if s.NonBlock {
					flags |= unix.EFD_NONBLOCK
				}
				own, err := unix.Eventfd(uint(s.Count), flags)
				if err != nil {
					return ckpt.SystemError("eventfd", "", err)
				}
				p.owned = append(p.owned, own)
				add(images.External{Files: []uint32{fd.FileID}}, images.InheritKeys{Default: p.inherit(fmt.Sprintf("semaphore-%d", fd.FileID), own)})
			}
		}
	}
	return nil
}

// externalPipes returns whether the other end of a pipe was open elsewhere, by
// its inode. Of a context that does not tell, that may be so for all.
func externalPipes(source source) (func(inode uint32) bool, error) {
	if !source.Has(images.ExternalPipesName) {
		return func(uint32) bool { return true }, nil
	}
	text, err := source.Bytes(images.ExternalPipesName)
	if err != nil {
		return nil, err
	}
	external := images.ParseExternalPipes(text)
	return func(inode uint32) bool { return external[inode] }, nil
}

// tables returns the tables of descriptors of all processes, which it reads once.
func (p *plan) tables(source source) (images.Tables, error) {
	if p.descriptors != nil {
		return p.descriptors, nil
	}
	tables := make(images.Tables)
	err := p.eachTable(source, func(n uint32, _ int32) (err error) {
		tables[n], err = images.Read(source, images.Name("fdinfo", n), images.FDs)
		return err
	})
	if err != nil {
		return nil, err
	}
	p.descriptors = tables
	return tables, nil
}

// taskIDs are what a process of the job shares with others.
type taskIDs struct {
	pid int32
	images.IDs
}

// ids yields them for each process that had not ended. An error is the last that it yields.
func (p *plan) ids(source source) iter.Seq2[taskIDs, error] {
	return func(yield func(taskIDs, error) bool) {
		for _, task := range p.tasks {
			name := images.Name("ids", task.PID)
			if !source.Has(name) { // it has ended
				continue
			}
			ids, err := images.Read(source, name, images.TaskIDs)
			if !yield(taskIDs{task.PID, ids}, err) || err != nil {
				return
			}
		}
	}
}

// eachTable calls do with the N of every fdinfo-N.img, and a process that has this table.
func (p *plan) eachTable(source source, do func(n uint32, pid int32) error) error {
	seen := make(map[uint32]bool)
	for task, err := range p.ids(source) {
		if err != nil {
			return err
		}
		if seen[task.Files] || !source.Has(images.Name("fdinfo", task.Files)) {
			continue
		}
		seen[task.Files] = true
		if err := do(task.Files, task.pid); err != nil {
			return err
		}
	}
	return nil
}

// ttys reads the terminals, of which those of sessions that are not restored are
// no controlling terminals any more.
func (p *plan) ttys(source source) ([]images.TTY, error) {
	if !source.Has(images.TTYInfoName) {
		return nil, nil
	}
	img, err := source.Bytes(images.TTYInfoName)
	if err != nil {
		return nil, err
	}
	if img, err = images.DropControllingTTYs(img, p.tasks); err != nil {
		return nil, err
	}
	p.images[images.TTYInfoName] = img
	return images.TTYs(img)
}

// prune removes the images of terminals that are replaced.
func (p *plan) prune(source source) error {
	files, err := images.Files(p.images[images.FilesName])
	if err != nil {
		return err
	}
	for name, prune := range map[string]func([]byte, []images.File) ([]byte, error){
		images.TTYInfoName: images.PruneTTYInfo,
		images.TTYDataName: images.PruneTTYData,
	} {
		img, err := p.served(source, name)
		if err != nil {
			return err
		}
		if img == nil {
			continue
		}
		if p.images[name], err = prune(img, files); err != nil {
			return err
		}
	}
	return nil
}

// keys returns what the descriptors of one open file are replaced by: each by
// cr_restart's descriptor of the same number. Those that cr_restart does not have
// are replaced by the first that it has; if it has none there is no default.
// What the job was started with as a standard descriptor is replaced by that one of
// cr_restart's, wherever it is now.
func (p *plan) keys(e images.External) images.InheritKeys {
	k := images.InheritKeys{FD: make(map[uint32]string)}
	use := func(fd uint32) {
		if isOpen(int(fd)) {
			k.FD[fd] = p.inherit(fmt.Sprintf("descriptor-%d", fd), int(fd))
			if k.Default == "" {
				k.Default = k.FD[fd]
			}
		}
	}
	for _, id := range e.Files {
		if n, moved := p.moved[id]; moved {
			use(n)
			e.FDs = slices.DeleteFunc(slices.Clone(e.FDs), func(fd uint32) bool { return fd > 2 })
		}
	}
	for _, fd := range e.FDs {
		use(fd)
	}
	return k
}

// isOpen reports whether cr_restart was started with that descriptor. Descriptors
// that it has opened itself are close-on-exec, and so are the stand-ins for closed
// standard descriptors.
func isOpen(fd int) bool {
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	return err == nil && flags&unix.FD_CLOEXEC == 0
}

// terminalKey returns the key for cr_restart's controlling terminal, or for /dev/null
// if it has none.
func (p *plan) terminalKey() string {
	const key = "terminal"
	if slices.Contains(p.keysInUse, key) {
		return key
	}
	fd, err := unix.Open("/dev/tty", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return p.null()
	}
	p.owned = append(p.owned, fd)
	return p.inherit(key, fd)
}

// hasTerminal reports whether cr_restart has a controlling terminal.
func hasTerminal() bool {
	fd, err := unix.Open("/dev/tty", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	unix.Close(fd)
	return true
}

// null returns the key for /dev/null.
func (p *plan) null() string {
	const key = "null"
	if slices.Contains(p.keysInUse, key) {
		return key
	}
	// If it cannot be opened, criu's error tells so.
	fd, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err == nil {
		p.owned = append(p.owned, fd)
	}
	return p.inherit(key, fd)
}

// deadSocket returns the key for a socket whose peer is closed.
func (p *plan) deadSocket(kind int) string {
	pair, err := unix.Socketpair(unix.AF_UNIX, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return p.null()
	}
	unix.Close(pair[1])
	p.owned = append(p.owned, pair[0])
	return p.inherit(fmt.Sprintf("socket-%d", len(p.keysInUse)), pair[0])
}

// deadTerminal returns the key for a pseudo terminal that has hung up. Its number is none of
// those that the job's have.
func (p *plan) deadTerminal(ttys []images.TTY) string {
	const key = "dead-terminal"
	if slices.Contains(p.keysInUse, key) {
		return key
	}
	for range len(ttys) + 1 {
		master, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
		if err != nil {
			break
		}
		defer unix.Close(master)
		n, err := unix.IoctlGetUint32(master, unix.TIOCGPTN)
		if err == nil && slices.ContainsFunc(ttys, func(t images.TTY) bool { return t.Type == images.TTYPty && t.Index == n }) {
			continue
		}
		if err != nil || unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, 0) != nil {
			break
		}
		fd, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(master), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
		if errno != 0 {
			break
		}
		p.owned = append(p.owned, int(fd))
		return p.inherit(key, int(fd))
	}
	return p.null()
}

// listens reports whether there is a datagram socket of that name, a
// File.SocketName, to connect to.
func listens(name, dir string) bool {
	if name == "" {
		return false
	}
	if abstract, ok := strings.CutPrefix(name, "\x00"); ok {
		name = "@" + abstract
	} else if name = strings.TrimSuffix(name, "\x00"); !path.IsAbs(name) {
		name = path.Join(dir, name)
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	return unix.Connect(fd, &unix.SockaddrUnix{Name: name}) == nil
}

// inherit has criu inherit a descriptor under the name key, and returns key.
func (p *plan) inherit(key string, fd int) string {
	if !slices.Contains(p.keysInUse, key) {
		p.keysInUse = append(p.keysInUse, key)
		// 0 to 2 are criu's own standard descriptors.
		p.options = append(p.options, "--inherit-fd", fmt.Sprintf("fd[%d]:%s", 3+len(p.inherited), key))
		p.inherited = append(p.inherited, fd)
	}
	return key
}
