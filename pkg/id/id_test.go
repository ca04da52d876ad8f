package id_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/handstamp/handstamp/pkg/id"
)

func TestNew(t *testing.T) {
	at := time.UnixMilli(1_700_000_000_123)
	a, b, later := id.New(at), id.New(at), id.New(at.Add(time.Millisecond))
	if a == b {
		t.Error("the same twice")
	}
	if a.String()[:9] != b.String()[:9] || bytes.Compare(a[:], later[:]) >= 0 {
		t.Error("not in the order of time")
	}
	var ms int64
	for _, octet := range a[:6] {
		ms = ms<<8 | int64(octet)
	}
	if ms != at.UnixMilli() {
		t.Errorf("begins with %d", ms)
	}
}

func TestParse(t *testing.T) {
	fixed := id.ID{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 255}
	const text = "aaaqeayeaudaocajbifqydio74"
	if got := fixed.String(); got != text {
		t.Errorf("%q", got)
	}
	for _, want := range []id.ID{fixed, {}, id.New(time.Now())} {
		if got, ok := id.Parse(want.String()); !ok || got != want {
			t.Errorf("%v became %v, %v", want, got, ok)
		}
	}
	for name, refused := range map[string]string{
		"empty":      "",
		"short":      text[1:],
		"long":       text + "a",
		"endless":    strings.Repeat(text, 10),
		"upper case": strings.ToUpper(text),
		"loose bits": text[:25] + "5",
		"line break": text[:25] + "\n",
		"padding":    text[:24] + "==",
		"no digit":   text[:25] + "1",
	} {
		if got, ok := id.Parse(refused); ok || got != (id.ID{}) {
			t.Errorf("fail/%s: %v, %v", name, got, ok)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("aaaqeayeaudaocajbifqydiob4")
	f.Fuzz(func(t *testing.T, text string) {
		if got, ok := id.Parse(text); ok && got.String() != text {
			t.Errorf("%q has a second spelling %q", got, text)
		}
	})
}
