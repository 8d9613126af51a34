package criu

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"blcr-cli/internal/ckpt"
	"blcr-cli/internal/ckpt/criu/explain"
	"blcr-cli/internal/ckpt/criu/images"
	"blcr-cli/internal/ckpt/criu/pstree"
	"blcr-cli/internal/ctxfile"
	"blcr-cli/internal/hints"
	"blcr-cli/internal/proc"
	"blcr-cli/internal/show"
)

// foresight is a look at whether a context could be restored here and now. It changes
// nothing and makes no process. What only CRIU can find out is left to it.
type foresight struct {
	*ckpt.Forecast
	source  source
	plan    *plan
	request *ckpt.RestartRequest
	helpers []int32           // pids of processes that had ended, and whose files in /proc are there again
	modes   map[uint32]uint32 // how files are opened besides their flags, as of access(2), by images.File.ID
}

// foresee looks at whether a context can be restored.
func (e *engine) foresee(ctx context.Context, r *ckpt.RestartRequest) *ckpt.Forecast {
	f := &foresight{Forecast: &ckpt.Forecast{}, plan: &plan{images: make(map[string][]byte)}, request: r}
	f.fail(distrust(r))
	var err error
	if f.source, err = openSource(ctx, r); err != nil {
		f.fail(contextError(err))
		return f.Forecast
	}
	defer f.source.Close()
	if !f.machine() {
		return f.Forecast
	}
	for _, step := range []func() error{
		func() error { return f.plan.sessions(f.source, r) },
		func() error {
			img, err := f.source.Bytes(images.FilesName)
			if err != nil {
				return err
			}
			return distrustLinks(r, img)
		},
		f.processor, f.numbers, f.limits, f.groups, f.rights, func() error { return f.pids(ctx) }, f.room, f.openFiles, f.owners, f.files, f.sockets, f.makings, f.locks, f.clocks, f.memory, f.outside,
	} {
		err := step()
		f.fail(contextError(err))
		if f.plan.tasks == nil { // nothing more can be known
			break
		}
	}
	return f.Forecast
}

// fail adds a failure, unless err is nil, or known already: several steps read the same
// images.
func (f *foresight) fail(err error) {
	known := func(other error) bool {
		return fmt.Sprint(other, ckpt.DetailOf(other)) == fmt.Sprint(err, ckpt.DetailOf(err))
	}
	if err != nil && !slices.ContainsFunc(f.Failures, known) {
		f.Failures = append(f.Failures, err)
	}
}

// obstacle adds a failure, by its sentence and what to do about it.
func (f *foresight) obstacle(errno syscall.Errno, object, sentence, hint string) {
	f.fail(&ckpt.Error{Op: "restart", Object: object, Errno: errno, Detail: []string{sentence, hint}})
}

// machine looks at where the context was made. What is another architecture's is not
// looked at further.
func (f *foresight) machine() bool {
	c, ok := f.source.(*ctxfile.Reader)
	if !ok {
		return true
	}
	h := c.Header()
	if line := (explain.Origin{Host: h.Host, Kernel: h.Kernel, Machine: h.Machine}).OtherMachine(); line != "" {
		f.fail(&ckpt.Error{Op: "restart", Object: "context", Errno: syscall.ENOEXEC, Detail: []string{line}})
		return false
	}
	if h.Kernel != "" && h.Kernel != hints.Kernel() {
		f.Notes = append(f.Notes, fmt.Sprintf("it was made on %s with Linux %s, and this is Linux %s: what only the newer one has the job may miss", show.Name(h.Host), show.Name(h.Kernel), hints.Kernel()))
	}
	return true
}

// pids looks for numbers of processes and threads that are in use, and waits for those of what
// has ended, as a restart does.
func (f *foresight) pids(ctx context.Context) error {
	deadline := time.Now().Add(patience)
	if !f.plan.container() {
		_ = f.plan.pidsFree(ctx) // what is in use is named below
	}
	table, err := proc.All()
	if err != nil {
		return ckpt.SystemError("read", "/proc", err)
	}
	groups, living := make(map[int]bool), make(map[int]bool) // and sessions
	for _, p := range table {
		groups[p.Pgid], groups[p.Sid] = true, true
		if !p.Dead() {
			living[p.Pgid], living[p.Sid] = true, true
		}
	}
	for _, task := range f.plan.tasks {
		f.PIDs = append(f.PIDs, int(task.PID))
		if f.plan.container() {
			continue
		}
		for _, id := range task.Numbers() {
			n := int(id)
			if leader, err := proc.Leader(n); err == nil && leader == os.Getpid() {
				continue // this process is not there when it is restarted
			}
			if !taken(n) && (!groups[n] || !living[n] && unused(ctx, n, deadline)) {
				continue
			}
			if holder := hints.Holder(n); holder != "" {
				f.obstacle(syscall.EBUSY, fmt.Sprint(n), fmt.Sprintf("the pid %d of the job is in use: %s", n, holder), "cr_restart --no-restore-pid restarts the job with new pids beside it")
			}
		}
	}
	return nil
}

