package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for _, test := range []struct {
		line    string
		wanted  option
		library string
		program string
	}{
		{"", 0, libRun, ""},
		{"prog -x --omit", 0, libRun, "prog -x --omit"},
		{"--run prog", 0, libRun, "prog"},
		{"--omit prog", 0, libOmit, "prog"},
		{"--omit", 0, libOmit, ""},
		{"--omit --run prog", 0, libRun, "prog"},
		{"--run --omit prog", 0, libOmit, "prog"},
		{"--omit -- --run", 0, libOmit, "--run"},
		{"-- --", 0, libRun, "--"},
		{"--", 0, libRun, ""},
		{"--help prog", optHelp, libRun, ""},
		{"-? --version", optHelp, libRun, ""},
		{"--omit --version --help", optVersion, libOmit, ""},
		{"prog --help", 0, libRun, "prog --help"},
		// Abbreviations, clusters and arguments of options are taken for programs.
		{"--omi prog", 0, libRun, "--omi prog"},
		{"--omit=1 prog", 0, libRun, "--omit=1 prog"},
		{"-h", 0, libRun, "-h"},
		{"-?v", 0, libRun, "-?v"},
		{"- --omit", 0, libRun, "- --omit"},
	} {
		s := parse(strings.Fields(test.line))
		if s.wanted != test.wanted || s.library != test.library || strings.Join(s.program, " ") != test.program {
			t.Errorf("%q: %+v", test.line, s)
		}
	}
	if s := parse([]string{"", "--omit"}); len(s.program) != 2 {
		t.Errorf("an empty word is no option, and is the program: %+v", s)
	}
}

func TestPreloaded(t *testing.T) {
	for old, want := range map[string]string{
		"":                  "L",
		":":                 "L",
		"a.so":              "L:a.so",
		":a.so::/b/c.so:":   "L:a.so:/b/c.so",
		"libcr_run.so.0":    "L",
		"/x/libcr_run.so":   "L",
		"a:libcr_omit.so.0": "L:a",
		"/p/libcr_omit.so.0.5.5:/p/libcr_run.so.0:z": "L:z",
		// Names that only resemble the libraries stay.
		"libcr.so.0:mylibcr_run.so:/libcr_run.so/x": "L:libcr.so.0:mylibcr_run.so:/libcr_run.so/x",
		"a.so b.so": "L:a.so b.so",
	} {
		if got := preloaded("L", old); got != want {
			t.Errorf("%q: %q, want %q", old, got, want)
		}
	}
}

// TestElement puts the library in every place where it may be.
func TestElement(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	for _, d := range []string{"empty", "with", "fake", "one/lib64", "one/lib", "two/lib", "odd:one/lib"} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range []string{"with", "one/lib64", "one/lib", "two/lib", "odd:one/lib"} {
		write(t, filepath.Join(f, libRun), "")
	}
	write(t, "cache-with", "junk\x00"+libRun+"\x00"+dir+"/empty/"+libRun+"\x00"+dir+"/with/"+libRun+"\x00more")
	write(t, "cache-stale", libRun+"\x00"+dir+"/empty/"+libRun+"\x00")
	write(t, "cache-longer", dir+"/with/"+libRun+".1\x00"+dir+"/with/"+libRun)
	for name, test := range map[string]struct {
		loader
		want string
	}{
		"nowhere":                {loader{}, ""},
		"no directories":         {loader{path: "nosuch:empty", cache: "nosuch", dirs: []string{"nosuch", "empty"}, prefix: "nosuch"}, ""},
		"LD_LIBRARY_PATH":        {loader{path: "with"}, libRun},
		"LD_LIBRARY_PATH, later": {loader{path: dir + "/empty;" + dir + "/with"}, libRun},
		"the cache":              {loader{cache: "cache-with"}, libRun},
		"a stale cache":          {loader{cache: "cache-stale"}, ""},
		"another name":           {loader{cache: "cache-longer"}, ""},
		"a default directory":    {loader{dirs: []string{"empty", "with"}}, libRun},
		"the prefix, 64 bits":    {loader{prefix: dir + "/one"}, dir + "/one/lib64/" + libRun},
		"the prefix":             {loader{prefix: dir + "/two"}, dir + "/two/lib/" + libRun},
		"elsewhere first":        {loader{path: "with", prefix: dir + "/two"}, libRun},
		"a path of two elements": {loader{prefix: dir + "/odd:one"}, ""},
	} {
		if got := test.loader.element(libRun); got != test.want {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
		if got := test.loader.element(libOmit); got != "" {
			t.Errorf("%s: %s is %q", name, libOmit, got)
		}
	}
	t.Chdir("with")
	for _, path := range []string{":", "x:", ":x", "x::y", "x;;y"} {
		if got := (&loader{path: path}).element(libRun); got != libRun {
			t.Errorf("the working directory in %q is passed over", path)
		}
	}
}

func TestCandidates(t *testing.T) {
	for _, test := range []struct{ program, path, want string }{
		{"a", "/x:y", "/x/a y/a"},
		{"a", "", "./a"},
		{"a", ":/x:", "./a /x/a ./a"},
		{"./a", "/x", "./a"},
		{"/", "/x", "/"},
		{"", "/x", ""},
		{"-a", "", "./-a"},
	} {
		if got := candidates(test.program, test.path); !slices.Equal(got, strings.Fields(test.want)) {
			t.Errorf("%q in %q: %q, want %q", test.program, test.path, got, test.want)
		}
	}
}

func TestIsText(t *testing.T) {
	t.Chdir(t.TempDir())
	for content, want := range map[string]bool{
		"":                        true,
		"echo\n":                  true,
		"echo\n\x00":              true,
		"\x7fELF\x02\x01\x01\x00": false,
		"ec\x00ho\n":              false,
	} {
		write(t, "f", content)
		if got := isText("f"); got != want {
			t.Errorf("%q: %t", content, got)
		}
	}
}

func write(t *testing.T, name, content string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}
