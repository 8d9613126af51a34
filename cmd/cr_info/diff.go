package main

import (
	"fmt"
	"strconv"
	"strings"

	"blcr-cli/internal/ckpt/criu/inspect"
	"blcr-cli/internal/cli"
	"blcr-cli/internal/show"
)

// part is a part of a context that --diff compares: the context itself, or one process,
// by the name that it has in a line. The first item tells what it is.
type part struct {
	name  string
	items []item
}

type item struct{ key, value string }

func (p *part) add(key, value string) { p.items = append(p.items, item{key, value}) }

// find returns the value of an item.
func (p *part) find(key string) (value string, ok bool) {
	for _, i := range p.items {
		if i.key == key {
			return i.value, true
		}
	}
	return "", false
}

// compare prints what differs between two contexts, and returns the exit status.
func (s *settings) compare(con *cli.Console) (int, error) {
	result := 0
	var heads [2]string
	var sides [2][]part
	for i, file := range s.files {
		r := s.examine(file, con)
		complain(con, file, r.found())
		if r.criu == nil && r.blcr == nil {
			result = statusTrouble
			continue
		}
		heads[i] = show.Name(file)
		if r.criu != nil && !r.criu.Header.Created.IsZero() {
			heads[i] += "  " + moment(r.criu.Header.Created)
		}
		sides[i] = r.parts()
	}
	if result != 0 {
		return result, nil
	}
	lines := differences(sides[0], sides[1], s.colour)
	if lines == "" {
		return 0, nil
	}
	if err := con.Print(s.colour.bad("--- "+heads[0]) + "\n" + s.colour.good("+++ "+heads[1]) + "\n" + lines); err != nil {
		return statusTrouble, err
	}
	return statusFailed, nil
}

// differences returns a line for each difference. Of a process that is in one of them only,
// there is one line.
func differences(a, b []part, c colour) string {
	var out strings.Builder
	old := func(p *part, i item) { out.WriteString(c.bad("- "+p.name+i.key+": "+i.value) + "\n") }
	now := func(p *part, i item) { out.WriteString(c.good("+ "+p.name+i.key+": "+i.value) + "\n") }
	others := make(map[string]*part)
	for i := range b {
		others[b[i].name] = &b[i]
	}
	for i := range a {
		p := &a[i]
		q := others[p.name]
		if q == nil {
			old(p, p.items[0])
			continue
		}
		delete(others, p.name)
		for _, i := range p.items {
			value, ok := q.find(i.key)
			if !ok || value != i.value {
				old(p, i)
			}
			if ok && value != i.value {
				now(q, item{i.key, value})
			}
		}
		for _, i := range q.items {
			if _, ok := p.find(i.key); !ok {
				now(q, i)
			}
		}
	}
	for i := range b {
		if others[b[i].name] != nil {
			now(&b[i], b[i].items[0])
		}
	}
	return out.String()
}

// parts takes a context apart. When it was made is no difference.
func (r *report) parts() []part {
	var b strings.Builder
	if r.blcr != nil {
		r.blcr.text(&b, false)
	} else {
		contextText(&b, r.criu, false)
		line(&b, "Size", fmt.Sprintf("%d bytes", r.criu.Sizes.Total()))
	}
	whole := part{}
	for text := range strings.Lines(b.String()) {
		key, value, _ := strings.Cut(strings.TrimSpace(text), ":")
		if key != "Created" {
			whole.add(key, strings.TrimSpace(value))
		}
	}
	all := []part{whole}
	if r.criu == nil {
		return all
	}
	all[0].addFiles(r.criu)
	for i := range r.criu.Processes {
		all = append(all, partOf(&r.criu.Processes[i]))
	}
	return all
}

// addFiles adds the files that are in the context.
func (p *part) addFiles(info *inspect.Info) {
	for _, f := range info.Saved {
		p.add("Saved file "+show.Name(f.Path), fmt.Sprintf("%d bytes", f.Size))
	}
	for _, f := range info.Removed {
		value := fmt.Sprintf("%d bytes", f.Stored)
		if f.To != "" {
			value = "now " + show.Name(f.To)
		}
		p.add("Removed file "+show.Name(f.Path), value)
	}
}

func partOf(p *inspect.Process) part {
	q := part{name: fmt.Sprintf("Process %d", p.PID)}
	what := show.Name(p.Name) + ", " + processState(p)
	if p.PPID != 0 {
		what += fmt.Sprintf(", child of %d", p.PPID)
	}
	what += fmt.Sprintf(", group %s, session %s", id(p.PGID), id(p.SID))
	if !p.State.Ended() {
		what += fmt.Sprintf(", user %d", p.UID)
	}
	q.add("", what+", "+count(len(p.Threads), "thread"))
	if p.State.Ended() {
		return q
	}
	q.add(", memory", fmt.Sprintf("%d bytes mapped, %d saved", p.Mapped, p.Saved))
	q.add(", program", show.Name(p.Exe))
	q.add(", directory", show.Name(p.Cwd))
	q.add(", root", show.Name(p.Root))
	if p.FilesOf != 0 {
		q.add(", descriptors", fmt.Sprintf("those of %d", p.FilesOf))
	}
	for _, f := range p.Files {
		value := kind(f.Kind)
		if f.Access != "" {
			value += ", " + kind(f.Access)
		}
		if f.Offset >= 0 {
			value += ", offset " + strconv.FormatInt(f.Offset, 10)
		}
		if f.CloseOnExec {
			value += ", close on exec"
		}
		q.add(fmt.Sprintf(", descriptor %d", f.FD), value+", "+fileName(&f)+remarks(&f))
	}
	return q
}
