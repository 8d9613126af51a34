package criu

import (
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt/criu/images"
)

// What a job had open of its surroundings, a terminal, or one end of a pipe or a
// UNIX socket of which somebody else had the other, cannot come back. As with BLCR the job gets
// what cr_restart has open under the same number: its standard input as standard
// input, and so on, also above 2. What cr_restart does not have open becomes its
// terminal where it was one, and a pipe whose other end is closed.

// outside replaces those files. It needs files.img as it will be otherwise.
func (p *plan) outside(source source) error {
	tables, err := p.tables(source)
	if err != nil {
		return err
	}
	files, err := images.Files(p.images["files.img"])
	if err != nil {
		return imageError(err)
	}
	ledOutside, err := neighbours(source)
	if err != nil {
		return err
	}
	keys := make(map[uint32]images.Keys)
	for _, pipe := range images.OutsidePipes(files, tables) {
		if !ledOutside(pipe.ID) {
			continue
		}
		k := p.keys(pipe.FDs)
		if k.Default == "" {
			continue // criu makes one whose other end is closed
		}
		for _, id := range pipe.Files {
			keys[id] = k
		}
	}
	for _, socket := range images.OutsideSockets(files, tables) {
		if socket.Type == unix.SOCK_DGRAM && socket.Named {
			continue // criu connects it again, to a system logger for one
		}
		k := p.keys(socket.FDs)
		if k.Default == "" {
			k.Default = p.deadSocket(int(socket.Type))
		}
		for _, id := range socket.Files {
			keys[id] = k
		}
	}
	if err := p.terminals(source, files, tables, keys); err != nil {
		return err
	}
	if len(keys) == 0 {
		return nil
	}
	patched, redirection, err := images.Redirect(p.images["files.img"], keys)
	if err != nil {
		return imageError(err)
	}
	p.images["files.img"] = patched
	for n := range tables {
		name := tableName(n)
		table, err := source.Bytes(name)
		if err != nil {
			return err
		}
		patched, changed, err := redirection.FDs(table)
		if err != nil {
			return imageError(err)
		}
		if changed {
			p.images[name] = patched
		}
	}
	return p.prune(source)
}

// tables reads the tables of descriptors of all processes.
func (p *plan) tables(source source) (map[uint32][]images.FD, error) {
	tables := make(map[uint32][]images.FD)
	for _, task := range p.tasks {
		name := fmt.Sprintf("ids-%d.img", task.PID)
		if !source.Has(name) { // one that has ended
			continue
		}
		text, err := source.Bytes(name)
		if err != nil {
			return nil, err
		}
		ids, err := images.TaskIDs(text)
		if err != nil {
			return nil, imageError(err)
		}
		if tables[ids.Files] != nil || !source.Has(tableName(ids.Files)) {
			continue
		}
		if text, err = source.Bytes(tableName(ids.Files)); err != nil {
			return nil, err
		}
		if tables[ids.Files], err = images.FDs(text); err != nil {
			return nil, imageError(err)
		}
	}
	return tables, nil
}

func tableName(n uint32) string { return fmt.Sprintf("fdinfo-%d.img", n) }

// terminals adds the keys for the terminals that were saved without their other
// end.
func (p *plan) terminals(source source, files []images.File, tables map[uint32][]images.FD, keys map[uint32]images.Keys) error {
	if !source.Has("tty-info.img") {
		return nil
	}
	text, err := source.Bytes("tty-info.img")
	if err != nil {
		return err
	}
	released, changed, err := images.ReleaseTTYs(text, p.tasks)
	if err != nil {
		return imageError(err)
	}
	if changed {
		text = released
		p.images["tty-info.img"] = released
	}
	ttys, err := images.TTYs(text)
	if err != nil {
		return imageError(err)
	}
	for _, terminal := range images.OutsideTTYs(files, ttys, tables) {
		k := p.keys(terminal.FDs)
		if k.Default == "" {
			k.Default = p.terminal()
		}
		if terminal.Type == images.TTYCurrent {
			k = images.Keys{Default: p.terminal()}
		}
		for _, id := range terminal.Files {
			keys[id] = k
		}
	}
	return nil
}

// prune removes what belonged to terminals that are none any more.
func (p *plan) prune(source source) error {
	files, err := images.Files(p.images["files.img"])
	if err != nil {
		return imageError(err)
	}
	for name, prune := range map[string]func([]byte, []images.File) ([]byte, bool, error){
		"tty-info.img": images.PruneTTYInfo,
		"tty-data.img": images.PruneTTYData,
	} {
		text := p.images[name]
		if text == nil {
			if !source.Has(name) {
				continue
			}
			if text, err = source.Bytes(name); err != nil {
				return err
			}
		}
		patched, changed, err := prune(text, files)
		if err != nil {
			return imageError(err)
		}
		if changed {
			p.images[name] = patched
		}
	}
	return nil
}

// keys are where the descriptors that refer to one open file come from: each
// from the descriptor of ours with the same number. What we do not have follows
// the first that we have; without any there is no default.
func (p *plan) keys(refs []images.Ref) images.Keys {
	k := images.Keys{FD: make(map[uint32]string)}
	for _, ref := range refs {
		if fd := int(ref.FD); isOpen(fd) {
			k.FD[ref.FD] = p.inherit(fmt.Sprintf("descriptor-%d", fd), fd)
			if k.Default == "" {
				k.Default = k.FD[ref.FD]
			}
		}
	}
	return k
}

// isOpen tells whether we were started with that descriptor. What we have opened
// ourselves is closed on exec, and so is what stands in for a closed one.
func isOpen(fd int) bool {
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	return err == nil && flags&unix.FD_CLOEXEC == 0
}

// terminal is the key for our controlling terminal, or for nothing where we have
// none.
func (p *plan) terminal() string {
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

// hasTerminal tells whether we have a controlling terminal.
func hasTerminal() bool {
	fd, err := unix.Open("/dev/tty", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	unix.Close(fd)
	return true
}

// null is the key for nothing.
func (p *plan) null() string {
	const key = "null"
	if slices.Contains(p.keysInUse, key) {
		return key
	}
	// It is there on every machine; should it not be, criu says so.
	fd, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err == nil {
		p.owned = append(p.owned, fd)
	}
	return p.inherit(key, fd)
}

// deadSocket is the key for a socket whose peer has gone.
func (p *plan) deadSocket(kind int) string {
	pair, err := unix.Socketpair(unix.AF_UNIX, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return p.null()
	}
	unix.Close(pair[1])
	p.owned = append(p.owned, pair[0])
	return p.inherit(fmt.Sprintf("socket-%d", len(p.keysInUse)), pair[0])
}

// inherit gives criu a descriptor by the name of key.
func (p *plan) inherit(key string, fd int) string {
	if !slices.Contains(p.keysInUse, key) {
		p.keysInUse = append(p.keysInUse, key)
		// Standard input, output and errors are criu's own.
		p.options = append(p.options, "--inherit-fd", fmt.Sprintf("fd[%d]:%s", 3+len(p.inherited), key))
		p.inherited = append(p.inherited, fd)
	}
	return key
}
