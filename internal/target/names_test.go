package target

import (
	"errors"
	"strings"
	"syscall"
	"testing"
)

func TestNames(t *testing.T) {
	for _, tt := range []struct {
		spec Spec
		want Names
	}{
		{Spec{Path: "context.51"}, Names{"./.context.51.tmp", ".", "context.51"}},
		{Spec{Path: "context.51", Policy: Backup}, Names{"./.context.51.tmp", ".", "context.51"}},
		{Spec{Path: "context.51", Policy: Clobber}, Names{"context.51", ".", ""}},
		{Spec{Path: "a/b", Policy: NoClobber}, Names{"a/b", "a", ""}},
		{Spec{Path: "/tmp"}, Names{"//.tmp.tmp", "/", "/tmp"}},
		{Spec{Path: "/nope/x"}, Names{"/nope/.x.tmp", "/nope", "/nope/x"}},
		{Spec{Path: "a//b//"}, Names{"a/.b.tmp", "a", "a//b//"}},
		{Spec{Path: "./a/../b"}, Names{"./a/../.b.tmp", "./a/..", "./a/../b"}},
		{Spec{Path: ""}, Names{"./...tmp", ".", ""}},
		{Spec{Path: "/"}, Names{"//./.tmp", "/", "/"}},
	} {
		if got := tt.spec.Names(); got != tt.want {
			t.Errorf("%+v: %+v, want %+v", tt.spec, got, tt.want)
		}
	}
}

// The expected values are glibc's.
func TestLibgen(t *testing.T) {
	for _, tt := range []struct{ path, dir, base string }{
		{"", ".", "."},
		{"/", "/", "/"},
		{"//", "//", "/"},
		{"///", "/", "/"},
		{"a", ".", "a"},
		{"a/", ".", "a"},
		{"a//", ".", "a"},
		{"/a", "/", "a"},
		{"/a/", "/", "a"},
		{"//a", "//", "a"},
		{"//a/", "//", "a"},
		{"///a", "/", "a"},
		{"a/b", "a", "b"},
		{"a/b/", "a", "b"},
		{"a//b", "a", "b"},
		{"a//b//", "a", "b"},
		{"/a/b", "/a", "b"},
		{"//a/b", "//a", "b"},
		{"///a/b", "///a", "b"},
		{".", ".", "."},
		{"..", ".", ".."},
		{"../a", "..", "a"},
		{"a/.", "a", "."},
	} {
		if dir, base := dirname(tt.path), basename(tt.path); dir != tt.dir || base != tt.base {
			t.Errorf("%q: %q and %q, want %q and %q", tt.path, dir, base, tt.dir, tt.base)
		}
	}
}

func TestError(t *testing.T) {
	err := failRename("a", "", syscall.EISDIR)
	if !errors.Is(err, syscall.EISDIR) {
		t.Error("the Errno is not found by errors.Is")
	}
	if got := err.Error(); !strings.HasPrefix(got, "rename a to : ") {
		t.Errorf("got %q", got)
	}
	if got := fail(OpOpenDir, "d", syscall.EACCES).Error(); !strings.HasPrefix(got, "open directory d: ") {
		t.Errorf("got %q", got)
	}
}
