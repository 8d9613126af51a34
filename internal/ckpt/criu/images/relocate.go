package images

import (
	"slices"
	"strings"
)

// Relocate changes the names in files.img to what rename makes of them. These are
// the names of executables, of mapped and open files, of FIFOs, of working and root
// directories, of UNIX sockets in the file system, and of what inotify and fanotify watch.
//
// A deleted file goes with its name: criu makes it again from the ghost-file
// image in the new directory, or links it from its link_remap.N there, whose
// entry is relocated as well.
//
// As with BLCR the file at the new name need not be the same. So relocated
// entries lose what criu would check, as with DropValidation.
func Relocate(files []byte, rename func(name string) string) ([]byte, error) {
	files, err := rewriteReg(files, func(f File, reg message) message {
		name := rename(f.Name)
		if name == f.Name {
			return nil
		}
		return dropValidation(reg).put(bytesField(regName, []byte(name)))
	})
	if err != nil {
		return nil, err
	}
	return kindFiles.rewrite(files, func(_ int, m message) (message, error) {
		f, err := parseFile(m)
		if err != nil {
			return nil, err
		}
		switch f.Type {
		case TypeUnix:
		case TypeInotify:
			return m.renameAt(rename, fileInotify, inotifyWatch, inotifyHandle, handlePath)
		case TypeFanotify:
			if m, err = m.renameAt(rename, fileFanotify, fanotifyMark, fanotifyInode, fanotifyHandle, handlePath); err != nil {
				return nil, err
			}
			return m.renameAt(rename, fileFanotify, fanotifyMark, fanotifyMount, mountPath)
		default:
			return m, nil
		}
		socket, err := m.sub(fileUnix)
		if err != nil {
			return nil, err
		}
		dir, name := f.Dir, f.SocketName
		if dir != "" {
			dir = rename(dir)
		}
		if strings.HasPrefix(name, "/") {
			path, isString := strings.CutSuffix(name, "\x00")
			name = rename(path)
			if isString {
				name += "\x00"
			}
		}
		if dir != f.Dir {
			socket = socket.put(bytesField(unixDir, []byte(dir)))
		}
		if name != f.SocketName {
			socket = socket.put(bytesField(unixName, []byte(name)))
		}
		if dir == f.Dir && name == f.SocketName {
			return m, nil
		}
		return m.put(bytesField(fileUnix, socket.append(nil))), nil
	})
}

// Rename changes names in files.img by File.ID, as Relocate does, and keeps what criu would
// check: what had been removed, and a device, has nothing of that.
func Rename(files []byte, names map[uint32]string) ([]byte, error) {
	return rewriteReg(files, func(f File, reg message) message {
		name, some := names[f.ID]
		if !some {
			return nil
		}
		return reg.put(bytesField(regName, []byte(name)))
	})
}

// renameAt renames the string that the field numbers lead to, in all messages of a
// repeated field.
func (m message) renameAt(rename func(name string) string, nums ...uint32) (message, error) {
	out := slices.Clone(m)
	for i, f := range m {
		if f.num != nums[0] || f.wire != wireBytes {
			continue
		}
		if len(nums) == 1 {
			out[i] = bytesField(f.num, []byte(rename(string(f.data()))))
			continue
		}
		sub, err := parseMessage(f.data())
		if err == nil {
			sub, err = sub.renameAt(rename, nums[1:]...)
		}
		if err != nil {
			return nil, err
		}
		out[i] = bytesField(f.num, sub.append(nil))
	}
	return out, nil
}

// DropValidation removes from files.img what criu checks when it opens a file
// (criu's --file-validation, and the mode): size, mode, build-id and checksum. A
// file with another size ("has bad size") or mode otherwise fails the restore,
// where BLCR just opens it.
//
// drop says for which files; nil is for all. It should spare executables and
// mapped files: processes cannot run on with another one than was saved.
func DropValidation(files []byte, drop func(File) bool) ([]byte, error) {
	return rewriteReg(files, func(f File, reg message) message {
		if drop != nil && !drop(f) {
			return nil
		}
		return dropValidation(reg)
	})
}

// dropValidation returns a reg_file_entry without what criu checks.
func dropValidation(reg message) message {
	return reg.without(regSize, regSize).without(regMode, regMode).without(regBuildID, regChecksum)
}

// rewriteReg changes the reg_file_entry of each TypeReg entry of files.img to
// what change returns, nil for no change.
func rewriteReg(files []byte, change func(f File, reg message) message) ([]byte, error) {
	return kindFiles.rewrite(files, func(_ int, m message) (message, error) {
		f, err := parseFile(m)
		if err != nil || f.Type != TypeReg {
			return m, err
		}
		reg, err := m.sub(fileReg)
		if err != nil {
			return nil, err
		}
		if reg = change(f, reg); reg == nil {
			return m, nil
		}
		return m.put(bytesField(fileReg, reg.append(nil))), nil
	})
}
