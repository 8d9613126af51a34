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
)

// Names of members of a context that are not CRIU's. Files that were saved with
// the processes are further ones; see IsSavedFile.
const (
	ExternalPipesName = "external-pipes" // see ParseExternalPipes
	SavedFilesName    = "saved-files"    // see ParseSavedFiles
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
)

// IsPages reports whether a name is that of an image of memory.
func IsPages(name string) bool { return strings.HasPrefix(name, pagesPrefix) }

// IsGhost reports whether a name is that of an image with a file's content.
func IsGhost(name string) bool { return strings.HasPrefix(name, ghostPrefix) }

// IsMember reports whether a name is that of a member of a context that is not
// CRIU's. All that are ever stored must be known here.
func IsMember(name string) bool {
	return name == SavedFilesName || name == ExternalPipesName || IsSavedFile(name)
}

// IsImage reports whether a file of that name belongs into a directory of images:
// images, members of a context, and what else criu writes there. Such a directory
// may be replaced; one with other files may not.
func IsImage(name string) bool {
	switch name {
	case ParentName, "stats-dump", "stats-restore", "dump.log", "restore.log":
		return true
	}
	return strings.HasSuffix(name, ".img") && name != ".img" || IsMember(name)
}
