package main

import (
	"errors"
	"fmt"

	"blcr-cli/internal/cli"
	"blcr-cli/internal/ctxfile"
	"blcr-cli/internal/show"
)

// verification is what --verify has found.
type verification struct {
	damage []ctxfile.Damage

	// unknown is how many bytes have no checksum, of what is why.
	unknown int64
	why     string
}

// mostDamage is the largest number of damaged parts that are listed.
const mostDamage = 50

// verify reads all of a context and compares its checksums.
func (r *report) verify(c *ctxfile.Reader, con *cli.Console) {
	line := con.Progress("verifying", c.Served)
	defer line.Stop()
	v := &verification{why: "memory without checksums, as in contexts of earlier versions"}
	unknown, err := c.Verify(func(d ctxfile.Damage) { v.damage = append(v.damage, d) })
	if v.unknown = unknown; err != nil {
		r.err = err
	}
	if _, ok := errors.AsType[*ctxfile.Error](r.err); ok && len(v.damage) > 0 {
		r.err = nil // one of the damages
	}
	r.verified = v
}

// found returns what is wrong with the context, one string for each line.
func (r *report) found() (lines []string) {
	if r.verified != nil {
		for i, d := range r.verified.damage {
			if i == mostDamage {
				lines = append(lines, fmt.Sprintf("%d more damaged parts", len(r.verified.damage)-i))
				break
			}
			where := "file"
			if d.Name != "" {
				where = show.Text(d.Name)
			}
			lines = append(lines, fmt.Sprintf("%s: bytes %d to %d: %s", where, d.Offset, d.Offset+d.Length-1, damageReason(d)))
		}
	}
	if r.err != nil {
		lines = append(lines, reason(r.err))
	}
	return lines
}

// damageReason is what is wrong with a part, without its name.
func damageReason(d ctxfile.Damage) string {
	e, ok := errors.AsType[*ctxfile.Error](d.Err)
	if ok {
		unnamed := *e
		unnamed.Object = ""
		return reason(&unnamed)
	}
	return reason(d.Err)
}

// verdict returns the line of --verify, or "" if something is wrong.
func (r *report) verdict() string {
	v := r.verified
	switch {
	case len(r.found()) > 0 || v == nil:
		return ""
	case v.unknown == 0:
		return show.Name(r.file) + ": whole\n"
	}
	return fmt.Sprintf("%s: no damage found, but there is %s of %s\n", show.Name(r.file), show.Size(v.unknown), v.why)
}

// whole reports whether the context is whole, as far as --verify can tell.
func (r *report) whole() (whole, known bool) {
	switch {
	case len(r.found()) > 0:
		return false, true
	case r.verified == nil || r.verified.unknown > 0:
		return false, false
	}
	return true, true
}
