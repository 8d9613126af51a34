package images

import (
	"bytes"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"
)

func TestSavedList(t *testing.T) {
	files := []*SavedFile{
		{Name: "/a", Member: "file-1"},
		{Name: "/bin/x \"y\" \\ z", Size: 10, MTime: -5, Mode: 0o4755, UID: 4294967295, GID: 1, Shared: true, Member: "file-2", Data: []Extent{{0, 10}}},
		{Name: "/line\nfeed\r/\xff\xfe/ü\x01", Size: math.MaxInt64, MTime: math.MaxInt64, Mode: 0o7777, Member: "file-999999999",
			Data: []Extent{{0, 1}, {1, 1}, {4096, math.MaxInt64 - 4096}}},
		{Name: "/z (deleted)", Size: 5, Member: "file-2"},
	}
	list := EncodeSavedFiles(files)
	if lines := bytes.Count(list, []byte("\n")); lines != len(files)+1 {
		t.Errorf("%d lines:\n%s", lines, list)
	}
	got, err := ParseSavedFiles(list)
	if err != nil || !reflect.DeepEqual(got, files) {
		t.Errorf("%v, want\n%s\ngot\n%s", err, list, EncodeSavedFiles(got))
	}
	if got, err := ParseSavedFiles(EncodeSavedFiles(nil)); err != nil || len(got) != 0 {
		t.Errorf("the empty list: %v, %v", got, err)
	}
	// Cut off anywhere it is refused, or a list of fewer.
	for n := range list {
		if got, err := ParseSavedFiles(list[:n]); err == nil && list[n-1] != '\n' {
			t.Errorf("%d bytes of %d: %d files", n, len(list), len(got))
		}
	}
}

func TestSavedListHostile(t *testing.T) {
	for _, line := range []string{
		"",
		"\n",
		`/a 1 1 0644 0 0 private file-1`,
		"`/a` 1 1 0644 0 0 private file-1",
		`"" 1 1 0644 0 0 private file-1`,
		`"a" 1 1 0644 0 0 private file-1`,
		`"/" 1 1 0644 0 0 private file-1`,
		`"/a/" 1 1 0644 0 0 private file-1`,
		`"/a/.." 1 1 0644 0 0 private file-1`,
		`"/a/../b" 1 1 0644 0 0 private file-1`,
		`"/a//b" 1 1 0644 0 0 private file-1`,
		`"/a/." 1 1 0644 0 0 private file-1`,
		`"/a\x00b" 1 1 0644 0 0 private file-1`,
		`"/a"1 1 0644 0 0 private file-1`,
		`"/a"  1 1 0644 0 0 private file-1`,
		`"/a" 1 1 0644 0 0 private`,
		`"/a" -1 1 0644 0 0 private file-1`,
		`"/a" 9223372036854775808 1 0644 0 0 private file-1`,
		`"/a" 1 x 0644 0 0 private file-1`,
		`"/a" 1 1 0100644 0 0 private file-1`,
		`"/a" 1 1 0648 0 0 private file-1`,
		`"/a" 1 1 0644 -1 0 private file-1`,
		`"/a" 1 1 0644 0 4294967296 private file-1`,
		`"/a" 1 1 0644 0 0 both file-1`,
		`"/a" 1 1 0644 0 0 private pstree.img`,
		`"/a" 1 1 0644 0 0 private file-0`,
		`"/a" 1 1 0644 0 0 private file-`,
		`"/a" 1 1 0644 0 0 private ../file-1`,
		`"/a" 1 1 0644 0 0 private file-1/x`,
		`"/a" 1 1 0644 0 0 private file-1 `,
		`"/a" 1 1 0644 0 0 private file-1 0`,
		`"/a" 1 1 0644 0 0 private file-1 0+0`,
		`"/a" 1 1 0644 0 0 private file-1 0+2`,
		`"/a" 1 1 0644 0 0 private file-1 -1+1`,
		`"/a" 1 1 0644 0 0 private file-1 1+1`,
		`"/a" 9 1 0644 0 0 private file-1 4+2 3+1`,
		`"/a" 9 1 0644 0 0 private file-1 0+5 4+1`,
		`"/a" 9 1 0644 0 0 private file-1 1+9223372036854775807`,
	} {
		if line != "" {
			line += "\n"
		}
		if got, err := ParseSavedFiles([]byte(savedFilesHeader + "\"/good\" 0 0 0644 0 0 private file-1\n" + line)); line != "" && !errors.Is(err, ErrSavedFiles) {
			t.Errorf("%q: %v, %+v", line, err, got[len(got)-1])
		}
	}
	for _, list := range []string{"", "x", strings.TrimSuffix(savedFilesHeader, "\n"), "blcr-cli saved files 2\n"} {
		if _, err := ParseSavedFiles([]byte(list)); !errors.Is(err, ErrSavedFiles) {
			t.Errorf("%q: %v", list, err)
		}
	}
}

func FuzzSavedList(f *testing.F) {
	f.Add(savedFilesHeader + "\"/a\" 10 1 0644 0 0 private file-1 0+5 6+4\n")
	f.Fuzz(func(t *testing.T, list string) {
		files, err := ParseSavedFiles([]byte(list))
		if err != nil {
			return
		}
		again, err := ParseSavedFiles(EncodeSavedFiles(files))
		if err != nil || !reflect.DeepEqual(files, again) {
			t.Errorf("%q: %v, %v", list, err, again)
		}
	})
}
