package criu

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/ckpt/criu/imagedir"
	"blcr-cli/internal/ckpt/criu/images"
	"blcr-cli/internal/ckpt/criu/tempdir"
	"blcr-cli/internal/ctxfile"
	"blcr-cli/internal/proc"
	"blcr-cli/internal/show"
)

// With streamed images CRIU puts the private memory of a process in its place in
// one piece, before it restores the mappings. It fails for two kinds of processes:
// those with private huge pages, which it leaves out then, and those with more
// mapped than an int has bytes for, as of a program with AddressSanitizer. From
// images in files it restores both. So the images are extracted for these.

//
// What a process may share with its parent is put in its place in that way even
// then. CRIU takes for such what runs the same program. So the large ones among
// them get a program of their own, of the same name; they share nothing with their
// parent any more.

// mostMapped is how many bytes a process may have mapped that is restored from
// streamed images: CRIU counts 4096 of them in an int.
const mostMapped = 1 << 43

// takesFiles reports whether CRIU has to find the images in files. filled are the
// processes whose private memory is not CRIU's to restore.
func (p *plan) takesFiles(source source, f *filling) bool {
	for _, task := range p.tasks {
		name := images.Name("mm", task.PID)
		if !source.Has(name) {
			continue
		}
		m, err := images.Read(source, name, images.TaskMemory)
		if err == nil && (m.HugePages || m.Size > mostMapped && (f == nil || f.lazy[task.PID] == nil)) {
			return true
		}
	}
	return false
}

// fitMemory changes what CRIU cannot map as it was. It needs files.img as it is otherwise
// served.
//
// CRIU restores the memory of large processes without looking at that of their parents. And the
// kernel grants mappings that are larger than all memory and swap: a job can have such, as it may
// not write to them or has got them piece by piece; CRIU maps each at once, and writable.
//
// CRIU opens a program as the descriptor of the job that it is open as, too. One with O_PATH, as
// fexecve(3) needs it, cannot be the program of a process.
func (p *plan) fitMemory(source source) error {
	list, err := images.Files(p.images[images.FilesName])
	if err != nil {
		return err
	}
	programs := make(map[uint32]uint32) // images.File.ID of what is open with O_PATH, and as a program, 0 for none yet
	for _, file := range list {
		if file.Type == images.TypeReg && file.Flags&unix.O_PATH != 0 {
			programs[file.ID] = 0
		}
	}
	machine := proc.MachineMemory()
	most := machine["MemTotal"] + machine["SwapTotal"]
	for _, task := range p.tasks {
		name := images.Name("mm", task.PID)
		mm, err := p.served(source, name)
		if err != nil {
			return err
		}
		if mm == nil {
			continue
		}
		m, err := images.TaskMemory(mm)
		if err != nil {
			return err
		}
		alone := task.PPID != 0 && m.Size > mostMapped
		if exe, byPath := programs[m.Exe]; alone || byPath {
			if alone || exe == 0 {
				var changed []byte
				if changed, exe, err = images.CopyFile(p.images[images.FilesName], m.Exe); err != nil {
					return err
				}
				p.images[images.FilesName] = changed
			}
			if byPath && !alone { // what runs the same program shares memory with its parent
				programs[m.Exe] = exe
			}
			if mm, err = images.SetExecutable(mm, exe); err != nil {
				return err
			}
			p.images[name] = mm
		}
		if m.Largest > most {
			if p.images[name], err = images.NotReserved(mm, most); err != nil {
				return err
			}
		}
	}
	return nil
}

// extract writes the images into a directory of their own, for CRIU to read. It is
// the caller's to remove.
func (p *plan) extract(ctx context.Context, source source) (dir tempdir.Dir, err error) {
	sizes := imageSizes(source)
	var all int64
	for name := range sizes {
		if images.IsMember(name) || slices.Contains(p.hidden, name) {
			delete(sizes, name)
			continue
		}
		if changed := p.images[name]; changed != nil {
			sizes[name] = int64(len(changed))
		}
		all += sizes[name]
	}
	parents := roomy(all)
	if len(parents) == 0 {
		return tempdir.None, &ckpt.Error{Op: "write", Object: os.TempDir(), Errno: unix.ENOSPC, Detail: []string{
			fmt.Sprintf("this job has private huge pages, or a very large address space: CRIU needs its images in files, %s in all", show.Size(all)),
			"set TMPDIR to a directory that has room for them",
		}}
	}
	if dir, err = tempdir.New(parents); err != nil {
		return dir, err
	}
	for name, size := range sizes {
		if err = p.extractImage(ctx, source, filepath.Join(dir.Path, name), name, size); err != nil {
			dir.Remove()
			return tempdir.None, err
		}
	}
	return dir, nil
}

// imageSizes returns what the context has, with sizes in bytes.
func imageSizes(source source) map[string]int64 {
	sizes := make(map[string]int64)
	switch s := source.(type) {
	case *ctxfile.Reader:
		for _, name := range s.Names() {
			sizes[name] = s.Size(name)
		}
	case *imagedir.Dir:
		list, _ := s.List()
		for _, image := range list {
			sizes[image.Name] = image.Size
		}
	}
	return sizes
}

// roomy returns directories for temporary files that have room for size bytes.
func roomy(size int64) (dirs []string) {
	for _, dir := range []string{os.TempDir(), "/var/tmp", "/tmp", "/dev/shm"} {
		var st unix.Statfs_t
		if filepath.IsAbs(dir) && unix.Statfs(dir, &st) == nil && int64(st.Bavail)*int64(st.Bsize) > size+size/16 {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

// extractImage writes one image, as it is to be restored.
func (p *plan) extractImage(ctx context.Context, source source, path, name string, size int64) error {
	// A name in a context is a name and no path.
	if filepath.Base(name) != name {
		return &ckpt.Error{Op: "read", Object: "context", Errno: unix.EINVAL}
	}
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return ckpt.SystemError("write", path, err)
	}
	out := os.NewFile(uintptr(fd), path)
	defer out.Close()
	if changed := p.images[name]; changed != nil {
		_, err = out.Write(changed)
		return systemError(path, err)
	}
	buffer := make([]byte, min(size, 1<<20))
	offset := int64(0)
	if h, some := p.heads[name]; some {
		if _, err := out.Write(h.data); err != nil {
			return systemError(path, err)
		}
		offset = h.skip
	}
	for offset < size {
		if err := interrupted(ctx, "restart"); err != nil {
			return err
		}
		b := buffer[:min(int64(len(buffer)), size-offset)]
		n, err := source.ReadAt(name, b, offset)
		if err == nil && n == 0 {
			err = &ckpt.Error{Op: "read", Object: "context", Errno: unix.EIO, Detail: []string{"context: " + name + " is shorter than it should be"}}
		}
		if err != nil {
			return contextError(err)
		}
		if _, err := out.Write(b[:n]); err != nil {
			return systemError(path, err)
		}
		offset += int64(n)
	}
	return nil
}

// systemError is an error of writing a temporary file, or nil.
func systemError(path string, err error) error {
	if err == nil {
		return nil
	}
	return ckpt.SystemError("write", filepath.Dir(filepath.Dir(path)), ckpt.ErrnoOf(err))
}
