package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"blcr-cli/internal/ckpt/criu/inspect"
	"blcr-cli/internal/ctxfile"
	"blcr-cli/internal/show"
)

// text returns the report in text form. heading says that it is one of several.
func (r *report) text(heading bool, c colour) string {
	var b strings.Builder
	if heading {
		b.WriteString(show.Name(r.file) + ":\n")
	}
	if r.blcr != nil {
		r.blcr.text(&b, c)
		return b.String()
	}
	info := r.criu
	contextText(&b, info, c)
	processesText(&b, info)
	for i := range info.Processes {
		filesText(&b, &info.Processes[i])
	}
	externalText(&b, info)
	storedFilesText(&b, info)
	sizeText(&b, info)
	return b.String()
}

// line writes a line about the whole context, unless the value is empty.
func line(b *strings.Builder, key, value string) {
	if value != "" {
		fmt.Fprintf(b, "%-11s %s\n", key+":", value)
	}
}

func (c *blcrContext) text(b *strings.Builder, paint colour) {
	state := ""
	if c.endKnown {
		state = paint.state("complete") + ", "
		if !c.ended {
			state = paint.state("incomplete") + ", "
		}
	}
	line(b, "Context", fmt.Sprintf("%sof BLCR's module, version %d of its format", state, c.Version))
	where := []string{machineName(c)}
	if c.First != nil {
		where = []string{"Linux " + show.Name(c.First.Kernel), machineName(c)}
	}
	line(b, "Host", strings.Join(where, ", "))
	line(b, "Scope", scopeName(c))
	if p := c.First; p != nil {
		line(b, "First", fmt.Sprintf("process %d, %s, process group %d, session %d, with %s",
			p.PID, show.Name(p.Name), p.PGID, p.SID, count(len(p.Threads), "thread")))
	}
	if c.size >= 0 {
		line(b, "Size", show.Size(c.size))
	}
}

func contextText(b *strings.Builder, info *inspect.Info, c colour) {
	h := info.Header
	state := c.state("complete")
	if info.Missing != "" {
		state = c.state("incomplete") + " (" + show.Text(info.Missing) + ")"
	}
	if info.Directory {
		state += ", a directory of criu's images"
	} else if h.Engine != "" {
		state += ", by " + show.Name(h.Engine)
	}
	line(b, "Context", state)
	if !h.Created.IsZero() {
		line(b, "Created", moment(h.Created))
	}
	var where []string
	if h.Host != "" {
		where = append(where, show.Name(h.Host))
	}
	if h.Kernel != "" {
		where = append(where, "Linux "+show.Name(h.Kernel))
	}
	if h.Machine != "" {
		where = append(where, show.Name(h.Machine))
	}
	line(b, "Host", strings.Join(where, ", "))
	if h.Compression != "" {
		line(b, "Compressed", "by "+show.Name(h.Compression))
	}
	line(b, "Command", commandLine(&h))
	threads, mapped, saved := 0, uint64(0), uint64(0)
	for _, p := range info.Processes {
		mapped, saved = mapped+p.Mapped, saved+p.Saved
		threads += len(p.Threads)
	}
	line(b, "Processes", fmt.Sprintf("%d, with %s", len(info.Processes), count(threads, "thread")))
	line(b, "Memory", fmt.Sprintf("%s mapped, %s saved", show.Size(mapped), show.Size(saved)))
}

func processesText(b *strings.Builder, info *inspect.Info) {
	t := newTable("PID>", "PPID>", "PGID>", "SID>", "UID>", "STATE", "THREADS>", "MAPPED>", "SAVED>", "NAME")
	depth := make(map[int32]int)
	for i := range info.Processes {
		p := &info.Processes[i]
		parent, uid, mapped, saved := "-", "-", "-", "-"
		if p.PPID != 0 {
			depth[p.PID] = depth[p.PPID] + 1
			parent = strconv.Itoa(int(p.PPID))
		}
		if !p.State.Ended() {
			uid, mapped, saved = strconv.Itoa(int(p.UID)), show.Size(p.Mapped), show.Size(p.Saved)
		}
		// The indent is bounded, so that a line stays readable however deep the tree is.
		name := strings.Repeat("  ", min(depth[p.PID], 20)) + show.Name(p.Name)
		t.add(strconv.Itoa(int(p.PID)), parent, id(p.PGID), id(p.SID), uid, processState(p), strconv.Itoa(len(p.Threads)), mapped, saved, name)
	}
	t.write(b, "Processes")
}

