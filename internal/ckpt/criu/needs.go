package criu

import (
	"fmt"
	"slices"

	"blcr-cli/internal/ckpt/criu/explain"
	"blcr-cli/internal/ckpt/criu/images"
)

// needs lists files that the restore needs, by the names under which CRIU opens
// them, for the explanation of a failure. What cannot be read is left out.
func (p *plan) needs(source source) (n explain.Needs) {
	list, err := images.Files(p.images["files.img"])
	if err != nil {
		return n
	}
	names := make(map[uint32]string)
	for _, f := range list {
		names[f.ID] = f.Name
	}
	add := func(to *[]string, id uint32) {
		if name := names[id]; name != "" && !slices.Contains(*to, name) {
			*to = append(*to, name)
		}
	}
	if mapped, err := p.mapped(source); err == nil {
		for _, f := range list {
			if mapped[f.ID] {
				add(&n.Mapped, f.ID)
			}
		}
	}
	for _, task := range p.tasks {
		text, err := source.Bytes(fmt.Sprintf("fs-%d.img", task.PID))
		if err != nil {
			continue
		}
		if dirs, err := images.TaskDirs(text); err == nil {
			add(&n.Directories, dirs.Cwd)
			add(&n.Directories, dirs.Root)
		}
	}
	return n
}
