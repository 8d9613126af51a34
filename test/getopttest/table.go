package getopttest

import (
	"fmt"
	"slices"
	"strings"

	"blcr-cli/internal/cli/getopt"
)

// Names returns an option's names as they are typed, the short one first: "-f",
// "--file".
func Names(o getopt.Option) []string {
	var names []string
	if o.Short != 0 {
		names = append(names, string([]byte{'-', o.Short})) // string(o.Short) would turn a byte above 0x7F into two
	}
	for _, long := range o.Long {
		names = append(names, "--"+long)
	}
	return names
}

// Lookup finds an option by one of its names, typed in full.
func Lookup(table getopt.Table, name string) (getopt.Option, bool) {
	i := slices.IndexFunc(table, func(o getopt.Option) bool { return slices.Contains(Names(o), name) })
	if i < 0 {
		return getopt.Option{}, false
	}
	return table[i], true
}

// Check returns the errors of a table: rows without a name, names given twice, short
// names other than ASCII letters and digits (other characters have a meaning in a C
// option string, and getopt itself uses '?'), long names that cannot be typed, and
// Exact names that would change the meaning of another row's abbreviation. A
// [getopt.Parser] does not panic with any table, checked or not.
func Check(table getopt.Table) error {
	seen := map[string]bool{}
	loose := withoutExact(table)
	for i, o := range table {
		if o.Short == 0 && len(o.Long) == 0 {
			return fmt.Errorf("row %d: no name", i)
		}
		if o.Arg < getopt.NoArgument || o.Arg > getopt.OptionalArgument {
			return fmt.Errorf("row %d: Arg is %d", i, o.Arg)
		}
		if o.Short != 0 && !isAlnum(o.Short) {
			return fmt.Errorf("row %d: short name %q is neither a letter nor a digit", i, o.Short)
		}
		for _, long := range o.Long {
			if long == "" || long[0] == '-' || strings.ContainsAny(long, "=\x00") {
				return fmt.Errorf("row %d: long name %q cannot be typed", i, long)
			}
			if !o.Exact {
				continue
			}
			// An exact match wins, so this name, which was an abbreviation
			// without this row, would change its meaning.
			if full := meaning(loose, "--"+long); full != "" && full != "--"+long {
				return fmt.Errorf("row %d: Exact name --%s abbreviates %s", i, long, full)
			}
		}
		for _, name := range Names(o) {
			if seen[name] {
				return fmt.Errorf("row %d: %s is in the table twice", i, name)
			}
			seen[name] = true
		}
	}
	return nil
}

// meaning returns the full name of the option that is typed, "" if there is none.
func meaning(table getopt.Table, typed string) string {
	for m, err := range getopt.New(table, []string{typed}, false).Options() {
		if err != nil {
			return err.Name
		}
		return m.Name
	}
	return ""
}

func isAlnum(c byte) bool {
	return '0' <= c && c <= '9' || 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z'
}
