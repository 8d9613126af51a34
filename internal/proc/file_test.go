package proc

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestLimits: the beginning of a file that is longer than the limit is returned,
// and all of one that is as long.
func TestLimits(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	for _, size := range []int{0, 1, 4095, 4096, 4097, 9999, 10000, 10001, 99999} {
		text := bytes.Repeat([]byte("0123456789"), size/10+1)[:size]
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		for _, record := range []bool{false, true} {
			got, err := readFile(path, 10000, record)
			if err != nil || !bytes.Equal(got, text[:min(size, 10000)]) {
				t.Errorf("of %d bytes it reads %d, %v", size, len(got), err)
			}
		}
	}
	if _, err := readAll(path+".missing", 1); !os.IsNotExist(err) {
		t.Errorf("without a file: %v", err)
	}
}

// TestLongCommandLine: a process that makes its command line long costs no more
// memory than the limit.
func TestLongCommandLine(t *testing.T) {
	args := []string{"-c", "read line", "sh"}
	for range 20 {
		args = append(args, strings.Repeat("x", 100<<10))
	}
	cmd := exec.Command("/bin/sh", args...)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer stdin.Close()
	pid := cmd.Process.Pid
	// In the middle of an exec the new program has no arguments yet.
	var got []string
	for deadline := time.Now().Add(time.Minute); len(got) < 4 || got[0] != "/bin/sh"; got = CommandLine(pid) {
		if time.Now().After(deadline) {
			t.Fatalf("it does not become a shell; its command line is %.100q", got)
		}
		time.Sleep(time.Millisecond)
	}
	length := 0
	for _, arg := range got {
		length += len(arg) + 1
	}
	if got[3] != args[2] || length > mostArguments+1 || length < mostArguments/2 {
		t.Errorf("%d arguments of %d bytes", len(got), length)
	}
}

func TestThreadChildren(t *testing.T) {
	cmd := exec.Command("/bin/cat")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer stdin.Close()
	all, err := Children(os.Getpid())
	if err != nil || !slices.Contains(all, cmd.Process.Pid) {
		t.Errorf("the children are %v, %v; want %d among them", all, err, cmd.Process.Pid)
	}
	tree, err := Descend(os.Getpid())
	if err != nil || tree[0] != os.Getpid() || !slices.Contains(tree, cmd.Process.Pid) {
		t.Errorf("the tree is %v, %v; want %d and %d in it", tree, err, os.Getpid(), cmd.Process.Pid)
	}
}

// allowed are the mentions of /proc outside of this package, by file. Those of what
// concerns no process are not listed.
var allowed = map[string][]string{
	"internal/ckpt/criu/destination.go":      {"/proc/self/fd/3"},                 // an argument of criu's
	"internal/ckpt/criu/restart.go":          {"/proc/self/fd/%d"},                // likewise
	"internal/ckpt/criu/binary/kerndat.go":   {"/proc/self/fd/%d"},                // where a link for criu leads to
	"internal/ckpt/criu/pstree/namespace.go": {"/proc/%d/ns/%s", "/proc/%d/root"}, // to enter them
	"internal/ckpt/criu/ghosts/ghosts.go":    {"/proc/self/fd/%d/%s"},             // the name of a socket in an open directory, for connect(2)
	"internal/ctxfile/output.go":             {"/proc/self/fd/%d"},                // of an open file, to read what was written; the package imports none of ours
	"internal/target/sys.go":                 {"/proc/self/fd/"},                  // the name of an open file; the package imports none of ours
}

// ofProcess is a path below /proc of a process's.
var ofProcess = regexp.MustCompile(`/proc/(self|thread-self|[0-9%]|\[|$)`)

// TestOnlyReader: no other package of the commands reads /proc.
func TestOnlyReader(t *testing.T) {
	const top = "../.."
	used := make(map[string]bool)
	for _, dir := range []string{"cmd", "internal"} {
		err := filepath.WalkDir(filepath.Join(top, dir), func(path string, d fs.DirEntry, err error) error {
			name, _ := filepath.Rel(top, path)
			if err == nil && d.IsDir() && name == "internal/proc" {
				return fs.SkipDir
			}
			if err != nil {
				return err
			}
			if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
				return nil
			}
			source, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
			if err != nil {
				return err
			}
			ast.Inspect(source, func(n ast.Node) bool {
				literal, ok := n.(*ast.BasicLit)
				if !ok || literal.Kind != token.STRING {
					return true
				}
				text, _ := strconv.Unquote(literal.Value)
				switch {
				case !ofProcess.MatchString(text):
				case slices.Contains(allowed[name], text):
					used[name+" "+text] = true
				default:
					t.Errorf("%s mentions %q: package proc reads /proc for all", name, text)
				}
				return true
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, texts := range allowed {
		for _, text := range texts {
			if !used[name+" "+text] {
				t.Errorf("%s does not mention %q any more", name, text)
			}
		}
	}
}
