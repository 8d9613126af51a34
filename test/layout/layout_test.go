// Package layout holds the packages to their places: which of them may import
// which. CONTRIBUTING.md, "Source layout", says why.
package layout

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

const module = "blcr-cli/"

// rules are what must not be imported, directly or through others unless said
// otherwise. Packages are named as in the module; "x/..." is x and everything
// below it.
var rules = []struct {
	who    string
	direct bool // only the package's own imports count
	not    []string
	except []string
	why    string
}{
	{"cmd/...", true, []string{"internal/ckpt/kernel/...", "internal/ckpt/criu/..."},
		[]string{
			// The answer to signal 64 is part of the process, not of a request.
			"internal/ckpt/kernel/selfckpt",
			// cr_info reads contexts without an engine, except for --check.
			"internal/ckpt/criu/images", "internal/ckpt/criu/imagedir", "internal/ckpt/criu/inspect", "internal/ckpt/kernel/header",
		}, "a command chooses an engine by package engines and names none"},
	{"internal/ckpt/criu/inspect", false, []string{"internal/ckpt/engines", "internal/ckpt/kernel", "internal/ckpt/criu", "internal/ckpt/criu/stream", "internal/ckpt/criu/pstree", "internal/ckpt/criu/binary"},
		nil, "reading a context takes no engine"},
	{"internal/ckpt/kernel/...", false, []string{"internal/target", "internal/blcrevents", "internal/ftbclient/...", "internal/cli/...", "internal/ckpt/criu/..."},
		nil, "an engine knows neither where a context goes, nor events, nor command lines, nor another engine"},
	{"internal/ckpt/criu/...", false, []string{"internal/target", "internal/blcrevents", "internal/ftbclient/...", "internal/cli/...", "internal/ckpt/kernel", "internal/ckpt/kernel/abi"},
		nil, "an engine knows neither where a context goes, nor events, nor command lines, nor another engine"},
	{"internal/ckpt/criu/images", false, []string{"internal/ckpt/criu/stream", "internal/ckpt/criu/pstree", "internal/ctxfile"},
		nil, "images are bytes"},
	{"internal/ckpt/criu/pstree", false, []string{"internal/ckpt/criu/stream", "internal/ckpt/criu/images", "internal/ctxfile"},
		nil, "a tree of processes is neither criu nor images"},
	{"internal/ckpt/criu/stream", false, []string{"internal/ckpt/criu/images", "internal/ckpt/criu/pstree", "internal/ctxfile"},
		nil, "a running criu moves images that it does not know"},
	{"internal/ckpt", false, []string{"internal/ckpt/...", "internal/target", "internal/cli/..."},
		[]string{"internal/ckpt"}, "what a checkpoint is does not depend on an engine"},
	{"internal/ftbclient/...", false, []string{"internal/ckpt/...", "internal/blcrevents", "internal/cli/..."},
		nil, "the backplane does not know of checkpoints"},
	{"internal/cli/getopt", false, []string{"internal/..."}, []string{"internal/cli/getopt"}, "it knows nothing of ours"},
	{"internal/ftbclient/wire", false, []string{"internal/..."}, []string{"internal/ftbclient/wire"}, "it knows nothing of ours"},
	{"internal/ctxfile", false, []string{"internal/..."}, []string{"internal/ctxfile"}, "it knows nothing of ours"},
	{"internal/generations", false, []string{"internal/ckpt", "internal/ckpt/engines", "internal/ckpt/kernel", "internal/ckpt/criu/...", "internal/cli/..."},
		nil, "whether a context is good takes no engine and no request"},
	{"internal/target", false, []string{"internal/..."}, []string{"internal/target"}, "it knows nothing of ours"},
	{"cmd/...", false, []string{"test/..."}, nil, "only tests use these"},
}

// matches reports whether a package is one that a pattern names.
func matches(pattern, pkg string) bool {
	if dir, all := strings.CutSuffix(pattern, "/..."); all {
		return pkg == dir || strings.HasPrefix(pkg, dir+"/")
	}
	return pkg == pattern
}

func matchesAny(patterns []string, pkg string) bool {
	for _, pattern := range patterns {
		if matches(pattern, pkg) {
			return true
		}
	}
	return false
}

// imports returns the imports of every package of the module, those of the module
// only.
func imports(t *testing.T) map[string][]string {
	list := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, module+"...")
	text, err := list.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	graph := make(map[string][]string)
	for line := range strings.Lines(string(text)) {
		words := strings.Fields(line)
		pkg := strings.TrimPrefix(words[0], module)
		graph[pkg] = nil
		for _, name := range words[1:] {
			if ours, found := strings.CutPrefix(name, module); found {
				graph[pkg] = append(graph[pkg], ours)
			}
		}
	}
	return graph
}

// TestImports checks the rules.
func TestImports(t *testing.T) {
	graph := imports(t)
	for _, rule := range rules {
		known := false
		for pkg := range graph {
			if !matches(rule.who, pkg) {
				continue
			}
			known = true
			// Breadth first, so that the way that is shown is a short one.
			via := map[string]string{pkg: ""}
			for queue := []string{pkg}; len(queue) > 0; queue = queue[1:] {
				for _, imported := range graph[queue[0]] {
					if _, seen := via[imported]; seen {
						continue
					}
					via[imported] = queue[0]
					if !rule.direct {
						queue = append(queue, imported)
					}
					if matchesAny(rule.not, imported) && !matchesAny(rule.except, imported) {
						way := imported
						for p := queue[0]; p != ""; p = via[p] {
							way = p + " → " + way
						}
						t.Errorf("%s: %s", way, rule.why)
					}
				}
			}
		}
		if !known {
			t.Errorf("there is no package %s", rule.who)
		}
	}
}

// TestSourceLayout checks that CONTRIBUTING.md says of every package what belongs
// there.
func TestSourceLayout(t *testing.T) {
	text, err := os.ReadFile("../../CONTRIBUTING.md")
	if err != nil {
		t.Fatal(err)
	}
	for pkg := range imports(t) {
		if !strings.Contains(string(text), "`"+pkg+"`") && !strings.HasPrefix(pkg, "test/real/programs/") {
			t.Errorf("%s is not in CONTRIBUTING.md", pkg)
		}
	}
}
