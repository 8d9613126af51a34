package criu

import (
	"cmp"
	"context"
	"errors"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/ckpt/criu/images"
	"blcr-cli/internal/ckpt/criu/lazyguard"
	"blcr-cli/internal/ckpt/criu/memory"
	"blcr-cli/internal/ckpt/criu/pstree"
	"blcr-cli/internal/ctxfile"
)

// filling is what of a job's memory does not come through criu's pipes, which take
// one page after the other: it is put into the processes when criu has made them.
//
// That is private anonymous memory, which criu calls lazy. What a process may share
// with its parent until one of them writes to it comes by the pipes, as only criu
// makes it shared again. So does, if the processes run meanwhile, what is wiped in a child.
type filling struct {
	// images are served instead of those in the context.
	images map[string][]byte

	lazy  map[int32][]memory.Piece  // by pid
	names map[int32]string          // of the images that it is in
	pipes map[string][]memory.Piece // by name: what of an image of pages criu reads
	size  int64                     // of all that is lazy, in bytes
}

// mostRuns is how many pieces the memory of a process may be in. Each takes memory
// here.
const mostRuns = 1 << 18

// newFilling finds out what can be filled, while the processes run if lazy is set; nil if
// nothing can.
func newFilling(source source, plan *plan, version string, lazy bool) *filling {
	if !fillsWith(version) || !memory.CanFill() {
		return nil
	}
	f := &filling{
		images: make(map[string][]byte), lazy: make(map[int32][]memory.Piece),
		names: make(map[int32]string), pipes: make(map[string][]memory.Piece),
	}
	apart := sharing(source, plan.tasks)
	if lazy {
		plan.addWiped(source, apart)
	}
	for _, task := range plan.tasks {
		f.add(source, task.PID, apart[task.PID])
	}
	if f.size == 0 {
		return nil
	}
	return f
}

// fillsWith reports whether a version of criu has lazy pages together with streaming.
// That was tried with 4.1 and 4.2.
func fillsWith(version string) bool {
	major, _, _ := strings.Cut(version, ".")
	n, err := strconv.Atoi(major)
	return err == nil && n >= 4
}

// sharing returns where processes may share memory with their parent or a child, by pid:
// as criu, it goes by whether they run the same program, and have mappings from and to
// the same addresses. That can be so after an exec, too, but not with the same stack,
// unless addresses are not random.
func sharing(source source, tasks []images.Task) map[int32][]images.Range {
	type program struct {
		exe   uint32
		stack uint64
	}
	programs, shared := make(map[int32]program), make(map[int32][]images.Range)
	for _, task := range tasks {
		if m, err := images.Read(source, images.Name("mm", task.PID), images.TaskMemory); err == nil {
			programs[task.PID] = program{m.Exe, m.Stack}
		}
	}
	mappings := make(map[int32][]images.Range)
	mapped := func(pid int32) []images.Range {
		if _, known := mappings[pid]; !known {
			mappings[pid], _ = images.Read(source, images.Name("mm", pid), images.Mappings)
		}
		return mappings[pid]
	}
	for _, task := range tasks {
		if parent, ok := programs[task.PPID]; ok && parent == programs[task.PID] {
			both := inBoth(mapped(task.PID), mapped(task.PPID))
			shared[task.PID] = append(shared[task.PID], both...)
			shared[task.PPID] = append(shared[task.PPID], both...)
		}
	}
	for pid, ranges := range shared {
		shared[pid] = sorted(ranges)
	}
	return shared
}

// sorted returns mappings of one process in the order of their addresses, each once.
func sorted(ranges []images.Range) []images.Range {
	slices.SortFunc(ranges, func(a, b images.Range) int { return cmp.Compare(a.Start, b.Start) })
	return slices.Compact(ranges)
}

// addWiped adds the mappings that are wiped in a child (MADV_WIPEONFORK), by pid. What is
// missing there would be filled in a child that is made meanwhile, as all that is missing.
func (p *plan) addWiped(source source, apart map[int32][]images.Range) {
	for _, task := range p.tasks {
		// What is wrong with an image is for criu to say.
		if mm, err := p.served(source, images.Name("mm", task.PID)); err == nil && mm != nil {
			wiped, _ := images.Wiped(mm)
			apart[task.PID] = sorted(append(apart[task.PID], wiped...))
		}
	}
}

