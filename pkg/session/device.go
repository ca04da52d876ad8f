package session

import "slices"

// A browser that loads a page anew, or opens another tab of it, gets a session each time, and none of them may end for
// it: a tab that slept for hours still has the refresh token in its memory. To the person they are one: the same
// browser, logged in once, at the same client.

// Device is what a person knows as one login: a session, its children, and others of the same browser login at the same client.
type Device struct {
	Session      // that was used last, or that is the caller's own
	Others  []ID // in no order
}

// Devices gathers a list of sessions, newest first, into devices. The session whose ID is own stands for its device.
func Devices(list []Session, own string) []Device {
	type at struct {
		browser [32]byte
		client  string
		root    ID // where there was no browser login
	}
	var devices []Device
	seen := make(map[at]int)
	for _, s := range list {
		key := at{browser: s.Browser, client: s.ClientID}
		if s.Browser == [32]byte{} {
			key.root = s.Root()
		}
		i, known := seen[key]
		if !known {
			seen[key] = len(devices)
			devices = append(devices, Device{Session: s})
			continue
		}
		d := &devices[i]
		shown, created := d.Session, s.CreatedAt // the list begins with the newest
		if d.ID.String() != own && (s.ID.String() == own || s.RotatedAt.After(d.RotatedAt)) {
			d.Session, s = s, shown
		}
		d.Others = append(d.Others, s.ID)
		d.CreatedAt = created
		if s.RotatedAt.After(d.RotatedAt) {
			d.RotatedAt = s.RotatedAt
		}
	}
	return slices.Clip(devices)
}
