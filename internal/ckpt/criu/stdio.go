package criu

import "blcr-cli/internal/ckpt/criu/images"

// readMoved notes the files that the root process was started with as standard descriptors and
// had under another number when it was saved.
func (p *plan) readMoved(table []images.FD) {
	p.moved = make(map[uint32]uint32)
	for n, moved := range p.attributes.Stdio(p.tasks[0].PID) {
		for _, fd := range table {
			if fd.FD == moved {
				p.moved[fd.FileID] = n
			}
		}
	}
}

// ownStdio has the files that the root process was started with as standard descriptors
// replaced by cr_restart's, wherever the job has them open: what it has printed to a
// file that was removed since, or in another run's output, can be read by nobody. What
// criu restores for itself, such as a pipe between the job's processes, stays.
func (p *plan) ownStdio(table []images.FD, files []images.File, add func(images.External, images.InheritKeys)) {
	isMoved := make(map[uint32]bool)
	for _, n := range p.moved {
		isMoved[n] = true
	}
	own := make(map[uint32]images.External)
	for _, fd := range table {
		if _, moved := p.moved[fd.FileID]; moved || fd.FD <= 2 && !isMoved[fd.FD] {
			e := own[fd.FileID]
			e.Files = []uint32{fd.FileID}
			if fd.FD <= 2 {
				e.FDs = append(e.FDs, fd.FD)
			}
			own[fd.FileID] = e
		}
	}
	for _, f := range files {
		if e, some := own[f.ID]; some && (f.Type == images.TypeReg || f.Type == images.TypeFIFO) {
			k := p.keys(e)
			for _, fd := range e.FDs {
				if k.FD[fd] == "" {
					k.FD[fd] = p.null()
				}
			}
			if k.Default == "" {
				k.Default = p.null()
			}
			add(e, k)
		}
	}
}
