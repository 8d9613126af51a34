package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"blcr-cli/internal/ckpt"
)

func TestRelocation(t *testing.T) {
	for _, c := range []struct{ arg, old, new string }{
		{"/a=/b", "/a", "/b"},
		{"/a/b=/c/d", "/a/b", "/c/d"},
		{"/=/b", "/", "/b"},
		{"/a=/", "/a", "/"},

		// Slashes at the end are removed, except that of the root.
		{"/a/=/b", "/a", "/b"},
		{"/a///=/b//", "/a", "/b"},
		{"///=/b", "/", "/b"},
		{"/a//b/=/c", "/a//b", "/c"},
		{"//a=/b", "//a", "/b"},

		// Escapes.
		{`/a\=b=/c`, "/a=b", "/c"},
		{`/a=/b\=c`, "/a", "/b=c"},
		{`/a\\=/b`, `/a\`, "/b"},
		{`/a\\\==/b`, `/a\=`, "/b"},
		{`/a=/b\\`, "/a", `/b\`},
		{`/a=/b\`, "/a", `/b\`},       // nothing follows
		{`/a\b=/c\n`, `/a\b`, `/c\n`}, // no escape
		{`/a\/=/b`, `/a\`, "/b"},      // an escape of nothing, and a slash at the end
		{`/\==/\\`, "/=", `/\`},

		{"/a b=/c\td", "/a b", "/c\td"},
		{"/\xff=/é", "/\xff", "/é"},
		{"/a=/a/b", "/a", "/a/b"},
	} {
		got, err := appendRelocation(nil, c.arg)
		if want := []ckpt.Relocation{{Old: c.old, New: c.new}}; err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %q, %v; want %q", c.arg, got, err, want)
		}
	}
}

// TestRelocationIdentity: a relocation to the same path is left out.
func TestRelocationIdentity(t *testing.T) {
	before := []ckpt.Relocation{{Old: "/x", New: "/y"}}
	for _, arg := range []string{"/a=/a", "/=/", "/a/=/a", `/a\==/a\=/`, "//=/"} {
		got, err := appendRelocation(before, arg)
		if err != nil || !slices.Equal(got, before) {
			t.Errorf("%s: %q, %v; want it dropped", arg, got, err)
		}
	}
}

func TestRelocationErrors(t *testing.T) {
	const (
		none     = "Relocation argument '%s' contains no unescaped '=' characters."
		multiple = "Relocation argument '%s' contains multiple unescaped '=' characters."
		relative = "Relocation paths must begin with '/', but have '%s'"
	)
	for _, c := range []struct{ arg, message string }{
		{"", none},
		{"/a", none},
		{`/a\=/b`, none},
		{`/a\\\=/b`, none},
		{"/a=/b=/c", multiple},
		{"/a==/b", multiple},
		{"==", multiple},
		{`/a\\==/b`, multiple},
		{"a=b=c", multiple},
		{"=", relative},
		{"/a=", relative},
		{"=/b", relative},
		{"a=/b", relative},
		{"/a=b", relative},
		{`\=a=/b`, relative},
		{" /a=/b", relative},
	} {
		got, err := appendRelocation([]ckpt.Relocation{{Old: "/x", New: "/y"}}, c.arg)
		if got != nil {
			t.Errorf("%s: %q besides the error", c.arg, got)
		}
		checkRelocationError(t, c.arg, err, fmt.Sprintf(c.message, c.arg))
	}
}

// checkRelocationError compares the message of an error; all have the same status and
// hook.
func checkRelocationError(t *testing.T, arg string, err error, message string) {
	t.Helper()
	var f *failure
	if !errors.As(err, &f) {
		t.Errorf("%s: error %v, want %q", arg, err, message)
		return
	}
	if f.message != message || f.status != 22 || f.class != failArgs {
		t.Errorf("%s: %q, status %d, class %d; want %q, status 22, class %d", arg, f.message, f.status, f.class, message, failArgs)
	}
}

// TestRelocationCount: 16 relocations are accepted, in order, and not 17. Those that
// are left out do not count.
func TestRelocationCount(t *testing.T) {
	var list, want []ckpt.Relocation
	for i := range 16 {
		old := fmt.Sprintf("/old%d", i)
		var err error
		if list, err = appendRelocation(list, old+"=/new"); err != nil {
			t.Fatalf("number %d: %v", i+1, err)
		}
		if i < 15 {
			if list, err = appendRelocation(list, "/same=/same"); err != nil {
				t.Fatalf("after number %d: %v", i+1, err)
			}
		}
		want = append(want, ckpt.Relocation{Old: old, New: "/new"})
	}
	if !slices.Equal(list, want) {
		t.Errorf("%q, want %q", list, want)
	}
	_, err := appendRelocation(list, "/a=/b")
	checkRelocationError(t, "number 17", err, "Too many relocations (max is 16).")
}

// TestRelocationLong: the length of a path is not limited here.
func TestRelocationLong(t *testing.T) {
	long := "/" + strings.Repeat("x", 10_000)
	got, err := appendRelocation(nil, long+"=/y")
	if err != nil || len(got) != 1 || got[0].Old != long {
		t.Errorf("%d relocations, %v", len(got), err)
	}
}
