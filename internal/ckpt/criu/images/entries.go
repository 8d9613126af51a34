package images

import "strings"

// Images that are nothing but entries, and of which little or nothing is read here.
var (
	onlyEntries         = set("apparmor cgroup cpuinfo filelocks memfd remap-fpath seccomp tty-info")
	onlyEntriesNumbered = set("mountpoints pidns timens userns utsns")
)

// OnlyEntries reports whether CheckEntries is for the image of that name.
func OnlyEntries(name string) bool {
	name, ok := strings.CutSuffix(name, ".img")
	kind, _, numbered := strings.Cut(name, "-")
	return ok && (onlyEntries[name] || numbered && onlyEntriesNumbered[kind])
}

// CheckEntries looks for an end that is missing. The result is a value without meaning.
func CheckEntries(img []byte) (ok bool, err error) {
	if len(img) < 8 {
		return false, ErrTruncated // in the magic numbers
	}
	for b := img[8:]; len(b) > 0; {
		p, err := payload(b)
		if err != nil {
			return false, err
		}
		b = b[4+len(p):]
	}
	return true, nil
}
