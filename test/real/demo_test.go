//go:build real

package real

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// TestDemo runs "make demo" and compares what it prints with what README shows of
// it, but for numbers, which differ from run to run.
func TestDemo(t *testing.T) {
	engine(t)
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	const first = "$ ./count >numbers & echo $!\n"
	var want strings.Builder
	for line := range strings.Lines(string(readme)) {
		line, indented := strings.CutPrefix(line, "    ")
		// On a terminal only.
		if indented && !strings.HasPrefix(line, "saved ") && (want.Len() > 0 || line == first) {
			want.WriteString(line)
		} else if !indented && want.Len() > 0 {
			break
		}
	}
	make := exec.Command("make", "-s", "--no-print-directory", "demo")
	make.Dir = "../.."
	make.Stdin = nil
	out, err := make.CombinedOutput()
	if err != nil {
		t.Fatalf("make demo: %v\n%s", err, out)
	}
	_, got, _ := strings.Cut(string(out), first)
	got = first + got
	plain := func(s string) string {
		return regexp.MustCompile(`\d+( \d+)*`).ReplaceAllString(s, "N")
	}
	if plain(got) != plain(want.String()) {
		t.Errorf("make demo prints\n%s\nREADME shows\n%s", got, want.String())
	}
}