// inBoth returns the mappings that two processes have from and to the same addresses.
func inBoth(a, b []images.Range) (both []images.Range) {
	for len(a) > 0 && len(b) > 0 {
		switch {
		case a[0].Start < b[0].Start:
			a = a[1:]
		case a[0].Start > b[0].Start:
			b = b[1:]
		default:
			if a[0] == b[0] {
				both = append(both, a[0])
			}
			a, b = a[1:], b[1:]
		}
	}
	return both
}

// add adds a process, of which the mappings apart come by the pipes. What is wrong with
// its images is for criu to say.
func (f *filling) add(source source, pid int32, apart []images.Range) {
	name := images.Name("pagemap", pid)
	if !source.Has(name) {
		return
	}
	pagemap, err := source.Bytes(name)
	if err != nil {
		return
	}
	size := int64(os.Getpagesize())
	own := pagemap
	if len(apart) > 0 {
		if own, err = images.NotLazy(pagemap, uint64(size), apart); err != nil {
			return
		}
		f.images[name] = own
	}
	p, err := images.ReadPages(own, uint64(size))
	if err != nil {
		return
	}
	var lazy, rest []memory.Piece
	var lazySize, restSize int64
	for _, r := range p.Runs {
		piece := memory.Piece{Address: r.Address, Offset: int64(r.First) * size, Length: int64(r.Count) * size}
		if r.Lazy {
			lazy, lazySize = append(lazy, piece), lazySize+piece.Length
		} else {
			rest, restSize = append(rest, piece), restSize+piece.Length
		}
	}
	if lazySize == 0 {
		return
	}
	if restSize > lazySize || len(p.Runs) > mostRuns {
		if f.images[name], err = images.NotLazy(pagemap, uint64(size), images.Everywhere); err != nil {
			delete(f.images, name)
		}
		return
	}
	pages := images.Name("pages", p.ID)
	f.lazy[pid], f.names[pid], f.pipes[pages] = lazy, pages, rest
	f.size += lazySize
}

// faultSize is how much is read for one page: of a compressed context a frame at least
// has to be decompressed.
func faultSize(source source) int64 {
	if c, ok := source.(*ctxfile.Reader); ok && c.Header().Compression != "" {
		return ctxfile.FrameSize
	}
	return memory.FaultSize
}

// addMemory takes the memory of a process.
func (r *restart) addMemory(pid int32, uffd int) {
	name := r.fill.names[pid]
	r.filler.Add(uffd, r.fill.lazy[pid], r.readPages(name), r.viewPages(name))
}

// fillMemory has all memory in place before the processes run or, if the restart is
// lazy, makes sure that it can come later.
func (r *restart) fillMemory(ctx context.Context) error {
	// As many as fill are in system calls; the runtime would take their processors away
	// from them, and start further threads, if there were no others.
	runtime.GOMAXPROCS(max(runtime.GOMAXPROCS(0), fillProcessors))
	var err error
	if r.request.Lazy {
		err = r.prepareLazy()
	} else if err = r.filler.Fill(ctx); err == nil {
		// Nothing is left that the processes depend on.
		r.filler.Close()
	}
	err, r.unfillable = fillError(err)
	return err
}

// guardEarly starts the guard of a lazy restart while criu starts, when it keeps nobody
// waiting.
func (r *restart) guardEarly() {
	r.guard, _ = lazyguard.Start() // prepareLazy says what is wrong
}

// prepareLazy makes sure that memory can come later, and that the job does not go on
// without it.
func (r *restart) prepareLazy() (err error) {
	if <-r.early; r.guard == nil {
		if r.guard, err = lazyguard.Start(); err != nil {
			return err
		}
	}
	if err := r.guard.Job(r.root); err != nil {
		return err
	}
	if err := r.filler.Try(); err != nil {
		return err
	}
	guard := r.guard
	r.filler.Started(func(uffd int) {
		// If the guard has been killed, there is still this process.
		_ = guard.Keep(uffd)
	})
	return nil
}

