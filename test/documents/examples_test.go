package documents

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestExamples: each job script is in docs/batch.md, and is run by test/batch, or else
// says that it has not been tried. The one of blcr-cli(7) is the one that is installed.
func TestExamples(t *testing.T) {
	read := func(pattern string) string {
		t.Helper()
		names, err := filepath.Glob(pattern)
		if err != nil || len(names) == 0 {
			t.Fatalf("%s: no such file (%v)", pattern, err)
		}
		var all strings.Builder
		for _, name := range names {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			all.Write(text)
		}
		return all.String()
	}
	tests, document := read("../batch/*_test.go"), read("../../docs/batch.md")
	names, _ := filepath.Glob("../../docs/examples/*")
	for _, name := range names {
		base := filepath.Base(name)
		if !strings.Contains(document, "(examples/"+base+")") {
			t.Errorf("%s is not in docs/batch.md", base)
		}
		if run, untried := strings.Contains(tests, `"`+base+`"`), strings.Contains(read(name), "# Untried:"); run == untried {
			t.Errorf("%s: run by test/batch: %t; says that it is untried: %t", base, run, untried)
		}
	}
	_, body, _ := strings.Cut(read("../../docs/examples/slurm-plain.sh"), "\n#SBATCH")
	if page := strings.ReplaceAll(read("../../man/blcr-cli.7"), `\e`, `\`); !strings.Contains(page, body) {
		t.Error("the job script of blcr-cli(7) is not docs/examples/slurm-plain.sh")
	}
}