// owners looks at whose processes they were.
func (f *foresight) owners() error {
	if os.Geteuid() == 0 {
		return nil
	}
	for _, task := range f.plan.tasks {
		core, err := images.Read(f.source, images.Name("core", task.PID), images.ReadCore)
		switch {
		case err != nil:
			return err
		case core.State.Ended():
		case int(core.UID) != os.Geteuid():
			f.obstacle(syscall.EPERM, fmt.Sprint(task.PID), fmt.Sprintf("process %d belonged to %s", task.PID, hints.User(int(core.UID))), "have that user restart the job, or root")
			return nil
		case int(core.GID) != unix.Getegid() && !proc.Capable(unix.CAP_SETGID): // that it is another of the user's does not help
			f.obstacle(syscall.EPERM, fmt.Sprint(task.PID), fmt.Sprintf("process %d had the primary group %s", task.PID, hints.Group(int(core.GID))), "change to that group by newgrp(1)")
			return nil
		}
	}
	return nil
}

// files looks at the files that the processes had open or mapped.
func (f *foresight) files() error {
	img, err := namedFiles(f.source)
	if err != nil {
		return err
	}
	list, checks, mapped, err := f.listFiles(img)
	if err != nil {
		return err
	}
	needed, err := f.needed(list)
	if err != nil {
		return err
	}
	saved, err := f.saved()
	if err != nil {
		return err
	}
	for _, file := range list {
		if file.Type != images.TypeReg || !needed[file.ID] && !mapped[file.ID] || saved[file.Name] || f.ofJob(file.Name) {
			continue
		}
		var check images.Validation
		if mapped[file.ID] {
			check = checks[file.ID]
		}
		f.file(file, check)
	}
	return nil
}

// ofJob reports whether a name is in /proc and of a process or thread of the job, or of a
// helper, which is there when CRIU opens it.
func (f *foresight) ofJob(name string) bool {
	id := int32(proc.Named(name))
	return id > 0 && (slices.Contains(f.helpers, id) || slices.ContainsFunc(f.plan.tasks, func(t images.Task) bool {
		return t.PID == id || slices.Contains(t.Threads, id)
	}))
}

// open returns the entries of files.img that are opened by their names for descriptors: not
// terminals, which may be replaced.
func (f *foresight) open(list []images.File) (map[uint32]bool, error) {
	f.modes = make(map[uint32]uint32)
	tables, err := f.plan.tables(f.source)
	if err != nil {
		return nil, err
	}
	described := make(map[uint32]bool)
	for _, fds := range tables {
		for _, fd := range fds {
			described[fd.FileID] = true
		}
	}
	open := make(map[uint32]bool)
	for _, file := range list {
		switch {
		case described[file.ID] && file.Type == images.TypeReg:
			open[file.ID] = true
		case described[file.ID] && file.Type == images.TypeFIFO:
			open[file.RegID] = true
			f.modes[file.RegID] = unix.R_OK | unix.W_OK // CRIU opens it in both ways first
		}
	}
	return open, nil
}

// needed returns the entries of files.img that are opened by their names, except for
// those that are mapped, and not what had lost its name and is in the context.
func (f *foresight) needed(list []images.File) (map[uint32]bool, error) {
	needed, err := f.open(list)
	if err != nil {
		return nil, err
	}
	for _, task := range f.plan.tasks {
		name := images.Name("fs", task.PID)
		if !f.source.Has(name) { // it has ended
			continue
		}
		dirs, err := images.Read(f.source, name, images.TaskDirs)
		if err != nil {
			return nil, err
		}
		needed[dirs.Cwd], needed[dirs.Root] = true, true
		f.modes[dirs.Cwd] |= unix.X_OK
		memory, err := images.Read(f.source, images.Name("mm", task.PID), images.TaskMemory)
		if err != nil {
			return nil, err
		}
		for _, id := range memory.Written {
			f.modes[id] |= unix.W_OK
		}
	}
	return needed, f.withoutRemoved(needed)
}

