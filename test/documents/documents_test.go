// Package documents checks the Markdown files of the repository: links lead to files and
// headings that exist, and the README is as short as it is meant to be. Manual pages are
// checked in man, and tables of options in getopttest.
package documents

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"
)

const root = "../.."

// documents returns the Markdown files, by their names from the root.
func documents(t *testing.T) map[string]string {
	t.Helper()
	texts := make(map[string]string)
	for _, pattern := range []string{"*.md", "docs/*.md"} {
		names, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil || len(names) == 0 {
			t.Fatalf("%s: %q, %v", pattern, names, err)
		}
		for _, name := range names {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			short, _ := filepath.Rel(root, name)
			texts[short] = string(text)
		}
	}
	return texts
}

var (
	link    = regexp.MustCompile(`\[[^]]*\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ +(.*)$`)
	block   = regexp.MustCompile("(?ms)^```.*?^```$|^    [^\n]*$")
)

// anchors returns the anchors that the headings of a document get where it is shown.
func anchors(text string) map[string]bool {
	found := make(map[string]bool)
	for _, m := range heading.FindAllStringSubmatch(text, -1) {
		var b strings.Builder
		for _, r := range strings.ToLower(m[1]) {
			switch {
			case r == ' ':
				b.WriteByte('-')
			case unicode.IsLetter(r) || unicode.IsDigit(r) || r == '-' || r == '_':
				b.WriteRune(r)
			}
		}
		found[b.String()] = true
	}
	return found
}

func TestLinks(t *testing.T) {
	texts := documents(t)
	for name, text := range texts {
		for _, m := range link.FindAllStringSubmatch(block.ReplaceAllString(text, ""), -1) {
			if strings.HasPrefix(m[1], "https://") {
				continue // no test needs the network
			}
			file, anchor, _ := strings.Cut(m[1], "#")
			target := name
			if file != "" {
				target = filepath.Join(filepath.Dir(name), file)
			}
			if _, err := os.Stat(filepath.Join(root, target)); err != nil {
				t.Errorf("%s: the link %s leads to no file", name, m[1])
			} else if anchor != "" && !anchors(texts[target])[anchor] {
				t.Errorf("%s: the link %s leads to no heading", name, m[1])
			}
		}
	}
}

// TestReferenced: every document in docs can be found from its index.
func TestReferenced(t *testing.T) {
	texts := documents(t)
	for name := range texts {
		if base, ok := strings.CutPrefix(name, "docs/"); ok && base != "README.md" &&
			!strings.Contains(texts["docs/README.md"], "("+base) && !strings.Contains(texts["README.md"], "("+name) {
			t.Errorf("%s is in neither docs/README.md nor README.md", name)
		}
	}
}

// TestPages: every manual page that the documents refer to as name(section) exists.
func TestPages(t *testing.T) {
	page := regexp.MustCompile(`\b(cr_[a-z]+|ftb-[a-z]+|blcr-[a-z-]+)\(([0-9])\)`)
	for name, text := range documents(t) {
		for _, m := range page.FindAllStringSubmatch(text, -1) {
			if _, err := os.Stat(filepath.Join(root, "man", m[1]+"."+m[2])); err != nil {
				t.Errorf("%s: there is no %s", name, m[0])
			}
		}
	}
}

// TestShort: the README is for a first visit; details belong in docs and man.
func TestShort(t *testing.T) {
	const most = 250
	if n := strings.Count(documents(t)["README.md"], "\n"); n > most {
		t.Errorf("README.md has %d lines, more than %d", n, most)
	}
}
