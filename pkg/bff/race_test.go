package bff_test

import (
	"database/sql"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	_ "modernc.org/sqlite"

	"github.com/handstamp/handstamp/cmd/handstamp/service/servicetest"
	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/bff"
	"github.com/handstamp/handstamp/pkg/bff/sqlstore"
	"github.com/handstamp/handstamp/pkg/session"
)

// Two replicas that share nothing but the keys, and the store if there is one, are asked by forty tabs at once for a session that
// each of them must refresh. Nobody is logged out, in many rounds: the next one begins with whichever cookie came last.
func TestReplicasRefreshAtOnce(t *testing.T) {
	const tabs = 40
	for name, store := range map[string]func(t *testing.T) bff.Store{
		"sealed": func(*testing.T) bff.Store { return nil },
		"memory": func(*testing.T) bff.Store { return bff.NewMemory() },
		"sqlite": func(t *testing.T) bff.Store {
			t.Helper()
			const pragmas = "?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)"
			db, err := sql.Open("sqlite", "file:"+filepath.Join(t.TempDir(), "app.db")+pragmas)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = db.Close() })
			s := sqlstore.New(db)
			if err := s.CreateTables(t.Context()); err != nil {
				t.Fatal(err)
			}
			return s
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, shared := newWorld(t), store(t)
			replicas := []*app{w.start(t, shared), w.start(t, shared)}
			tokens := w.SignUp(t, "ann@example.com")
			subject, _ := servicetest.Claims(t, tokens.AccessToken)["sub"].(string)
			b := newBrowser(t, w)
			b.logIn("ann@example.com")
			cookie := b.cookies()["session"]
			for round, role := range []string{"one", "two", "three", "four", "five"} {
				if err := w.Sessions.SetRoles(t.Context(), subject, []string{role}, session.By{Actor: audit.ActorCLI}); err != nil {
					t.Fatal(err)
				}
				// The replicas hear of it in the middle of one of the bursts, or between two, and refresh at once.
				servicetest.Eventually(t, "the roles are known", func() bool {
					var known atomic.Int64
					var last atomic.Pointer[string]
					var work sync.WaitGroup
					for i := range tabs {
						work.Go(func() {
							w := visit(replicas[i%2], cookie)
							if w.Code != http.StatusOK {
								t.Errorf("round %d: %d %s", round, w.Code, w.Header().Get("Location"))
							}
							if strings.Contains(w.Body.String(), "["+role+"]") {
								known.Add(1)
							}
							for _, c := range w.Result().Cookies() {
								last.Store(&c.Value)
							}
						})
					}
					work.Wait()
					if next := last.Load(); next != nil {
						cookie = *next
					}
					return t.Failed() || known.Load() == tabs
				})
			}
			if t.Failed() {
				t.Log(w.log)
			}
		})
	}
}

// visit opens the page for users of a replica with a cookie.
func visit(a *app, cookie string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, "/private", nil)
	r.AddCookie(&http.Cookie{Name: "session", Value: cookie})
	r.Header.Set("Sec-Fetch-Mode", "navigate")
	w := httptest.NewRecorder()
	a.ServeHTTP(w, r)
	return w
}