// saved returns the names of files that the context has.
func (f *foresight) saved() (map[string]bool, error) {
	saved := make(map[string]bool)
	if !f.source.Has(images.SavedFilesName) {
		return saved, nil
	}
	list, err := images.Read(f.source, images.SavedFilesName, images.ParseSavedFiles)
	for _, file := range list {
		saved[file.Name] = true
	}
	return saved, err
}

// file looks at one file.
func (f *foresight) file(file images.File, check images.Validation) {
	name := show.Name(file.Name)
	relocate := "bring it back, or have it found elsewhere by cr_restart --relocate"
	if check.HasSize || check.BuildID != nil {
		relocate = "bring the one that was saved back, or have it found elsewhere by cr_restart --relocate; cr_checkpoint --save-all takes mapped files along"
	}
	var st unix.Stat_t
	if err := statOf(file, &st); err != nil {
		errno := ckpt.ErrnoOf(err)
		f.obstacle(errno, file.Name, fmt.Sprintf("cannot open %s: %s", name, ckpt.Strerror(errno)), relocate)
		return
	}
	other := func(format string, args ...any) {
		f.obstacle(unix.ESTALE, file.Name, name+" is not the file that was saved: "+fmt.Sprintf(format, args...), relocate)
	}
	if file.Mode != 0 && (st.Mode^file.Mode)&unix.S_IFMT != 0 {
		other("it is of another kind")
		return
	}
	var id []byte // without one CRIU compares no more than the size
	if check.BuildID != nil {
		id = buildID(file.Name)
	}
	switch {
	case check.HasSize && uint64(st.Size) != check.Size:
		other("its size is %d, not %d", st.Size, check.Size)
	case check.Mode != 0 && st.Mode != check.Mode:
		other("its mode is 0%o, not 0%o", st.Mode, check.Mode)
	case id != nil && !bytes.Equal(check.BuildID, padded(id)):
		other("it has another build ID, as after an update")
	default:
		f.access(file, name)
	}
}

// padded returns a build ID as it is in an image.
func padded(id []byte) []byte { return append(slices.Clone(id), make([]byte, -len(id)&3)...) }

// access looks at whether a file can be opened as it was.
func (f *foresight) access(file images.File, name string) {
	mode := uint32(unix.R_OK)
	switch file.Flags & unix.O_ACCMODE {
	case unix.O_WRONLY:
		mode = unix.W_OK
	case unix.O_RDWR:
		mode = unix.R_OK | unix.W_OK
	}
	how := unix.AT_EACCESS
	if file.Flags&unix.O_PATH != 0 {
		mode = unix.F_OK
		if file.Mode&unix.S_IFMT == unix.S_IFLNK { // wherever that leads to
			how |= unix.AT_SYMLINK_NOFOLLOW
		}
	}
	if err := unix.Faccessat(unix.AT_FDCWD, file.Name, mode|f.modes[file.ID], how); err != nil {
		errno := ckpt.ErrnoOf(err)
		f.obstacle(errno, file.Name, fmt.Sprintf("cannot open %s: %s", name, ckpt.Strerror(errno)), "change its permissions, or have it found elsewhere by cr_restart --relocate; cr_restart --keep-stdio does without those of standard descriptors")
		return
	}
	var st unix.Stat_t
	if file.Flags&unix.O_NOATIME != 0 && !proc.Capable(unix.CAP_FOWNER) && unix.Stat(file.Name, &st) == nil && int(st.Uid) != unix.Geteuid() {
		f.obstacle(unix.EPERM, file.Name, fmt.Sprintf("cannot open %s: %s: only its owner may, with O_NOATIME", name, ckpt.Strerror(unix.EPERM)), "have it found elsewhere by cr_restart --relocate")
	}
}

// sockets looks for sockets that it takes more rights to make than this process has.
func (f *foresight) sockets() error {
	if f.plan.container() { // its network is made, too
		return nil
	}
	img, err := namedFiles(f.source)
	if err != nil {
		return err
	}
	files, err := images.Files(img)
	for _, file := range files {
		has := hints.Socket{Mark: file.Mark, Priority: file.Priority}
		switch {
		case file.Type == images.TypePacket:
			has.Raw = true
		case file.Type == images.TypeInet:
			has.Raw, has.Port = file.SocketType == unix.SOCK_RAW, file.Inet.Local.Port
			f.address(file)
		case file.Type == images.TypeUnix && !file.External && (file.SocketType == unix.SOCK_DGRAM || file.State == unix.BPF_TCP_LISTEN):
			has.Name = strings.TrimSuffix(file.SocketName, "\x00")
			if file.Dir != "" && !strings.HasPrefix(has.Name, "/") {
				has.Name = filepath.Join("/", file.Dir, has.Name)
			}
		}
		if errno, what := has.Lacks(); errno != 0 {
			f.obstacle(errno, "socket", "the job has a socket "+what, "restart the job as root")
		}
	}
	return err
}

