package binary

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestLearnKerndat: what a criu has found out is remembered with its answer, and asked for
// once.
func TestLearnKerndat(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "criu")
	fake(t, path, works)
	const cache = "\x00any\nbytes\nend\n"
	learnt := 0
	s := &search{dirs: []string{dir}, answers: answersIn(t), learnKerndat: func(name string) string {
		learnt++
		if name != path {
			t.Errorf("asked of %s", name)
		}
		return cache
	}}
	for range 2 {
		if b, err := s.find(); err != nil || b.kerndat != cache {
			t.Errorf("got %+v, %v", b, err)
		}
	}
	if learnt != 1 {
		t.Errorf("it was asked %d times", learnt)
	}
	checkRuns(t, path, "check", "--version")
	// Without a place for answers it would take longer than what it saves.
	s.answers = nil
	if b, err := s.find(); err != nil || b.kerndat != "" || learnt != 1 {
		t.Errorf("got %+v, %v, asked %d times", b, err, learnt)
	}
}

// TestRuntimeDir: an unprivileged criu gets a directory of its own, which is there before
// it is asked.
func TestRuntimeDir(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "criu")
	fake(t, path, `[ -z "$XDG_RUNTIME_DIR" ] || [ -d "$XDG_RUNTIME_DIR" ] || exit 1`)
	t.Setenv("XDG_RUNTIME_DIR", "/none")
	s := &search{dirs: []string{dir}, answers: answersIn(t), unprivileged: true}
	b, err := s.find()
	if err != nil {
		t.Fatal(err)
	}
	env := b.Environment()
	if filepath.Dir(b.runtimeDir) != s.answers.dir || env[len(env)-1] != "XDG_RUNTIME_DIR="+b.runtimeDir {
		t.Errorf("%q is beside %s, in the environment %q", b.runtimeDir, s.answers.dir, env)
	}
	if again, err := s.find(); err != nil || *again != *b {
		t.Errorf("then %+v, %v", again, err)
	}
	// Where others may write there is none.
	if err := os.Chmod(s.answers.dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if unsafe, err := s.find(); err != nil || unsafe.runtimeDir != "" {
		t.Errorf("where others may write %+v, %v", unsafe, err)
	}
	if err := os.Chmod(s.answers.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	// Another one gets another.
	fake(t, path, works+" true")
	if other, err := s.find(); err != nil || other.runtimeDir == b.runtimeDir {
		t.Errorf("for another one %+v, %v", other, err)
	}
}

// TestLendKerndat: a program that is started meanwhile finds the cache, none that is started
// later does, and what is in its place already stays there.
func TestLendKerndat(t *testing.T) {
	defer func(was string) { runDir = was }(runDir)
	runDir = t.TempDir()
	path := filepath.Join(runDir, kerndatName)
	b := Binary{kerndat: "some\x00bytes", kerndatLock: filepath.Join(t.TempDir(), "lock")}
	read := func() (text string) {
		out, _ := exec.Command("cat", path).Output()
		return string(out)
	}
	begin := func(b Binary) (text string, end func()) {
		end = b.LendKerndat(func() { text = read() })
		return text, end
	}
	if got, end := begin(Binary{}); got != "" || !gone(path) {
		t.Errorf("without a cache: read %q", got)
	} else {
		end()
	}
	got, end := begin(b)
	if got != b.kerndat {
		t.Errorf("read %q", got)
	}
	if got := read(); got != "" {
		t.Errorf("one that is not lent it reads %q", got)
	}
	got, second := begin(b)
	if got != b.kerndat {
		t.Errorf("at the same time: read %q", got)
	}
	end()
	if gone(path) {
		t.Error("the first one that ends removes it")
	}
	second()
	if !gone(path) {
		t.Errorf("%s is left", path)
	}
	if err := os.WriteFile(path, []byte("criu's own"), 0o600); err != nil {
		t.Fatal(err)
	}
	got, end = begin(b)
	end()
	if got != "criu's own" || gone(path) {
		t.Errorf("a file of criu's: read %q, gone %v", got, gone(path))
	}
}

// gone reports whether there is nothing of that name.
func gone(path string) bool {
	_, err := os.Lstat(path)
	return os.IsNotExist(err)
}
