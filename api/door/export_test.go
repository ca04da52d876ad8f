package door

// Len is the number of addresses that the limiter remembers.
func (l *FailureLimiter) Len() int { return l.buckets.Len() }

// MaxAddresses is the most that it may remember.
const MaxAddresses = maxAddresses

// TableErrors are the errors that have rows, in order.
func TableErrors() []error {
	var out []error
	for _, r := range rows() {
		out = append(out, r.err)
	}
	return out
}
