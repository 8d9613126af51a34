package images

import (
	"strings"

	"blcr-cli/internal/ckpt"
)

// Relocate changes the names in files.img: of executables, mapped and open
// files, FIFOs, and working and root directories, which all are entries of it.
// It does not change the paths that UNIX sockets are bound to.
//
// A deleted file goes with its name: criu makes it again from the ghost-file
// image in the new directory, or links it from its link_remap.N there, whose
// entry is relocated as well.
//
// What is at the new name need not be the same file: like BLCR, nobody checks.
// So relocated entries lose what criu would check, see DropValidation.
func Relocate(files []byte, relocations []ckpt.Relocation) (out []byte, changed bool, err error) {
	return kindFiles.rewrite(files, func(m message) (message, verdict, error) {
		f, err := parseFile(m)
		if err != nil || f.Type != TypeReg {
			return m, keep, err
		}
		name := Relocated(f.Name, relocations)
		if name == f.Name {
			return m, keep, nil
		}
		return rewriteReg(m, func(reg message) message {
			return unchecked(reg).put(bytesField(regName, []byte(name)))
		})
	})
}

// Relocated is name after the first relocation that matches it.
func Relocated(name string, relocations []ckpt.Relocation) string {
	for _, r := range relocations {
		rest, ok := strings.CutPrefix(name, strings.TrimSuffix(r.Old, "/"))
		if !ok || rest != "" && rest[0] != '/' {
			continue
		}
		if rest == "/" { // the root directory
			rest = ""
		}
		if name = strings.TrimSuffix(r.New, "/") + rest; name == "" {
			return "/"
		}
		return name
	}
	return name
}

// DropValidation removes from files.img what criu checks when it opens a file:
// size, mode, build-id and checksum. A file with another size ("has bad size")
// or mode otherwise fails the restore, where BLCR just opens it.
//
// drop says for which files; nil is all. To run on with another executable or
// library than was saved is no good, so it may be wise to spare Memory's files.
func DropValidation(files []byte, drop func(File) bool) (out []byte, changed bool, err error) {
	return kindFiles.rewrite(files, func(m message) (message, verdict, error) {
		f, err := parseFile(m)
		if err != nil || f.Type != TypeReg || drop != nil && !drop(f) {
			return m, keep, err
		}
		return rewriteReg(m, unchecked)
	})
}

// unchecked is a reg_file_entry without what criu checks.
func unchecked(reg message) message {
	reg = reg.without(regSize, regMode)
	for num := uint32(regBuildID); num <= regCheckLast; num++ {
		reg = reg.without(num)
	}
	return reg
}

// rewriteReg changes the reg_file_entry in an entry of files.img.
func rewriteReg(m message, f func(reg message) message) (message, verdict, error) {
	reg, _, err := m.sub(fileReg)
	if err != nil {
		return nil, keep, err
	}
	after := f(reg)
	if len(after) == len(reg) && string(after.encode()) == string(reg.encode()) {
		return m, keep, nil
	}
	return m.put(bytesField(fileReg, after.encode())), replace, nil
}
