package target

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// maxGeneration is the highest number that makes a name a numbered backup's. It leaves
// room for what follows it in an int.
const maxGeneration = 1 << 30

// generation is a numbered backup: BASE.~number~ in the target's directory.
type generation struct {
	name   string // as in a message, with the directory
	number int
}

// backupName is the name of a numbered backup.
func backupName(path string, n int) string { return path + ".~" + strconv.Itoa(n) + "~" }

// BackupNumber takes the name of a numbered backup apart, a name without a directory:
// base and n for "base.~n~". Other names are not ok.
func BackupNumber(name string) (base string, n int, ok bool) {
	rest, found := strings.CutSuffix(name, "~")
	i := strings.LastIndex(rest, ".~")
	if !found || i <= 0 {
		return "", 0, false
	}
	digits := rest[i+len(".~"):]
	n, err := strconv.Atoi(digits)
	if err != nil || n < 1 || n > maxGeneration || strconv.Itoa(n) != digits {
		return "", 0, false
	}
	return rest[:i], n, true
}

// generations returns the numbered backups of the target, whatever they are, with the
// lowest number first.
func (f *file) generations() (all []generation, err error) {
	dir, err := f.sys.open(f.names.Dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, fail(OpOpenDir, f.names.Dir, err)
	}
	defer f.sys.close(dir)
	names, err := f.sys.entries(dir)
	if err != nil {
		return nil, fail(OpOpenDir, f.names.Dir, err)
	}
	own := basename(f.spec.Path)
	var numbers []int
	for _, name := range names {
		if base, n, ok := BackupNumber(name); ok && base == own {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	for _, n := range numbers {
		all = append(all, generation{backupName(f.spec.Path, n), n})
	}
	return all, nil
}

// nextBackup returns the number for a backup of the old context, and the highest one that
// may be tried if that is taken meanwhile. With Keep the numbers grow, so that their
// order is that of the contexts; otherwise the first free one is taken, as in BLCR. If
// the last backup is the old context already, as a killed run leaves it, that is made.
func (f *file) nextBackup() (first, last int, made string, err error) {
	if f.spec.Keep == 0 {
		return 1, maxBackupNumber, "", nil
	}
	all, err := f.generations()
	if err != nil || len(all) == 0 {
		return 1, tries, "", err
	}
	newest := all[len(all)-1]
	if same, _ := f.sameFile(f.spec.Path, newest.name); same {
		made = newest.name
	}
	return newest.number + 1, newest.number + tries, made, nil
}

// prune removes the oldest backups, so that with the target there are Keep contexts. It is
// called when the new context is in place, and with Sync on disk. What cannot be removed
// stays: the next run tries again. Directories are not ours to count or to remove.
func (f *file) prune() {
	if f.spec.Keep == 0 {
		return
	}
	all, err := f.generations()
	if err != nil {
		return
	}
	all = slices.DeleteFunc(all, func(g generation) bool {
		st, err := f.sys.lstat(g.name)
		return err != nil || fileType(st) == unix.S_IFDIR
	})
	for _, g := range all[:max(0, len(all)-f.spec.Keep+1)] {
		f.unlink(g.name)
	}
}

// A Candidate is a file that may be a context, by its name.
type Candidate struct {
	Name     string // in its directory
	Base     string // Name, without the number of a backup
	Number   int    // of a backup, or 0
	Modified time.Time

	order time.Time // Modified, but not after that of the generation before
}

// Newest returns the regular files in a directory, except hidden ones, with the newest
// first, and opens none. Of one Base that is the file itself, and then the backup with the
// highest number: the order in which they were made, whatever has become of their times.
// Files that have nothing to do with one another are ordered by their times, and those of
// the same time by their names, the last one first.
//
// The error is OpOpenDir.
func Newest(dir string) ([]Candidate, error) {
	sys := &system{}
	fd, err := sys.open(dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, fail(OpOpenDir, dir, err)
	}
	defer sys.close(fd)
	names, err := sys.entries(fd)
	if err != nil {
		return nil, fail(OpOpenDir, dir, err)
	}
	families := make(map[string][]Candidate)
	for _, name := range names {
		st, err := sys.fstatat(fd, name)
		if err != nil || fileType(st) != unix.S_IFREG || name[0] == '.' {
			continue
		}
		c := Candidate{Name: name, Modified: time.Unix(st.Mtim.Unix())}
		var backup bool
		if c.Base, c.Number, backup = BackupNumber(name); !backup {
			c.Base = name
		}
		families[c.Base] = append(families[c.Base], c)
	}
	var all []Candidate
	for _, family := range families {
		slices.SortFunc(family, func(a, b Candidate) int { return cmp.Compare(b.age(), a.age()) })
		for i := range family {
			c := &family[i]
			if c.order = c.Modified; i > 0 && c.order.After(family[i-1].order) {
				c.order = family[i-1].order // it follows that one
			}
		}
		all = append(all, family...)
	}
	slices.SortFunc(all, func(a, b Candidate) int {
		return cmp.Or(b.order.Compare(a.order), cmp.Compare(b.Base, a.Base), cmp.Compare(b.age(), a.age()))
	})
	return all, nil
}

// age orders the generations of one file.
func (c Candidate) age() int {
	if c.Number == 0 {
		return maxGeneration + 1
	}
	return c.Number
}
