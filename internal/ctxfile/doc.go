// Package ctxfile is the one-file context of the criu engine: the images that
// criu writes, each a member with a name, in a file of which any member can be
// read first. A Writer stores many images at the same time, a Reader serves
// them likewise, and both need the same little memory for 16 MiB and for 4 GiB.
//
// It knows nothing of what is in an image, nor what its name says.
//
// # Where it may be written and read
//
// There is one format. In a regular file or on a block device the context
// begins at the descriptor's offset, which is behind the context when it is
// finished; nothing else in the file is touched. A pipe, a FIFO, a socket, a
// file opened with O_APPEND or a character device is written from front to
// back. What went through "cr_checkpoint -F 1 | cat >file" is read like any
// other, contexts may stand one behind another in one file, and one that comes
// out of a pipe is read into an unlinked temporary file first.
//
// # Compression
//
// A Writer can be asked to compress. Then an image is cut into frames, which
// several workers compress and write as they get done, so that the order in the
// file is chance; a Reader decompresses them ahead of whoever is served. Any
// part of an image can be read by decompressing only the frames that it touches.
//
// # Format, version 1, and 2 where there is compression
//
// Numbers are little-endian and unsigned. Offsets are counted from the first
// byte of the context. Checksums are CRC-32C (Castagnoli). The length of a
// context is a multiple of 4096, so that several in one file are all aligned:
//
//	0       header page, 4096 bytes
//	4096    data of the images
//	        index
//	        zeros, fewer than 4096
//	end-64  trailer, 64 bytes
//
// The header page is for people first: "head -n 15" shows it. It is
//
//	0     text: lines "key: value", the first of them "blcr-cli context 1"
//	      or "blcr-cli context 2", then an empty line and line feeds up to 4032
//	4032  8   offset of the trailer, or 0 if whoever wrote could not go back:
//	          then the trailer is found from the end of the file
//	4040  16  random ID of this context
//	4056  36  zeros
//	4092  4   checksum of the page, the eight bytes at 4032 taken as zeros
//
// Keys are engine, created (RFC 3339, UTC), host, kernel, machine, compression,
// command and pids; a reader ignores the others. Compression is that of version
// 2, where it has to be there and to be "zstd". One that is not known has no line. A value
// that is not plain is quoted like a string of Go's, and so is each word of
// command; no line has a control character. A list that was too long ends in
// the bare word "...".
//
// The data of an image is a list of extents, which have an offset and a length.
// Each byte belongs to one extent at most. What is between extents has no meaning.
// Extents of images that are memory start at multiples of 4096.
//
// The index has an entry for each image, in the order in which they were begun:
//
//	0   2   length of the name
//	2   2   flags: 1, there is a checksum; 2, of version 2 only, the image is
//	        compressed, and then it has frames instead of extents
//	4   4   checksum of the data, or 0
//	8   8   size in bytes
//	16  4   number of extents, or of frames
//	20      the name, then 16 bytes for each extent: offset, length
//	        or 20 bytes for each frame
//
// A name has 1 to 255 bytes, none of them a slash or a control character, and
// is neither "." nor ".."; no two are the same. Data that did not pass through
// the writer's memory, memory of processes in a regular file, has no checksum.
// There are at most 1048576 entries, and the index has at most 64 MiB.
//
// The frames of an image are in its order; each is the next 1 to 524288 bytes.
// They lie anywhere in the file, aligned to nothing, and do not overlap either:
//
//	0   8   offset in the file
//	8   4   stored length, what it takes there
//	12  4   length, what it has of the image
//	16  4   checksum of that part of the image
//
// If the stored length is the length the frame is stored as it is. If it is 0,
// and so are offset and checksum, the frame is zeros. Else it is less than the
// length, and the frame is one frame of Zstandard (RFC 8878) without a
// dictionary. A compressed image has no checksum as a whole. One of fewer than
// 4096 bytes is better not compressed.
//
// The trailer is
//
//	0   8   "\x00END\r\n\x1a\n"
//	8   16  the ID of the header
//	24  8   offset of the index
//	32  8   length of the index
//	40  8   length of the context, all from header to trailer
//	48  4   number of entries of the index
//	52  4   checksum of the index
//	56  4   zeros
//	60  4   checksum of the 60 bytes before
//
// Index and trailer are written last. A context that was cut short anywhere
// lacks them, and is refused. If the offset in the header is 0, the last 64
// bytes of the file are a trailer; should that be another context's, which its
// length tells, then the one before ends where that begins, and so on.
package ctxfile
