package ftbclient

import (
	"fmt"
	"strings"

	"blcr-cli/internal/ftbclient/wire"
)

// ParseMask parses a subscription string of the C library (section 4): pairs KEY=VALUE
// with commas between them, where blanks and tabs around keys and values do not count. A
// key that is missing matches everything, as the value "all" does, so "" matches every
// event. Values are sent as they are spelled.
//
// The error is an *Error of kind ErrInvalid. Where the C library crashes, or ignores a
// part of the string, that is an error too.
func ParseMask(s string) (wire.Event, error) {
	mask := wire.NewMask()
	if s == "" {
		return mask, nil
	}
	refuse := func(format string, args ...any) (wire.Event, error) {
		return wire.Event{}, invalid("mask", s, fmt.Sprintf(format, args...))
	}
	given := map[string]bool{}
	for pair := range strings.SplitSeq(s, ",") {
		key, value, found := strings.Cut(pair, "=")
		key, value = strings.ToLower(strings.Trim(key, " \t")), strings.Trim(value, " \t")
		switch {
		case strings.Trim(pair, " \t") == "":
			return refuse("a comma without a KEY=VALUE beside it")
		case !found, key == "", value == "":
			return refuse("%q is not KEY=VALUE", pair)
		case strings.ContainsAny(key+value, " \t"):
			return refuse("a blank inside %q", pair)
		case strings.ContainsAny(value, "=\x00"):
			return refuse("a value cannot contain %q", value[strings.IndexAny(value, "=\x00"):][:1])
		case given[key]:
			return refuse("%s is given twice", key)
		}
		given[key] = true
		if why := setMask(&mask, key, value); why != "" {
			return refuse("%s", why)
		}
	}
	return mask, nil
}

// maskKeys are the keys of a mask, for messages.
const maskKeys = "event_space, event_name, severity, host_name, jobid and client_name"

// setMask sets what one key is for. It returns why it cannot, or "".
func setMask(mask *wire.Event, key, value string) (why string) {
	text := func(field *string, limit int) string {
		if len(value) > limit {
			return fmt.Sprintf("%s has more than %d bytes", key, limit)
		}
		*field = value
		return ""
	}
	switch key {
	case "event_space":
		client, err := (&Identity{Space: value}).check()
		if err != nil {
			return "event_space: " + err.(*Error).Err.Error()
		}
		mask.Region, mask.CompCat, mask.Comp = client.Region, client.CompCat, client.Comp
		return ""
	case "event_name":
		return text(&mask.Name, wire.MaxName)
	case "severity":
		if CheckSeverity(value) != nil && !wire.EqualFold(value, wire.All) {
			return fmt.Sprintf("severity %q is none of fatal, error, warning, info and all", value)
		}
		mask.Severity = value
		return ""
	case "host_name":
		return text(&mask.Hostname, wire.MaxHostname)
	case "jobid":
		return text(&mask.JobID, wire.MaxJobID)
	case "client_name":
		return text(&mask.ClientName, wire.MaxClient)
	}
	return fmt.Sprintf("%q is none of the keys %s", key, maskKeys)
}