// processState returns the state of a process, and how one that has ended has done so.
func processState(p *inspect.Process) string {
	state := stateName(p.State)
	switch {
	case !p.State.Ended():
		return state
	case p.Status.Signaled():
		return state + ", " + show.Signal(p.Status.Signal())
	}
	return state + ", " + strconv.Itoa(p.Status.ExitStatus())
}

// id returns a group or session id as text. It is 0 for one outside of the namespace.
func id(n int32) string {
	if n == 0 {
		return "-"
	}
	return strconv.Itoa(int(n))
}

// mostThreads is the largest number of threads of a process that are listed.
const mostThreads = 20

func filesText(b *strings.Builder, p *inspect.Process) {
	if p.State.Ended() {
		return
	}
	t := newTable("FD>", "KIND", "ACCESS", "OFFSET>", "NAME")
	add := func(what, kind, path string) {
		if path != "" {
			t.add(what, kind, "", "", show.Name(path))
		}
	}
	add("exe", "file", p.Exe)
	add("cwd", "directory", p.Cwd)
	if p.Root != "/" {
		add("root", "directory", p.Root)
	}
	for _, f := range p.Files {
		offset := "-"
		if f.Offset >= 0 {
			offset = strconv.FormatInt(f.Offset, 10)
		}
		t.add(strconv.Itoa(int(f.FD)), kind(f.Kind), kind(f.Access), offset, fileName(&f)+remarks(&f))
	}
	t.write(b, fmt.Sprintf("Open files of %d, %s", p.PID, show.Name(p.Name)))
	if p.FilesOf != 0 {
		fmt.Fprintf(b, "  the descriptors are those of %d\n", p.FilesOf)
	}
	if len(p.Threads) > 1 {
		b.WriteString("  threads:")
		for i, thread := range p.Threads {
			if i == mostThreads {
				fmt.Fprintf(b, " and %d more", len(p.Threads)-i)
				break
			}
			fmt.Fprintf(b, " %d", thread.TID)
			if thread.Name != "" && thread.Name != p.Name {
				b.WriteString(" (" + show.Name(thread.Name) + ")")
			}
		}
		b.WriteString("\n")
	}
}

// kind returns a name of the JSON output in words.
func kind(name string) string { return strings.ReplaceAll(name, "_", " ") }

// fileName returns a name for what a descriptor refers to.
func fileName(f *inspect.File) string {
	var parts []string
	if f.Path != "" {
		parts = append(parts, show.Name(f.Path))
	}
	if f.Local != "" {
		parts = append(parts, show.Name(f.Local))
	}
	if len(parts) == 0 && f.Inode != 0 {
		what := "socket"
		if f.Kind == "pipe" {
			what = "pipe"
		}
		parts = append(parts, fmt.Sprintf("%s:[%d]", what, f.Inode))
	}
	if f.Listening {
		parts = append(parts, "listening")
	}
	if f.Peer != "" {
		parts = append(parts, "to "+show.Name(f.Peer))
	} else if f.PeerInode != 0 {
		parts = append(parts, fmt.Sprintf("to socket:[%d]", f.PeerInode))
	}
	if len(parts) == 0 {
		return "-"
	}
	return strings.Join(parts, " ")
}

func remarks(f *inspect.File) string {
	s := ""
	if f.Removed {
		s += ", removed"
	}
	if f.External {
		s += ", external"
	}
	return s
}

