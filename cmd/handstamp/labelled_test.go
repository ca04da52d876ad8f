package main

import (
	"slices"
	"testing"
)

func TestLabelledList(t *testing.T) {
	for text, want := range map[string][]string{
		"":                        nil,
		"a=Read":                  {"a=Read"},
		"a=Read, b=Write":         {"a=Read", "b=Write"},
		"a=Place, change,b=Write": {"a=Place, change", "b=Write"},
		"a=":                      {"a="},
		"nothing":                 nil,
	} {
		var got []string
		err := labelled(&got).set(text)
		if (err != nil) != (text == "nothing") || !slices.Equal(got, want) {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
}
