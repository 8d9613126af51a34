package wire

// All matches everything in a field of a mask.
const All = "all"

// NewMask is a mask that matches every event: to be made narrower, and sent in
// a RegSubscription and the SubscriptionCancel that ends it (section 4).
func NewMask() Event {
	return Event{Region: All, CompCat: All, Comp: All, Name: All, Severity: All, JobID: All, ClientName: All, Hostname: All}
}

// Match reports whether an agent gives ev to a client that subscribed with the
// mask. (Agents of FTB 0.6 do not look at ClientName.)
func (mask *Event) Match(ev *Event) bool {
	if !match(mask.Region, ev.Region) || !match(mask.JobID, ev.JobID) ||
		!match(mask.ClientName, ev.ClientName) || !match(mask.Hostname, ev.Hostname) {
		return false
	}
	// A name is enough: the rest is then not looked at.
	if !EqualFold(mask.Name, All) {
		return EqualFold(mask.Name, ev.Name)
	}
	return match(mask.Severity, ev.Severity) && match(mask.CompCat, ev.CompCat) && match(mask.Comp, ev.Comp)
}

func match(mask, value string) bool {
	return EqualFold(mask, All) || EqualFold(mask, value)
}
