package wire

// All matches everything in a field of a mask.
const All = "all"

// NewMask returns a mask that matches every event. It can be narrowed, and is sent in a
// RegSubscription and in the SubscriptionCancel that ends it (section 4).
func NewMask() Event {
	return Event{Region: All, CompCat: All, Comp: All, Name: All, Severity: All, JobID: All, ClientName: All, Hostname: All}
}

// Match reports whether an agent sends ev to a client that has subscribed with the
// mask. (Agents of FTB 0.6 ignore ClientName.)
func (mask *Event) Match(ev *Event) bool {
	if !match(mask.Region, ev.Region) || !match(mask.JobID, ev.JobID) ||
		!match(mask.ClientName, ev.ClientName) || !match(mask.Hostname, ev.Hostname) {
		return false
	}
	// If there is a name, the rest is not compared.
	if !EqualFold(mask.Name, All) {
		return EqualFold(mask.Name, ev.Name)
	}
	return match(mask.Severity, ev.Severity) && match(mask.CompCat, ev.CompCat) && match(mask.Comp, ev.Comp)
}

func match(mask, value string) bool {
	return EqualFold(mask, All) || EqualFold(mask, value)
}
