// Package ctxfile is the one-file context of the criu engine: a file of named
// members, any of which can be read first. A Writer stores many members at the same
// time, a Reader serves them likewise, and both need the same few MiB of memory
// for a context of 16 MiB and for one of 4 GiB.
//
// The package knows nothing of what is in a member, nor what its name says, and
// nothing of engines, options and messages.
//
// # Where a context may be written and read
//
// In a regular file or on a block device a context begins at the descriptor's
// offset, which is behind the context when it is finished; nothing else in the file
// is touched. A pipe, a FIFO, a socket, a file opened with O_APPEND or a character
// device is written from front to back. Both give the same format. What went
// through "cr_checkpoint -F 1 | cat >file" is read like any other context, contexts
// may stand one behind another in one file, and a context that comes out of a pipe
// is read into an unlinked temporary file first.
//
// # Format
//
// This is version 3, in which everything has a checksum. Version 2 had compression,
// version 1 had not; a reader knows them as well. What is of one version only says so.
// A reader refuses a version and a flag that it does not know.
//
// Numbers are unsigned and little-endian. Tables have offset, length and name of
// each field, in bytes. Offsets in the file are counted from the first byte of the
// context. Checksums are CRC-32C (Castagnoli; of "123456789" it is 0xe3069283). The
// length of a context is a multiple of 4096, so that several in one file are all
// aligned:
//
//	0       header page, 4096 bytes
//	4096    data of the members
//	        index
//	        zeros, fewer than 4096
//	end-64  trailer, 64 bytes
//
// # Header page
//
// It is for people first: "head -n 15" shows it.
//
//	0     4032  text, filled with line feeds
//	4032  8     offset of the trailer, or 0 if the writer could not go back to
//	            write it here
//	4040  16    ID of this context, random
//	4056  36    zeros
//	4092  4     checksum of the page, with the eight bytes at 4032 taken as zeros
//
// The text is lines, each ended by a line feed, and then an empty line. The first
// line is "blcr-cli context " and the version in decimal digits. The others are
// "key: value", in any order. A reader ignores keys that it does not know, and
// values that it does not understand. No key has to be there but compression, if
// members are compressed, as they are in version 2.
//
//	engine       what saved the processes, and its version
//	created      when, RFC 3339, in UTC
//	host         the machine's name
//	kernel       its release
//	machine      its architecture, as "uname -m" prints it
//	compression  from version 2 on: "zstd"
//	command      list: the arguments of the root process
//	pids         list: the processes saved, the root first
//
// Text that has a control character, a quotation mark, a backslash, or a blank at
// one of its ends is written as an interpreted string literal of the Go language:
// in double quotes, with escapes such as \n, \", \\, \x1b and \u00e9. So no line has
// a control character. A list is words with a blank between them. A word is quoted
// likewise unless all of it is ASCII letters, digits and "_-+./,:=@%". A list that
// was too long ends in the bare word "..."; the word before that may have been cut.
//
// # Data
//
// A member is a sequence of extents, or if it is compressed, of frames. They lie
// anywhere between header page and index, in any order, and none overlaps another.
// What is between them, the gaps, has no meaning. Extents of memory begin at multiples of 4096;
// a reader does not depend on that.
//
// # Index
//
// There is an entry for each member, in the order in which they were begun:
//
//	0   2   length of the name
//	2   2   flags
//	4   4   length of a chunk if flag 4 is set, checksum of the member's content if
//	        flag 1 is set, else 0
//	8   8   size of the member's content
//	16  4   number of extents, or of frames if flag 2 is set
//	20      the name, then the extents or frames in the order of the content, then
//	        the checksums of the chunks if flag 4 is set
//
// The flags:
//
//	1  before version 3: there is a checksum of the whole content
//	2  from version 2 on: it is compressed, and has frames
//	4  from version 3 on: it has checksums of its chunks
//	8  from version 3 on: it is memory, which may be restored without being checked
//
// A name has 1 to 255 bytes, none of them a slash or a control character of Unicode,
// and is neither "." nor ".."; no two are the same. In version 3 either flag 2 or flag
// 4 is set. Before, flags 1 and 2 excluded each other, and memory that the kernel had
// moved into the file without the writer seeing it had no checksum. There are at most
// 1048576 entries, and the index has at most 64 MiB.
//
// A chunk is the next so many bytes of the content, the last one less. Its length is a
// power of two from 65536 to 1073741824. Each has a checksum of 4 bytes.
//
// An extent is 16 bytes:
//
//	0   8   offset in the file
//	8   8   length, not 0
//
// A frame is 20 bytes, and is the next 1 to 524288 bytes of the content:
//
//	0   8   offset in the file
//	8   4   stored length, what it takes there
//	12  4   length, what it has of the content
//	16  4   checksum
//
// The checksum is that of what is stored, followed by the content if that is not the
// same. Before version 3 it was that of the content.
//
// If the stored length is 0, the content is zeros, and offset and checksum are 0. If
// it is the length, the content is stored as it is. Else it is less than the length,
// and what is stored is one frame of Zstandard (RFC 8878) without a dictionary,
// whose window is at most 524288 bytes. Members of fewer than 4096 bytes are better
// not compressed.
//
// # Trailer
//
//	0   8   "\x00END\r\n\x1a\n"
//	8   16  the ID of the header page
//	24  8   offset of the index
//	32  8   length of the index
//	40  8   length of the context, all from header page to trailer
//	48  4   number of entries of the index
//	52  4   checksum of the index
//	56  4   from version 3 on: checksum of the gaps, in the order of the file;
//	        before, zeros
//	60  4   checksum of the 60 bytes before
//
// If the header page has the offset of the trailer, it lies there. If it has 0, the
// last 64 bytes of the file are a trailer. That one may belong to another context:
// its length says where that begins, and the 64 bytes before are again a trailer.
// The right one is that whose context begins where the header page is, and its ID
// must be that of the header page.
//
// The checksums of memory that the kernel has moved are computed when all data is in
// the file, from what the page cache has. Index and trailer are written last, and the trailer's offset after them. So a
// context that was cut short anywhere lacks its trailer, and a reader refuses it.
package ctxfile
