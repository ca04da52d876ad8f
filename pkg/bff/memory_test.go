package bff_test

import (
	"testing"

	"github.com/handstamp/handstamp/pkg/bff"
	"github.com/handstamp/handstamp/pkg/bff/bfftest"
)

func TestMemory(t *testing.T) {
	m := bff.NewMemory()
	bfftest.TestStore(t, func(*testing.T) bff.Store { return m }, false)
}
