package images

import (
	"fmt"
	"strconv"
	"strings"
)

// A file on a mount of another mount namespace is external to CRIU, which knows it by
// mount and inode alone. Its name is in the member ElsewhereName: on each line the
// number of a mount and an inode, both in hexadecimal, and a name in double quotes.

// ExternalFile returns the name by which CRIU knows such a file: in its option
// --external, and in files.img.
func ExternalFile(mount int, inode uint64) string { return fmt.Sprintf("file[%x:%x]", mount, inode) }

// AppendElsewhere appends a line to the member ElsewhereName.
func AppendElsewhere(text []byte, mount int, inode uint64, name string) []byte {
	return fmt.Appendf(text, "%x:%x %s\n", mount, inode, strconv.Quote(name))
}

// ParseElsewhere reads the member, which anyone may have made: names by ExternalFile.
// Lines that are not as they should be are left out.
func ParseElsewhere(text []byte) map[string]string {
	names := make(map[string]string)
	for line := range strings.Lines(string(text)) {
		id, quoted, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		if name, err := strconv.Unquote(quoted); err == nil && strings.HasPrefix(name, "/") && !strings.ContainsRune(name, 0) {
			names["file["+id+"]"] = name
		}
	}
	return names
}

// NameExternal changes files.img so that external files with a name in names are
// opened by that.
func NameExternal(files []byte, names map[string]string) ([]byte, error) {
	return rewriteReg(files, func(f File, reg message) message {
		name := names[f.Name]
		if name == "" || reg.u64(regExternal) == 0 {
			return nil
		}
		return reg.without(regExternal, regExternal).without(regMount, regMount).put(bytesField(regName, []byte(name)))
	})
}
