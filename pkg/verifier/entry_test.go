package verifier

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"testing"
	"time"
)

func TestKeyOf(t *testing.T) {
	// printf 'sid\0ses_x' | sha256sum
	key := KeyOf(BlockSID, "ses_x")
	if got, want := hex.EncodeToString(key[:]), "c9044d19d18809c48d5c54de92f224d1"; got != want {
		t.Errorf("KeyOf = %s, want %s", got, want)
	}
	if KeyOf(BlockJTI, "x") == KeyOf(BlockSID, "x") {
		t.Error("two kinds share a key")
	}
	if got := testing.AllocsPerRun(10, func() { KeyOf(BlockClient, "0123456789012345678901234567890123456789") }); got != 0 {
		t.Errorf("KeyOf allocates %v times", got)
	}
}

func TestFeedWireForm(t *testing.T) {
	e := Entry{Key: BlockKey{1, 2, 3}, NotBefore: 0x01020304, DropAfter: 0xfffefdfc}
	f := Feed{
		Issuer:  "https://a.example",
		Cursor:  "c1",
		AsOf:    time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		Entries: Entries(nil).Append(e),
	}
	b, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"iss":"https://a.example","cursor":"c1","as_of":"2026-01-02T03:04:05Z","entries":"AQIDAAAAAAAAAAAAAAAAAAECAwT//v38"}`
	if string(b) != want {
		t.Errorf("feed = %s\nwant   %s", b, want)
	}
	var back Feed
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(back.Entries, f.Entries) || back.Entries.Len() != 1 {
		t.Errorf("entries = %x, want %x", back.Entries, f.Entries)
	}
	for got := range back.Entries.All() {
		if got != e {
			t.Errorf("entry = %+v, want %+v", got, e)
		}
	}
	if err := back.Entries[:23].Check(); !errors.Is(err, ErrEntries) {
		t.Errorf("a cut record: %v, want ErrEntries", err)
	}
}
