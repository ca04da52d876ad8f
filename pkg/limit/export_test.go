package limit

// Len is the number of addresses that are remembered.
func (l *Addresses) Len() int { return l.buckets.buckets.Len() }

// MaxAddresses is the most that may be remembered.
const MaxAddresses = maxAddresses
