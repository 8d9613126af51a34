package main

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"blcr-cli/internal/blcrevents"
)

// TestSchemaFile reads the file for FTB_Declare_publishable_events as the library does:
// words, without what is behind a #; "start", the event space, names and severities,
// "end". The last word is lost if no white space follows.
func TestSchemaFile(t *testing.T) {
	text, err := os.ReadFile("../../packaging/ftb/blcr.ftb")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(string(text), "end\n") {
		t.Error("the last line does not end")
	}
	got := strings.Fields(regexp.MustCompile(`#.*`).ReplaceAllString(string(text), ""))
	want := []string{"start", blcrevents.Space}
	for _, name := range schema {
		want = append(want, name, severity(blcrevents.Space, name))
	}
	if want = append(want, "end"); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