// fillError is an error of filling memory in this engine's terms. It may be that the
// memory can come by the pipes.
func fillError(err error) (_ error, unfillable bool) {
	var e *ckpt.Error
	if err == nil || errors.As(err, &e) {
		return err, false
	}
	if errors.Is(err, memory.ErrGone) {
		return &ckpt.Error{Op: "fill", Object: "memory of the job", Errno: syscall.ENOMEM, Detail: []string{
			"a process of the job was killed while its memory was put in place, as the kernel does where there is not enough",
			"have a higher limit for the control group, as 'systemd-run -p MemoryMax=…' sets it, or restart the job where more memory is free",
		}}, false
	}
	out := &ckpt.Error{Op: "fill", Object: "memory of the job", Errno: syscall.EFAULT}
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		out.Errno = errno
	}
	return out, out.Errno != syscall.ENOMEM && out.Errno != syscall.ECANCELED
}

// coming is memory of a job that runs already.
type coming struct {
	done chan struct{} // closed at the end
	err  error
}

// fillBehind fills the memory of a job that runs. It takes over what of the restart
// it needs.
func (r *restart) fillBehind() *coming {
	c := &coming{done: make(chan struct{})}
	filler, guard, source, root := r.filler, r.guard, r.source, r.root
	r.filler, r.guard, r.source = nil, nil, nil
	// A page that is waited for must not wait for a processor as well.
	runtime.GOMAXPROCS(max(runtime.GOMAXPROCS(0), fillProcessors))
	go func() {
		defer close(c.done)
		defer source.Close()
		err := filler.Fill(context.Background())
		if err == nil {
			// Until it has ended, pages may be waited for.
			guard.End()
			filler.Close()
			return
		}
		// They would wait for ever, or go on with other memory than theirs.
		c.err, _ = fillError(err)
		if !guard.Lives() {
			pstree.Signal(root, int32(syscall.SIGKILL))
		}
		// What processes have made meanwhile the guard has to know as well.
		filler.Close()
		guard.EndJob()
	}()
	return c
}

// fillProcessors is how many goroutines may be in system calls at a time: those that
// fill, one that waits for the job, and one for a page.
const fillProcessors = 8

// InPlace implements ckpt.Engine.
func (e *engine) InPlace() error {
	if e.coming == nil {
		return nil
	}
	<-e.coming.done
	return e.coming.err
}

// canPipe reports whether a restore that has failed may succeed if all memory comes
// by criu's pipes.
func (r *restart) canPipe(ctx context.Context) bool {
	if r.fill == nil || r.resumed.Load() || ctx.Err() != nil || r.criu == nil {
		return false
	}
	if r.unfillable {
		return true
	}
	for _, line := range r.criu.Errors() {
		line = strings.ToLower(line)
		if strings.Contains(line, "uffd") || strings.Contains(line, "lazy") || strings.Contains(line, "userfault") {
			return true
		}
	}
	return false
}

// readPages reads an image of pages.
func (r *restart) readPages(name string) memory.Read {
	source := r.source
	return func(b []byte, offset int64) error {
		n, err := source.ReadAt(name, b, offset)
		if err == nil && n < len(b) {
			err = &ckpt.Error{Op: "read", Object: "context", Errno: syscall.EIO, Detail: []string{"context: " + name + " is shorter than it should be"}}
		}
		return contextError(err)
	}
}

// viewPages views an image of pages; nil where the source has no views.
func (r *restart) viewPages(name string) memory.View {
	viewer, ok := r.source.(interface {
		View(name string, offset, length int64, checked bool, use func(data []byte) bool) (int64, error)
	})
	if !ok {
		return nil
	}
	return func(offset, length int64, checked bool, use func(data []byte) bool) (int64, error) {
		n, err := viewer.View(name, offset, length, checked, use)
		return n, contextError(err)
	}
}
