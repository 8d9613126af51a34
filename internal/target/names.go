package target

import "strings"

// Names are the names of a target, spelled as BLCR spells them in its messages.
type Names struct {
	// Write is the file that is written first: DIR/.BASE.tmp for Atomic and
	// Backup, otherwise Path as given.
	Write string
	// Dir is the directory that Commit syncs: Path's, after dirname(3).
	Dir string
	// Rename is the name that Write is renamed to: Path, or "" if the target
	// is written in place.
	Rename string
}

// Names returns the names that Open, Begin and Commit will use. It looks at
// nothing but s.
func (s Spec) Names() Names {
	n := Names{Write: s.Path, Dir: dirname(s.Path)}
	if s.Policy == Atomic || s.Policy == Backup {
		n.Write, n.Rename = s.tempName(), s.Path
	}
	return n
}

// DirNames is Names for OpenDir.
func (s Spec) DirNames() Names {
	s = s.trimmed()
	return Names{Write: s.tempName(), Dir: dirname(s.Path), Rename: s.Path}
}

// trimmed is s without slashes at the end of names, which mean nothing for directories.
func (s Spec) trimmed() Spec {
	trim := func(path string) string {
		if trimmed := strings.TrimRight(path, "/"); trimmed != "" {
			return trimmed
		}
		return path
	}
	s.Path, s.BackupName = trim(s.Path), trim(s.BackupName)
	return s
}

func (s Spec) tempName() string  { return hidden(s.Path, ".tmp") }
func (s Spec) spareName() string { return hidden(s.Path, ".old") }

// privateName is where a backup waits that is to replace an existing one.
func (s Spec) privateName() string { return hidden(s.BackupName, ".bak") }

// hidden makes DIR/.BASE and suffix from path. For "/tmp" that is "//.tmp" and
// suffix, as in BLCR.
func hidden(path, suffix string) string {
	return dirname(path) + "/." + basename(path) + suffix
}

// dirname and basename are those of <libgen.h> in glibc, not those of package
// path, which would clean the names: users see them.

func dirname(path string) string {
	trimmed := strings.TrimRight(path, "/")
	if trimmed == "" {
		return root(path)
	}
	i := strings.LastIndexByte(trimmed, '/')
	if i < 0 {
		return "."
	}
	if dir := strings.TrimRight(trimmed[:i], "/"); dir != "" {
		return dir
	}
	return root(trimmed[:i+1])
}

// root is dirname where nothing but slashes is left. Two of them are a root of
// its own in POSIX, and glibc keeps them.
func root(slashes string) string {
	switch slashes {
	case "":
		return "."
	case "//":
		return "//"
	}
	return "/"
}

func basename(path string) string {
	trimmed := strings.TrimRight(path, "/")
	switch {
	case path == "":
		return "."
	case trimmed == "":
		return "/"
	}
	return trimmed[strings.LastIndexByte(trimmed, '/')+1:]
}
