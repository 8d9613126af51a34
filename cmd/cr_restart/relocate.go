package main

import (
	"fmt"
	"strings"

	"blcr-cli/internal/ckpt"
)

// appendRelocation adds the argument of one --relocate, OLD=NEW, to the list.
// A relocation to the same path is left out.
func appendRelocation(list []ckpt.Relocation, arg string) ([]ckpt.Relocation, error) {
	if len(list) >= ckpt.MaxRelocations {
		return nil, badArgument(fmt.Sprintf("Too many relocations (max is %d).", ckpt.MaxRelocations))
	}
	paths := splitUnescaped(arg)
	switch {
	case len(paths) < 2:
		return nil, badArgument(fmt.Sprintf("Relocation argument '%s' contains no unescaped '=' characters.", arg))
	case len(paths) > 2:
		return nil, badArgument(fmt.Sprintf("Relocation argument '%s' contains multiple unescaped '=' characters.", arg))
	}
	for _, path := range paths {
		if !strings.HasPrefix(path, "/") {
			return nil, badArgument(fmt.Sprintf("Relocation paths must begin with '/', but have '%s'", arg))
		}
	}
	r := ckpt.Relocation{Old: trimSlashes(paths[0]), New: trimSlashes(paths[1])}
	if r.Old == r.New {
		return list, nil
	}
	return append(list, r), nil
}

// splitUnescaped splits arg at every '=' without a backslash before it, and turns \=
// into = and \\ into \. Any other backslash is an ordinary character.
func splitUnescaped(arg string) []string {
	var parts []string
	var part []byte
	for i := 0; i < len(arg); i++ {
		switch c := arg[i]; {
		case c == '\\' && i+1 < len(arg) && (arg[i+1] == '\\' || arg[i+1] == '='):
			i++
			part = append(part, arg[i])
		case c == '=':
			parts = append(parts, string(part))
			part = nil
		default:
			part = append(part, c)
		}
	}
	return append(parts, string(part))
}

// trimSlashes removes slashes from the end of an absolute path, except the first
// character.
func trimSlashes(path string) string {
	return "/" + strings.TrimRight(path[1:], "/")
}