// address looks at whether a socket can have its address again. A port is not looked at for raw
// sockets, for protocols besides TCP and UDP, and for connections, whose port CRIU takes in any
// case.
func (f *foresight) address(file images.File) {
	local, kind := file.Inet.Local, unix.SOCK_DGRAM
	switch {
	case file.Inet.Protocol == unix.IPPROTO_UDP:
	case file.Inet.Protocol == unix.IPPROTO_TCP && (file.State == unix.BPF_TCP_LISTEN || file.State == unix.BPF_TCP_CLOSE):
		kind = unix.SOCK_STREAM
	default:
		local.Port = 0
	}
	ip, _ := netip.AddrFromSlice([]byte(local.IP))
	switch errno := hints.Bind(local.IP, local.Port, kind); errno {
	case 0:
	case unix.EADDRINUSE:
		if kind == unix.SOCK_STREAM && proc.Capable(unix.CAP_NET_ADMIN) && pstree.OnlyEnded(local.Port) {
			return // see forgetConnections
		}
		f.obstacle(errno, "socket", fmt.Sprintf("the network address %s of the job is in use: by another program, see 'ss -lntu', or by connections of the job itself that have just ended, see 'ss -nt state time-wait'", netip.AddrPortFrom(ip, local.Port)),
			"end that program first, or try again when a minute is over")
	default:
		f.obstacle(errno, "socket", fmt.Sprintf("this machine does not have the network address %s, which the job uses", ip), "give it that address, see ip-address(8)")
	}
}

// clocks notes what clocks that are behind lead to.
func (f *foresight) clocks() error {
	if err := f.plan.clocks(f.source, f.request); err != nil {
		return err
	}
	if f.source.Has(criuClocks) && !slices.Contains(f.plan.hidden, criuClocks) {
		f.Notes = append(f.Notes, "the machine has been running for a shorter time than that of the checkpoint had: the job gets clocks of its own, and cannot be saved together with cr_restart")
	}
	return nil
}

// memory compares how much the processes had with how much there is.
func (f *foresight) memory() error {
	for _, task := range f.plan.tasks {
		name := images.Name("pagemap", task.PID)
		if !f.source.Has(name) {
			continue
		}
		pagemap, err := images.Read(f.source, name, images.ReadPagemap)
		if err != nil {
			return err
		}
		f.Memory += int64(pagemap.Saved) * int64(os.Getpagesize())
	}
	m := proc.MachineMemory()
	if left := m["MemAvailable"] + m["SwapFree"]; m["MemAvailable"] != 0 && uint64(f.Memory) > left {
		f.obstacle(syscall.ENOMEM, "memory", fmt.Sprintf("the job had %s in memory, and this machine has %s left", show.Size(f.Memory), show.Size(left)), "end something first")
	}
	return nil
}

// outside notes which descriptors become cr_restart's own.
func (f *foresight) outside() error {
	img, err := f.source.Bytes(images.FilesName)
	if err != nil {
		return err
	}
	files, err := images.Files(img)
	if err != nil {
		return err
	}
	tables, err := f.plan.tables(f.source)
	if err != nil {
		return err
	}
	f.plan.images[images.FilesName] = img
	ttys, err := f.plan.ttys(f.source)
	if err != nil {
		return err
	}
	terminals := 0
	for _, tty := range images.ExternalTTYs(files, ttys, tables) {
		terminals += len(tty.FDs)
	}
	numbers := otherPTYs(images.OwnPTYs(ttys), ptysInUse())
	for _, n := range slices.Sorted(maps.Keys(numbers)) {
		f.Notes = append(f.Notes, fmt.Sprintf("the job's own terminal %s becomes %s", images.SlaveName(n), images.SlaveName(numbers[n])))
	}
	if terminals > 0 {
		f.Notes = append(f.Notes, "the job had a terminal: it gets that of cr_restart, or /dev/null")
	}
	return nil
}
