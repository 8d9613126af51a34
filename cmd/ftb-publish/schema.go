package main

import (
	"fmt"
	"slices"
	"strings"

	"blcr-cli/internal/blcrevents"
	"blcr-cli/internal/ftbclient/wire"
)

// BLCR's event space contains BLCR's six events and no others, each in one form: its
// subscribers rely on that. What this command publishes there has to have it, too.

// schema are the six events, as subscribers know them.
var schema = []string{"CHKPT_BEGIN", "CHKPT_END", "CHKPT_ERROR", "RSTRT_BEGIN", "RSTRT_END", "RSTRT_ERROR"}

func (s *settings) inBLCRsSpace() bool { return wire.EqualFold(s.identity.Space, blcrevents.Space) }

// checkSchema checks the event if it goes to BLCR's space.
func (s *settings) checkSchema() error {
	if !s.inBLCRsSpace() {
		return nil
	}
	name := strings.ToUpper(s.event.Name) // FTB compares names without case
	refuse := func(format string, args ...any) error {
		return &argumentError{"", fmt.Sprintf(name+" of "+blcrevents.Space+" "+format, args...)}
	}
	if !slices.Contains(schema, name) {
		return &argumentError{fmt.Sprintf("event name %q", s.event.Name),
			"not one of BLCR's six events, so it needs an event space of its own, such as --space SITE.scheduler.prolog"}
	}
	operation, kind, _ := strings.Cut(name, "_")
	begin := operation + "_BEGIN"
	switch {
	case !wire.EqualFold(s.event.Severity, severity(s.identity.Space, name)):
		return refuse("has severity %s", severity(s.identity.Space, name))
	case s.payload.source != "":
		return refuse("has no payload of that kind: %s", s.payload.source)
	case (kind == "ERROR") != (s.payload.errno != 0) || s.payload.hasErrno && kind != "ERROR":
		if kind == "ERROR" {
			return refuse("has an error number: --errno, and not 0")
		}
		return refuse("has no error number: --errno")
	case kind == "BEGIN" && s.event.Type == wire.Response:
		return refuse("is no response: --reply-to")
	case kind == "BEGIN":
		return nil
	case s.event.Type != wire.Response:
		return refuse("is a response: --reply-to with the handle of a %s, by --print-handle", begin)
	}
	var about wire.Handle
	if err := about.Decode(s.payload.handle); err != nil || !wire.EqualFold(about.EventName, begin) ||
		!wire.EqualFold(about.Client.Region+"."+about.Client.CompCat+"."+about.Client.Comp, blcrevents.Space) {
		return refuse("is a response to a %s of that space; the handle is another event's", begin)
	}
	return nil
}
