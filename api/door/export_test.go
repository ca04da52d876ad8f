package door

// TableErrors are the errors that have rows, in order.
func TableErrors() []error {
	var out []error
	for _, r := range rows() {
		out = append(out, r.err)
	}
	return out
}
