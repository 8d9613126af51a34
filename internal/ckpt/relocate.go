package ckpt

import "strings"

// Relocate returns name after the first of relocations that matches it.
func Relocate(name string, relocations []Relocation) string {
	for _, r := range relocations {
		rest, ok := strings.CutPrefix(name, strings.TrimSuffix(r.Old, "/"))
		if !ok || rest != "" && rest[0] != '/' {
			continue
		}
		if rest == "/" { // name is "/"
			rest = ""
		}
		if name = strings.TrimSuffix(r.New, "/") + rest; name == "" {
			return "/"
		}
		return name
	}
	return name
}
