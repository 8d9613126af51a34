package images

// IDs tell which tasks share what: two with the same number have the same
// object. Files is the N of fdinfo-N.img. The namespaces are 0 if not saved.
type IDs struct {
	VM, Files, FS, Sighand                      uint32
	PID, Net, IPC, UTS, Mnt, User, Cgroup, Time uint32
}

// TaskIDs reads ids-PID.img.
func TaskIDs(ids []byte) (IDs, error) {
	m, err := kindIDs.only(ids)
	if err != nil {
		return IDs{}, err
	}
	return parseIDs(m), nil
}

// parseIDs reads a task_kobj_ids_entry.
func parseIDs(m message) IDs {
	return IDs{
		VM: m.u32(1), Files: m.u32(2), FS: m.u32(3), Sighand: m.u32(4),
		PID: m.u32(5), Net: m.u32(6), IPC: m.u32(7), UTS: m.u32(8),
		Mnt: m.u32(9), User: m.u32(10), Cgroup: m.u32(11), Time: m.u32(12),
	}
}

// Dirs are the ids in files.img of a task's directories.
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

// Fields of mm_entry and vma_entry, and bits of vma_entry.status.
const (
	mmExe = 12
	mmVMA = 14

	vmaStart  = 1
	vmaEnd    = 2
	vmaOffset = 3
	vmaFile   = 4 // shmid
	vmaProt   = 5
	vmaStatus = 7

	statusPrivate = 1 << 6  // VMA_FILE_PRIVATE
	statusShared  = 1 << 7  // VMA_FILE_SHARED
	statusAIO     = 1 << 13 // VMA_AREA_AIORING
	statusMemFD   = 1 << 14 // VMA_AREA_MEMFD
	statusSocket  = 1 << 11 // VMA_AREA_SOCKET

	statusVsyscall = 1 << 2 // VMA_AREA_VSYSCALL
)

// Memory is what a task's memory has to do with files.
type Memory struct {
	Exe      uint32 // id in files.img
	Mappings []Mapping

	// Size is that of all mappings, also of those that are not of files. The
	// page that the kernel shows to everybody is not among them.
	Size uint64
}

// Mapping is a part of a file that is mapped.
type Mapping struct {
	Start, End uint64
	Offset     uint64 // in the file
	File       uint32 // id in files.img
	Shared     bool
	Prot       uint32 // as of mmap(2)
}

// TaskMemory reads mm-PID.img. Mappings of memfds, sockets and such are left
// out: no name stands for them.
func TaskMemory(mm []byte) (Memory, error) {
	m, err := kindMM.only(mm)
	if err != nil {
		return Memory{}, err
	}
	mem := Memory{Exe: m.u32(mmExe)}
	var v message
	for _, f := range m {
		if f.num != mmVMA || f.wire != wireBytes {
			continue
		}
		if v, err = appendMessage(v[:0], f.data); err != nil {
			return Memory{}, err
		}
		status := v.u32(vmaStatus)
		if status&statusVsyscall == 0 {
			mem.Size += v.u64(vmaEnd) - v.u64(vmaStart)
		}
		if status&(statusPrivate|statusShared) == 0 || status&(statusAIO|statusMemFD|statusSocket) != 0 {
			continue
		}
		mem.Mappings = append(mem.Mappings, Mapping{
			Start: v.u64(vmaStart), End: v.u64(vmaEnd), Offset: v.u64(vmaOffset),
			File: v.u32(vmaFile), Shared: status&statusShared != 0, Prot: v.u32(vmaProt),
		})
	}
	return mem, m.require(mmExe)
}

// State is what a task was doing.
type State uint32

// Task states (compel/include/uapi/task-state.h).
const (
	StateAlive   State = 1
	StateDead    State = 2 // it had ended and nobody had waited for it
	StateStopped State = 3
	StateZombie  State = 6
)

// Core is what core-TID.img says of a thread.
type Core struct {
	Comm string // of the process; of other threads their own

	// Of a process, that is in the image of its first thread.
	Leader   bool
	State    State
	ExitCode uint32 // of StateDead, as of wait(2)
	IDs      IDs    // by old versions of criu; else in ids-PID.img

	UID, GID uint32 // the real ones; nobody's of one that has ended
	Machine  string // as uname -m has it, "" for one that is not known
}

