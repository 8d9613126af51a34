// Package man_test checks the manual pages against one another, against the environment
// variables that the source reads, and against the list of differences.
package man_test

import (
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the differences from BLCR into blcr-cli.7")

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func pages(t *testing.T) []string {
	t.Helper()
	names, err := filepath.Glob("*.[1578]")
	if err != nil || len(names) < 5 {
		t.Fatalf("pages %q, %v", names, err)
	}
	return names
}

// TestSeeAlso: each page refers to all others, and to no page of ours that does not
// exist.
func TestSeeAlso(t *testing.T) {
	for _, page := range pages(t) {
		_, after, _ := strings.Cut(read(t, page), ".Sh SEE ALSO\n")
		section, _, _ := strings.Cut(after, ".Sh ")
		for _, other := range pages(t) {
			name, number := other[:len(other)-2], other[len(other)-1:]
			if other != page && !strings.Contains(section, ".Xr "+name+" "+number) {
				t.Errorf("%s: SEE ALSO lacks %s(%s)", page, name, number)
			}
		}
	}
	own := regexp.MustCompile(`\.Xr (cr_[a-z]+|ftb-[a-z]+|blcr-cli(?:-criu)?|blcr-context) ([0-9])`)
	for _, page := range pages(t) {
		for _, m := range own.FindAllStringSubmatch(read(t, page), -1) {
			if !slices.Contains(pages(t), m[1]+"."+m[2]) {
				t.Errorf("%s: no page %s(%s)", page, m[1], m[2])
			}
		}
	}
}

func TestSections(t *testing.T) {
	for _, page := range pages(t) {
		for _, section := range []string{"NAME", "DESCRIPTION", "EXIT STATUS", "EXAMPLES", "SEE ALSO"} {
			if strings.HasSuffix(page, ".5") && section == "EXIT STATUS" {
				continue // a file has none
			}
			if !strings.Contains(read(t, page), "\n.Sh "+section+"\n") {
				t.Errorf("%s: no %s", page, section)
			}
		}
	}
}

// TestEnvironment: blcr-cli.7 documents every variable that the commands read, and no
// others.
func TestEnvironment(t *testing.T) {
	used := map[string]bool{"TMPDIR": true} // by os.TempDir
	variable := regexp.MustCompile(`(?:Getenv|LookupEnv|lookup|setting)\("([A-Z][A-Z_]*)"\)|preload = "([A-Z_]+)"`)
	for _, root := range []string{"../cmd", "../internal"} {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go"):
				return nil
			}
			for _, m := range variable.FindAllStringSubmatch(read(t, path), -1) {
				// criu sets these for the programs that it starts.
				if name := m[1] + m[2]; !strings.HasPrefix(name, "CRTOOLS_") {
					used[name] = true
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	_, section, _ := strings.Cut(read(t, "blcr-cli.7"), ".Sh ENVIRONMENT\n")
	section, _, _ = strings.Cut(section, "\n.Sh ")
	for _, m := range regexp.MustCompile(`(?m)^\.It Ev (\S+)`).FindAllStringSubmatch(section, -1) {
		if !used[m[1]] {
			t.Errorf("%s: documented and not used", m[1])
		}
		delete(used, m[1])
	}
	for name := range used {
		t.Errorf("%s: used and not documented", name)
	}
}

// TestDifferences: blcr-cli.7 contains DIFFERENCES.md, word for word, for readers who
// have only the manual.
func TestDifferences(t *testing.T) {
	page, markdown := read(t, "blcr-cli.7"), read(t, "../DIFFERENCES.md")
	for _, construct := range []string{"```", "](", "\n|", "\n- ", "\n1.", "\n### ", "\n  * "} {
		if strings.Contains(markdown, construct) {
			t.Fatalf("DIFFERENCES.md has %q, which differences does not know", construct)
		}
	}
	head, _, _ := strings.Cut(page, begin)
	want := head + begin + differences(markdown)
	if *update {
		if err := os.WriteFile("blcr-cli.7", []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if page != want {
		t.Error("blcr-cli.7 does not have what DIFFERENCES.md has: make ledger")
	}
}

const begin = ".\\\" From here on made from DIFFERENCES.md by \"make ledger\"; not to be edited.\n"

// differences converts the Markdown of DIFFERENCES.md, which has headings, lists and
// paragraphs only, to mdoc(7).
func differences(markdown string) string {
	var b strings.Builder
	inList := false
	endList := func() {
		if inList {
			b.WriteString(".El\n")
		}
		inList = false
	}
	// Blank lines and bullets separate blocks.
	bullet := regexp.MustCompile(`\n(\* )`)
	for block := range strings.SplitSeq(bullet.ReplaceAllString(markdown, "\n\n$1"), "\n\n") {
		block = strings.Join(strings.Fields(block), " ")
		switch {
		case block == "":
		case strings.HasPrefix(block, "# "):
			b.WriteString(".Sh DIFFERENCES FROM BLCR\n")
		case strings.HasPrefix(block, "## "):
			endList()
			b.WriteString(".Ss " + block[3:] + "\n")
		case strings.HasPrefix(block, "* "):
			if !inList {
				b.WriteString(".Bl -bullet\n")
			}
			inList = true
			b.WriteString(".It\n" + inline(block[2:]))
		default:
			endList()
			if s := b.String(); !strings.HasSuffix(s, "BLCR\n") && !strings.Contains(s[strings.LastIndexByte(s[:len(s)-1], '\n')+1:], ".Ss ") {
				b.WriteString(".Pp\n")
			}
			b.WriteString(inline(block))
		}
	}
	endList()
	return b.String()
}

var (
	strong   = regexp.MustCompile(`\*\*(.+?)\*\*`)
	code     = regexp.MustCompile("`([^`]+)`")
	sentence = regexp.MustCompile(`([^ ][.?](?:\\fR|\\\(cq|\))?) ([A-Z(\\])`)
)

// inline converts a paragraph, with about one line for each sentence.
func inline(s string) string {
	s = strings.NewReplacer(`\`, `\e`, "…", `\[u2026]`).Replace(s)
	s = strong.ReplaceAllString(s, `\fB$1\fR`)
	s = code.ReplaceAllStringFunc(s, func(s string) string {
		s = strings.Trim(s, "`")
		if len(s) < 24 {
			s = strings.ReplaceAll(s, " ", `\~`)
		}
		return `\(oq` + s + `\(cq`
	})
	s = sentence.ReplaceAllString(s, "$1\n$2")
	var b strings.Builder
	for line := range strings.SplitSeq(s, "\n") {
		// Lines of roff must not be long, nor begin with a dot or a quote.
		column := 0
		for i, word := range strings.Fields(line) {
			if i > 0 && column+len(word) > 79 {
				b.WriteString("\n")
				column = 0
			} else if i > 0 {
				b.WriteString(" ")
			}
			if column == 0 && strings.ContainsAny(word[:1], ".'") {
				word = `\&` + word
			}
			b.WriteString(word)
			column += len(word) + 1
		}
		b.WriteString("\n")
	}
	return b.String()
}
