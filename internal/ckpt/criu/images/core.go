package images

// IDs tell which tasks share an object (task_kobj_ids_entry in core.proto): two
// with the same id have the same one. 0 is for an object that was not saved.
type IDs struct {
	Files uint32 // the table of descriptors, the N of fdinfo-N.img
	Mount uint32 // the mount namespace, the N of mountpoints-N.img if that was saved
	Time  uint32 // the time namespace, the N of timens-N.img
}

// Fields of task_kobj_ids_entry.
const (
	idsFiles = 2
	idsMount = 9
	idsTime  = 12
)

// TaskIDs reads ids-PID.img.
func TaskIDs(ids []byte) (IDs, error) {
	m, err := kindIDs.only(ids)
	return parseIDs(m), err
}

// parseIDs reads a task_kobj_ids_entry.
func parseIDs(m message) IDs {
	return IDs{Files: m.u32(idsFiles), Mount: m.u32(idsMount), Time: m.u32(idsTime)}
}

// Dirs are a task's directories, each a File.ID (fs_entry in fs.proto).
type Dirs struct {
	Cwd, Root uint32
}

// TaskDirs reads fs-PID.img.
func TaskDirs(fs []byte) (Dirs, error) {
	m, err := kindFS.only(fs)
	if err != nil {
		return Dirs{}, err
	}
	return Dirs{Cwd: m.u32(1), Root: m.u32(2)}, m.require(1, 2)
}

// Fields of mm_entry and vma_entry, and bits of vma_entry.status, which are
// VMA_FILE_PRIVATE and so on in criu/include/image.h.
const (
	mmStack = 5
	mmExe   = 12
	mmVMA   = 14

	vmaStart  = 1
	vmaEnd    = 2
	vmaFile   = 4 // shmid
	vmaFlags  = 6 // of mmap(2)
	vmaStatus = 7
	vmaOpen   = 10 // fdflags, of open(2)

	mapPrivate   = 0x2
	mapNoReserve = 0x4000
	mapHugeTLB   = 0x40000

	vmaVsyscall    = 1 << 2
	vmaFilePrivate = 1 << 6
	vmaFileShared  = 1 << 7
	vmaSocket      = 1 << 11
	vmaAIORing     = 1 << 13
	vmaMemFD       = 1 << 14
)

// Memory is a task's address space (mm_entry in mm.proto, vma_entry in
// vma.proto).
type Memory struct {
	Exe uint32 // File.ID of the executable

	// Stack is where the stack of its first thread began. A process has that of its
	// parent after a fork, and another after an exec.
	Stack uint64

	// Mapped are the files that are mapped, as File.ID, one for each mapping.
	// Mappings of memfds, sockets and the like are left out: these have no name.
	Mapped []uint32

	// Written are those of Mapped that were opened for writing as well.
	Written []uint32

	// Size is how many bytes are mapped, of files or not. The vsyscall page,
	// which the kernel shows to every process, does not count.
	Size uint64

	// Largest is the size of the largest mapping that is private.
	Largest uint64

	// HugePages: some of it is private and in pages of hugetlbfs.
	HugePages bool
}

// TaskMemory reads mm-PID.img.
func TaskMemory(mm []byte) (Memory, error) {
	m, err := kindMM.only(mm)
	if err != nil {
		return Memory{}, err
	}
	mem := Memory{Exe: m.u32(mmExe), Stack: m.u64(mmStack)}
	var v message
	for _, f := range m {
		if f.num != mmVMA || f.wire != wireBytes {
			continue
		}
		if v, err = appendMessage(v[:0], f.data()); err != nil {
			return Memory{}, err
		}
		status := v.u32(vmaStatus)
		if status&vmaVsyscall == 0 {
			mem.Size += v.u64(vmaEnd) - v.u64(vmaStart)
		}
		if v.u32(vmaFlags)&mapPrivate != 0 {
			mem.Largest = max(mem.Largest, v.u64(vmaEnd)-v.u64(vmaStart))
			mem.HugePages = mem.HugePages || v.u32(vmaFlags)&mapHugeTLB != 0
		}
		if status&(vmaFilePrivate|vmaFileShared) != 0 && status&(vmaAIORing|vmaMemFD|vmaSocket) == 0 {
			mem.Mapped = append(mem.Mapped, v.u32(vmaFile))
			if v.u32(vmaOpen)&accessMode != readOnly {
				mem.Written = append(mem.Written, v.u32(vmaFile))
			}
		}
	}
	return mem, m.require(mmExe)
}

// NotReserved changes mm-PID.img so that private mappings of more than most bytes are made
// with MAP_NORESERVE.
func NotReserved(mm []byte, most uint64) ([]byte, error) {
	return rewriteMappings(mm, func(v message) (message, bool) {
		flags := v.u64(vmaFlags)
		if flags&mapPrivate == 0 || v.u64(vmaEnd)-v.u64(vmaStart) <= most {
			return v, false
		}
		return v.put(intField(vmaFlags, flags|mapNoReserve)), true
	})
}

