package session

import (
	"testing"
	"time"
)

func TestDevices(t *testing.T) {
	at := func(minute int) time.Time { return time.Date(2026, 3, 1, 12, minute, 0, 0, time.UTC) }
	one := func(id, browser byte, client string, created, used int) Session {
		return Session{ID: ID{id}, Browser: [32]byte{browser}, ClientID: client, CreatedAt: at(created), RotatedAt: at(used)}
	}
	list := []Session{ // the newest first
		one(1, 7, "spa", 50, 50),
		one(2, 7, "spa", 40, 58),
		one(3, 0, "app", 30, 30),
		one(4, 7, "other", 20, 20),
		one(5, 0, "app", 15, 15),
		one(6, 7, "spa", 10, 11),
		one(7, 8, "spa", 5, 5),
	}
	type line struct {
		id            byte
		others        int
		created, used int
	}
	for name, test := range map[string]struct {
		own  string
		want []line
	}{
		"ok/the one used last stands for all": {"", []line{
			{2, 2, 10, 58}, {3, 0, 30, 30}, {4, 0, 20, 20}, {5, 0, 15, 15}, {7, 0, 5, 5},
		}},
		"ok/the caller's own stands for its device": {ID{6}.String(), []line{
			{6, 2, 10, 58}, {3, 0, 30, 30}, {4, 0, 20, 20}, {5, 0, 15, 15}, {7, 0, 5, 5},
		}},
		"ok/the newest is the caller's own": {ID{1}.String(), []line{
			{1, 2, 10, 58}, {3, 0, 30, 30}, {4, 0, 20, 20}, {5, 0, 15, 15}, {7, 0, 5, 5},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			devices := Devices(list, test.own)
			if len(devices) != len(test.want) {
				t.Fatalf("%d devices, want %d", len(devices), len(test.want))
			}
			for i, w := range test.want {
				d := devices[i]
				if d.ID != (ID{w.id}) || len(d.Others) != w.others || !d.CreatedAt.Equal(at(w.created)) || !d.RotatedAt.Equal(at(w.used)) {
					t.Errorf("line %d: %d with %d others, %s, %s; want %+v", i, d.ID[0], len(d.Others), d.CreatedAt, d.RotatedAt, w)
				}
			}
		})
	}
	if d := Devices(nil, ""); len(d) != 0 {
		t.Errorf("%d devices of nobody", len(d))
	}
}
