package storetest

import (
	"database/sql"
	"io/fs"
	"strings"
	"testing"

	"github.com/pressly/goose/v3"

	"github.com/handstamp/handstamp/pkg/store"
)

// EmailSpellings checks that an international domain of a user who signed up before step 9 is found by both its spellings
// after it. values are the dialect's literals for no roles, an earlier and a later time.
func EmailSpellings(t *testing.T, dialect goose.Dialect, handle *sql.DB, files fs.FS, values [3]string, open func() store.Store) {
	provider, err := goose.NewProvider(dialect, handle, files, goose.WithDisableGlobalRegistry(true))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := provider.UpTo(t.Context(), 8); err != nil {
		t.Fatal(err)
	}
	literals := strings.NewReplacer("none", values[0], "early", values[1], "late", values[2])
	for _, user := range []string{
		"('usr_plain', 'Ann@Example.test', 'ann@example.test', NULL, '', '', none, early, early)",
		"('usr_puny', 'ann@xn--bcher-kva.example', 'ann@xn--bcher-kva.example', NULL, '', '', none, early, early)",
		"('usr_read', 'bob@bücher.example', 'bob@bücher.example', NULL, '', '', none, early, early)",
		"('usr_younger', 'eve@xn--bcher-kva.example', 'eve@xn--bcher-kva.example', NULL, '', '', none, late, late)",
		"('usr_older', 'eve@BÜCHER.example', 'eve@bücher.example', NULL, '', '', none, early, early)",
		"('usr_claims', 'joe@XN--GRN-IOA.example', 'joe@xn--grn-ioa.example', NULL, '', '', none, early, early)",
		"('usr_proved', 'joe@xn--grn-ioa.example', 'joe@xn--grn-ioa.example ', late, '', '', none, late, late)",
		"('usr_without', '', NULL, NULL, '', '', none, early, early)",
	} {
		if _, err := handle.ExecContext(t.Context(), literals.Replace(`INSERT INTO users (id, email, email_key, email_verified_at,
			name, password_hash, roles, created_at, updated_at) VALUES `)+literals.Replace(user)); err != nil {
			t.Fatal(err)
		}
	}
	st := open()
	if err := st.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	for email, want := range map[string]string{
		"ann@example.test":          "usr_plain",
		"ann@bücher.example":        "usr_puny",
		"ann@xn--bcher-kva.example": "usr_puny",
		"bob@xn--bcher-kva.example": "usr_read",
		"eve@bücher.example":        "usr_older",
		"eve@xn--bcher-kva.example": "usr_older",
		"joe@grün.example":          "usr_proved",
		"joe@xn--grn-ioa.example":   "usr_proved",
	} {
		if u, err := st.UserByEmail(t.Context(), email); err != nil || u.ID != want {
			t.Errorf("%s: %s, %v; want %s", email, u.ID, err, want)
		}
	}
	if u, err := st.UserByID(t.Context(), "usr_younger"); err != nil || u.Email != "eve@xn--bcher-kva.example" {
		t.Errorf("%+v, %v", u, err)
	}
}
