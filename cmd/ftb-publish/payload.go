package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"syscall"

	"blcr-cli/internal/entry"
	"blcr-cli/internal/ftbclient/wire"
)

// payload is the payload of the event, as given on the command line.
type payload struct {
	handle   []byte // of the event that this one responds to, or nil
	source   string // the option that data or file comes from, "" for none
	data     []byte
	file     string // "-" is standard input
	isFile   bool
	errno    int32
	hasErrno bool
}

// bytes returns the payload: the handle, the user's data, the error number.
func (p *payload) bytes(stdin io.Reader) ([]byte, error) {
	room := wire.PayloadSize - len(p.handle)
	if p.hasErrno {
		room -= 4
	}
	data := p.data
	if p.isFile {
		var err error
		// One byte more, to detect that the data is too long.
		if data, err = p.read(stdin, room+1); err != nil {
			return nil, err
		}
	}
	if len(data) > room {
		beside := ""
		if room < wire.PayloadSize {
			beside = " beside the handle or the error number"
		}
		return nil, &argumentError{p.source, fmt.Sprintf("more than the %d bytes that there is room for%s", room, beside)}
	}
	b := slices.Concat(p.handle, data)
	if p.hasErrno {
		b = wire.AppendErrno(b, p.errno)
	}
	return b, nil
}

// read reads at most limit bytes of the file.
func (p *payload) read(stdin io.Reader, limit int) ([]byte, error) {
	name := p.file
	if name == "-" {
		name = "standard input"
		if entry.Closed(0) {
			return nil, fileError(name, syscall.EBADF)
		}
	} else {
		f, err := os.Open(name)
		if name == "" {
			name = "\"\""
		}
		if err != nil {
			return nil, fileError(name, err)
		}
		defer f.Close()
		stdin = f
	}
	data, err := io.ReadAll(io.LimitReader(stdin, int64(limit)))
	if err != nil {
		return nil, fileError(name, err)
	}
	return data, nil
}
