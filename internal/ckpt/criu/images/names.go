package images

import (
	"fmt"
	"strings"
)

// Names of images of which a dump has one.
const (
	InventoryName = "inventory.img" // in every dump
	PstreeName    = "pstree.img"
	FilesName     = "files.img"
	RemapName     = "remap-fpath.img"
	MemFDName     = "memfd.img"
	TTYInfoName   = "tty-info.img"
	TTYDataName   = "tty-data.img"
	FileLocksName = "filelocks.img"
)

// Names of members of a context that are not CRIU's. Files that were saved with
// the processes are further ones; see IsSavedFile.
const (
	ExternalPipesName = "external-pipes" // see ParseExternalPipes
	SavedFilesName    = "saved-files"    // see ParseSavedFiles
	AttributesName    = "attributes"     // see package attributes
	ElsewhereName     = "elsewhere"      // see ParseElsewhere
	ProcessorName     = "processor"      // see package cpu
)

// ParentName is the symbolic link to an earlier dump in the directory of an
// incremental one.
const ParentName = "parent"

// Name returns the name of an image of which a dump has many: kind is "core" (n
// is a thread id), "ids", "mm", "fs", "pagemap" (a pid), "fdinfo" (IDs.Files),
// "timens" (IDs.Time) or "pages" (Pagemap.PagesID).
func Name[N ~int32 | ~uint32](kind string, n N) string { return fmt.Sprintf("%s-%d.img", kind, n) }

// GhostName returns the name of the image with the content of a RemapGhost.
func GhostName(n uint32) string { return fmt.Sprintf("%s%x.img", ghostPrefix, n) }

const (
	ghostPrefix = "ghost-file-"
	pagesPrefix = "pages-"

	pagemapPrefix = "pagemap-"
)

// IsPages reports whether a name is that of an image of memory.
func IsPages(name string) bool { return strings.HasPrefix(name, pagesPrefix) }

// IsPagemap reports whether a name is that of an image that says which memory is in one
// of those. Criu opens it before it takes the first page, and the other one next.
func IsPagemap(name string) bool { return strings.HasPrefix(name, pagemapPrefix) }

// IsMemory reports whether a name is one or the other.
func IsMemory(name string) bool { return IsPagemap(name) || IsPages(name) }

// IsGhost reports whether a name is that of an image with a file's content.
func IsGhost(name string) bool { return strings.HasPrefix(name, ghostPrefix) }

// IsMember reports whether a name is that of a member of a context that is not
// CRIU's. All that are ever stored must be known here.
func IsMember(name string) bool {
	return name == SavedFilesName || name == ExternalPipesName || name == AttributesName || name == ElsewhereName || name == ProcessorName || IsSavedFile(name)
}

// IsImage reports whether a file of that name belongs into a directory of images:
// images, members of a context, and what else criu writes there. Such a directory
// may be replaced; one with other files may not.
func IsImage(name string) bool {
	switch name {
	case ParentName, "stats-dump", "stats-restore", "dump.log", "restore.log":
		return true
	}
	return isImage(name) || IsMember(name)
}

// The names of CRIU's images, less ".img": those of which a dump has one, and those
// that have a "-" and a number behind them. They are those of CRIU 4.2, and of earlier
// versions (criu/image-desc.c).
var (
	single = set(`
		apparmor binfmt-misc bpfmap-data bpfmap-file cgroup cpuinfo eventfd eventpoll
		eventpoll-tfd ext-files fanotify fanotify-mark fifo fifo-data files filelocks
		inetsk inotify inotify-wd inventory irmap-cache memfd netlinksk ns-files packetsk
		pidfd pipes pipes-data pstree reg-files remap-fpath seccomp signalfd sk-queues
		timerfd tty tty-data tty-info tunfile unixsk`)
	numbered = set(`
		autofs binfmt-misc core creds fdinfo fs ids ifaddr ip6tables ip6tables-nft
		ipcns-msg ipcns-sem ipcns-shm ipcns-var iptables iptables-nft itimers mm
		mountpoints netdev netns netns-ct netns-exp nftables pagemap pagemap-shmem pages
		pages-shmem pidns posix-timers rlimit route route6 rule sigacts signal-p signal-s
		timens tmpfs tmpfs-dev userns utsns vmas`)
	// Their numbers are hexadecimal.
	hexadecimal = set("ghost-file tcp-stream")
)

func set(words string) map[string]bool {
	s := make(map[string]bool)
	for word := range strings.FieldsSeq(words) {
		s[word] = true
	}
	return s
}

// isImage reports whether CRIU gives that name to an image. A file that merely ends in
// ".img" may be a user's, such as the disk of a virtual machine.
func isImage(name string) bool {
	name, ok := strings.CutSuffix(name, ".img")
	if !ok {
		return false
	}
	if single[name] {
		return true
	}
	// The content of a file system is an archive.
	name = strings.TrimSuffix(name, ".tar.gz")
	dash := strings.LastIndexByte(name, '-')
	if dash < 0 || dash == len(name)-1 {
		return false
	}
	kind, number := name[:dash], name[dash+1:]
	switch {
	case numbered[kind]:
		return strings.Trim(number, "0123456789") == ""
	case hexadecimal[kind]:
		return strings.Trim(number, "0123456789abcdef") == ""
	}
	return false
}
