package main

import (
	"bufio"
	"encoding/json"
	"os"
	"strings"
	"testing"
)

// The file that is checked in is a recording of this session, and it went well.
func TestFile(t *testing.T) {
	const name = "../session.cast"
	file, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if st, err := file.Stat(); err != nil || st.Size() > 40_000 {
		t.Errorf("%d bytes, %v", st.Size(), err)
	}
	lines := bufio.NewScanner(file)
	var h header
	if !lines.Scan() || json.Unmarshal(lines.Bytes(), &h) != nil || h.Version != 2 || h.Width != columns || h.Height != rows {
		t.Errorf("header: %s", lines.Text())
	}
	last, text := 0.0, ""
	for lines.Scan() {
		var event []any
		if err := json.Unmarshal(lines.Bytes(), &event); err != nil || len(event) != 3 || event[1] != "o" {
			t.Fatalf("%s: %v", lines.Text(), err)
		}
		at, isNumber := event[0].(float64)
		printed, isText := event[2].(string)
		if !isNumber || !isText || at < last {
			t.Fatalf("%s, after %v", lines.Text(), last)
		}
		last = at
		text += printed
	}
	text = strings.ReplaceAll(text, "\r", "")
	rest := text
	for _, want := range append(session, "1 2 3 4 5 6 7 8 9 10 11 12\n"+prompt) {
		_, after, found := strings.Cut(rest, want)
		if !found {
			t.Fatalf("no %q in what comes last: %q; 'make recording' makes %s anew", want, rest, name)
		}
		rest = after
	}
	if rest != "" || !strings.Contains(text, "; echo $?\n7\n") {
		t.Errorf("%s: %s", name, text)
	}
}
