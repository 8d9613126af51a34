package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestDocument: of this test's own binary and a file. Every relationship leads to a
// package, and it is the same again.
func TestDocument(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "blcr-cli_1.2_amd64.deb")
	if err := os.WriteFile(file, []byte("content\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	var first, second bytes.Buffer
	for _, out := range []*bytes.Buffer{&first, &second} {
		if err := run([]string{"1.2", "1700000000", self, "--", file}, out); err != nil {
			t.Fatal(err)
		}
	}
	if first.String() != second.String() {
		t.Error("it is another one when made again")
	}
	var d document
	if err := json.Unmarshal(first.Bytes(), &d); err != nil {
		t.Fatal(err)
	}
	ids := map[string]bool{d.SPDXID: true}
	for _, p := range d.Packages {
		if ids[p.SPDXID] || !regexp.MustCompile(`^SPDXRef-[A-Za-z0-9.-]+$`).MatchString(p.SPDXID) {
			t.Errorf("ID %q: twice, or not allowed", p.SPDXID)
		}
		ids[p.SPDXID] = true
	}
	for _, r := range d.Relationships {
		if !ids[r.Element] || !ids[r.Related] {
			t.Errorf("%v leads nowhere", r)
		}
	}
	const sum = "434728a410a78f56fc1b5899c3593436e61ab0c731e9072d95e96db290205e53" // of "content\n"
	if d.Packages[0].Checksums[0].Value != sum || d.CreationInfo.Created != "2023-11-14T22:13:20Z" {
		t.Errorf("%+v, %+v", d.Packages[0], d.CreationInfo)
	}
	if !strings.Contains(first.String(), `"pkg:golang/stdlib@go`) {
		t.Error("it does not name the version of Go")
	}
}

func TestArguments(t *testing.T) {
	for _, args := range [][]string{nil, {"1", "2", "--", "x"}, {"1", "2", "x", "--"}, {"1", "x", "c", "--", "f"}, {"1", "2", "/none", "--", "f"}} {
		if err := run(args, &bytes.Buffer{}); err == nil {
			t.Errorf("%q: no error", args)
		}
	}
}