// rewriteMappings changes those vma_entry messages of mm-PID.img that change reports to have
// changed.
func rewriteMappings(mm []byte, change func(v message) (message, bool)) ([]byte, error) {
	return kindMM.rewrite(mm, func(_ int, m message) (message, error) {
		for i, f := range m {
			if f.num != mmVMA || f.wire != wireBytes {
				continue
			}
			v, err := parseMessage(f.data())
			if err != nil {
				return nil, err
			}
			if v, changed := change(v); changed {
				m[i] = bytesField(mmVMA, v.append(nil))
			}
		}
		return m, nil
	})
}

// Mappings returns the mappings in mm-PID.img, in its order, which is that of their
// addresses.
func Mappings(mm []byte) ([]Range, error) {
	return mappings(mm, func(message) bool { return true })
}

// mappings returns those mappings that which chooses.
func mappings(mm []byte, which func(v message) bool) ([]Range, error) {
	m, err := kindMM.only(mm)
	if err != nil {
		return nil, err
	}
	var all []Range
	var v message
	for _, f := range m {
		if f.num != mmVMA || f.wire != wireBytes {
			continue
		}
		if v, err = appendMessage(v[:0], f.data()); err != nil {
			return nil, err
		}
		if which(v) {
			all = append(all, Range{v.u64(vmaStart), v.u64(vmaEnd)})
		}
	}
	return all, nil
}

// State is what a task was doing.
type State uint32

// Task states (compel/include/uapi/task-state.h).
const (
	StateAlive   State = 1
	StateDead    State = 2 // it had ended and its parent had not waited for it yet
	StateStopped State = 3
	StateZombie  State = 6
)

// Ended reports whether the task had ended.
func (s State) Ended() bool { return s == StateDead || s == StateZombie }

// Core is core-TID.img (core_entry in core.proto).
type Core struct {
	Comm     string // the name of the thread
	UID, GID uint32 // the real ones (creds_entry in creds.proto); 0 of a task that had ended
	Machine  string // as of uname -m, "" if it is not known

	// Of a process, in the image of its main thread (task_core_entry).
	State    State
	ExitCode uint32 // as of wait(2), if it had ended
	IDs      IDs    // by old versions of criu; else in ids-PID.img

	// Ignored are the signals that it ignores, signal N as bit N-1; of a new
	// version of criu.
	Ignored uint64
}

// machines are the names of enum march in core.proto.
var machines = [...]string{1: "x86_64", 2: "armv7l", 3: "aarch64", 4: "ppc64le", 5: "s390x", 6: "mips64", 7: "loongarch64", 8: "riscv64"}

// ReadCore reads core-TID.img.
func ReadCore(core []byte) (Core, error) {
	m, err := kindCore.only(core)
	if err != nil {
		return Core{}, err
	}
	task, err := m.sub(3) // task_core_entry
	if err != nil {
		return Core{}, err
	}
	ids, err := m.sub(4)
	if err != nil {
		return Core{}, err
	}
	thread, err := m.sub(5) // thread_core_entry
	if err != nil {
		return Core{}, err
	}
	creds, err := thread.sub(10)
	if err != nil {
		return Core{}, err
	}
	c := Core{
		Comm: thread.text(13), UID: creds.u32(1), GID: creds.u32(2),
		State: State(task.u32(1)), ExitCode: task.u32(2), IDs: parseIDs(ids),
	}
	if task != nil {
		c.Comm = task.text(6)
	}
	if c.Ignored, err = ignored(task); err != nil {
		return Core{}, err
	}
	if mtype := m.u32(1); mtype < uint32(len(machines)) {
		c.Machine = machines[mtype]
	}
	return c, nil
}

// Inventory is inventory.img (inventory_entry in inventory.proto).
type Inventory struct {
	FDInfoPerID bool // fdinfo-N.img is by IDs.Files; else by pid
	CRIU        IDs  // of criu's own process (root_ids)
}

// ReadInventory reads inventory.img.
func ReadInventory(inventory []byte) (Inventory, error) {
	m, err := kindInventory.only(inventory)
	if err != nil {
		return Inventory{}, err
	}
	root, err := m.sub(3)
	if err != nil {
		return Inventory{}, err
	}
	return Inventory{FDInfoPerID: m.u64(2) != 0, CRIU: parseIDs(root)}, m.require(1)
}

// ignored returns the signals that a task_core_entry says to be ignored. It has a
// sa_entry for each signal but SIGKILL and SIGSTOP, in their order.
func ignored(task message) (signals uint64, err error) {
	const (
		taskSigactions = 15
		sigkill        = 9
		sigstop        = 19
		sigIgn         = 1
	)
	signal := 1
	for _, f := range task {
		if f.num != taskSigactions || f.wire != wireBytes {
			continue
		}
		action, err := parseMessage(f.data())
		if err != nil {
			return 0, err
		}
		for signal == sigkill || signal == sigstop {
			signal++
		}
		if signal <= 64 && action.u64(1) == sigIgn {
			signals |= 1 << (signal - 1)
		}
		signal++
	}
	return signals, nil
}