// machines are the names of the processors (enum march in criu-core.proto).
var machines = [...]string{1: "x86_64", 2: "armv7l", 3: "aarch64", 4: "ppc64le", 5: "s390x", 6: "mips64", 7: "loongarch64", 8: "riscv64"}

// ReadCore reads core-TID.img.
func ReadCore(core []byte) (Core, error) {
	m, err := kindCore.only(core)
	if err != nil {
		return Core{}, err
	}
	var c Core
	thread, ok, err := m.sub(5)
	if err != nil {
		return Core{}, err
	}
	if ok {
		c.Comm = thread.text(13)
		creds, _, err := thread.sub(10)
		if err != nil {
			return Core{}, err
		}
		c.UID, c.GID = creds.u32(1), creds.u32(2)
	}
	if mtype := m.u32(1); mtype < uint32(len(machines)) {
		c.Machine = machines[mtype]
	}
	task, ok, err := m.sub(3)
	if err != nil {
		return Core{}, err
	}
	if ok {
		c.Leader, c.Comm = true, task.text(6)
		c.State, c.ExitCode = State(task.u32(1)), task.u32(2)
	}
	ids, ok, err := m.sub(4)
	if ok {
		c.IDs = parseIDs(ids)
	}
	return c, err
}

// RemapType is how criu keeps a file that has lost its name.
type RemapType uint32

// Remap types (enum remap_type in remap-file-path.proto).
const (
	RemapLinked RemapType = 0 // under another name, which is another file's entry
	RemapGhost  RemapType = 1 // in ghost-file-N.img
	RemapProc   RemapType = 2 // in /proc of an ended process
)

// Remap is an entry of remap-fpath.img.
type Remap struct {
	File uint32 // id in files.img
	To   uint32 // of RemapLinked a file's id, of RemapGhost the N, of RemapProc a pid
	Type RemapType
}

// Remaps reads remap-fpath.img.
func Remaps(remap []byte) ([]Remap, error) {
	var all []Remap
	err := kindRemap.each(remap, func(m message) error {
		all = append(all, Remap{m.u32(1), m.u32(2), RemapType(m.u32(3))})
		return m.require(1, 2)
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}

// PipeData is what had been written to a pipe and not yet read.
type PipeData struct {
	PipeID uint32
	Size   uint32 // the pipe's capacity, 0 if not saved
	Data   []byte // part of the image
}

// PipesData reads pipes-data.img, where each entry is followed by its data.
func PipesData(pipesData []byte) ([]PipeData, error) {
	var all []PipeData
	err := kindPipesData.entries(pipesData, func(m message, rest []byte) (int, error) {
		if err := m.require(1, 2); err != nil {
			return 0, err
		}
		n := m.u32(2)
		if uint64(n) > uint64(len(rest)) {
			return 0, malformed("pipe %d has %d bytes of %d", m.u32(1), len(rest), n)
		}
		all = append(all, PipeData{m.u32(1), m.u32(3), rest[:n]})
		return int(n), nil
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}

// LSM is the security module that was in force.
type LSM uint32

// Security modules (enum lsmtype in inventory.proto).
const (
	LSMNone     LSM = 0
	LSMSELinux  LSM = 1
	LSMAppArmor LSM = 2
)

// Inventory is inventory.img.
type Inventory struct {
	Version     uint32 // of the image format: 2 since CRIU 1.1
	FDInfoPerID bool   // fdinfo-N is by IDs.Files, not by pid
	Root        IDs    // of the process that ran criu
	LSM         LSM
	Uptime      uint64 // of the machine at the dump, in microseconds, 0 if not saved
	RunID       string // of criu, "" by versions before 4
}

// ReadInventory reads inventory.img.
func ReadInventory(inventory []byte) (Inventory, error) {
	m, err := kindInventory.only(inventory)
	if err != nil {
		return Inventory{}, err
	}
	root, _, err := m.sub(3)
	if err != nil {
		return Inventory{}, err
	}
	return Inventory{
		Version: m.u32(1), FDInfoPerID: m.flag(2), Root: parseIDs(root),
		LSM: LSM(m.u32(6)), Uptime: m.u64(8), RunID: m.text(13),
	}, m.require(1)
}
