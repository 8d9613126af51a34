package ckpt

import "testing"

func TestRelocate(t *testing.T) {
	for _, test := range []struct{ name, old, new, want string }{
		{"/a/b", "/a", "/c", "/c/b"},
		{"/a", "/a", "/c", "/c"},
		{"/ab", "/a", "/c", "/ab"},
		{"/a/b", "/", "/c", "/c/a/b"},
		{"/", "/", "/c", "/c"},
		{"/a/b", "/a", "/", "/b"},
		{"/a", "/a", "/", "/"},
		{"/", "/a", "/c", "/"},
		{"/a/b", "/a/b/c", "/d", "/a/b"},
	} {
		if got := Relocate(test.name, []Relocation{{Old: test.old, New: test.new}}); got != test.want {
			t.Errorf("%s by %s=%s: %s, want %s", test.name, test.old, test.new, got, test.want)
		}
	}
	several := []Relocation{{Old: "/job/da", New: "/part"}, {Old: "/job/tree", New: "/bin/tree"}, {Old: "/job", New: "/home/job"}, {Old: "/", New: "/wrong"}}
	for name, want := range map[string]string{"/job/data": "/home/job/data", "/job/tree": "/bin/tree", "/job": "/home/job"} {
		if got := Relocate(name, several); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}
