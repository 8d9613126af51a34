package criu

import (
	"fmt"

	"blcr-cli/internal/ckpt/criu/images"
)

// ownStdio has the files that the root process had as its standard descriptors
// replaced by cr_restart's, wherever the job has them open: what it has printed to a
// file that was removed since, or in another run's output, can be read by nobody. What
// criu restores for itself, such as a pipe between the job's processes, stays.
func (p *plan) ownStdio(source source, files []images.File, tables images.Tables, add func(images.External, images.InheritKeys)) error {
	ids, err := images.Read(source, images.Name("ids", p.tasks[0].PID), images.TaskIDs)
	if err != nil {
		return err
	}
	named := make(map[uint32]bool)
	for _, f := range files {
		named[f.ID] = f.Type == images.TypeReg || f.Type == images.TypeFIFO
	}
	own := make(map[uint32]images.InheritKeys)
	for _, fd := range tables[ids.Files] {
		if fd.FD > 2 || !named[fd.FileID] {
			continue
		}
		key := p.null()
		if isOpen(int(fd.FD)) {
			key = p.inherit(fmt.Sprintf("descriptor-%d", fd.FD), int(fd.FD))
		}
		k, ok := own[fd.FileID]
		if !ok {
			k = images.InheritKeys{Default: key, FD: make(map[uint32]string)}
		}
		k.FD[fd.FD] = key
		own[fd.FileID] = k
	}
	for id, k := range own {
		add(images.External{Files: []uint32{id}}, k)
	}
	return nil
}