func externalText(b *strings.Builder, info *inspect.Info) {
	t := newTable("KIND", "ACCESS", "NAME", "DESCRIPTORS")
	for _, e := range info.External {
		var refs []string
		for i := 0; i < len(e.FDs); {
			pid := e.FDs[i].PID
			var fds []string
			for ; i < len(e.FDs) && e.FDs[i].PID == pid; i++ {
				fds = append(fds, strconv.Itoa(int(e.FDs[i].FD)))
			}
			refs = append(refs, fmt.Sprintf("%s of %d", strings.Join(fds, ", "), pid))
		}
		t.add(kind(e.Kind), kind(e.Access), fileName(&e.File), strings.Join(refs, "; "))
	}
	t.write(b, "External files")
}

func storedFilesText(b *strings.Builder, info *inspect.Info) {
	t := newTable("KIND", "STORED>", "NAME")
	for _, f := range info.Saved {
		t.add("saved", show.Size(f.Stored), show.Name(f.Path))
	}
	for _, f := range info.Removed {
		if f.To != "" {
			t.add("removed", "-", show.Name(f.Path)+", now "+show.Name(f.To))
		} else {
			t.add("removed", show.Size(f.Stored), show.Name(f.Path))
		}
	}
	t.write(b, "Files in the context")
}

func sizeText(b *strings.Builder, info *inspect.Info) {
	s := info.Sizes
	t := newTable("PART", "BYTES>", ">")
	add := func(what string, n int64) {
		if n != 0 {
			t.add(what, strconv.FormatInt(n, 10), show.Size(n))
		}
	}
	add("memory", s.Pages)
	add("removed files", s.Removed)
	add("saved files", s.Saved)
	add("other images", s.Images)
	add("header and index", s.Rest)
	add("total", s.Total())
	t.write(b, "Size")
}

// table is a table with aligned columns.
type table struct {
	right []bool
	rows  [][]string
	paint colour // for the column STATE
}

// newTable returns a table with the titles of its columns. ">" after a title aligns the
// column to the right.
func newTable(titles ...string) *table {
	t := &table{}
	for i, title := range titles {
		name, right := strings.CutSuffix(title, ">")
		titles[i] = name
		t.right = append(t.right, right)
	}
	t.rows = [][]string{titles}
	return t
}

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

// write writes the table below a heading. It writes nothing if there are no rows. The
// last column is not padded.
func (t *table) write(b *strings.Builder, heading string) {
	if len(t.rows) < 2 {
		return
	}
	fmt.Fprintf(b, "\n%s:\n", heading)
	// Cells longer than this do not widen their column.
	const widest = 60
	widths := make([]int, len(t.right))
	for _, row := range t.rows {
		for i, cell := range row {
			widths[i] = max(widths[i], min(utf8.RuneCountInString(cell), widest))
		}
	}
	for n, row := range t.rows {
		var text strings.Builder
		for i, cell := range row {
			fill := strings.Repeat(" ", max(widths[i]-utf8.RuneCountInString(cell), 0))
			if n > 0 && t.rows[0][i] == "STATE" {
				cell = t.paint.state(cell)
			}
			if t.right[i] {
				text.WriteString("  " + fill + cell)
			} else {
				text.WriteString("  " + cell + fill)
			}
		}
		b.WriteString(strings.TrimRight(text.String(), " ") + "\n")
	}
}

// moment returns a time for a line.
func moment(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

// commandLine returns the command line of the first process.
func commandLine(h *ctxfile.Header) string {
	var words []string
	for _, w := range h.Command {
		words = append(words, word(w))
	}
	if h.Cut {
		words = append(words, "...")
	}
	return strings.Join(words, " ")
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// word returns a word of a command line as it is if a shell would not change it,
// otherwise quoted like a Go string.
func word(s string) string {
	if s == "" || s == "..." || slices.ContainsFunc([]byte(s), func(c byte) bool {
		return !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("_-+./,:=@%", c) >= 0)
	}) {
		return strconv.Quote(s)
	}
	return s
}
