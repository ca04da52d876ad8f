package main

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// contractServer speaks just enough of the public contract to test this client: it holds users and sessions in memory, checks no
// passwords' strength and signs nothing. It says nothing about the product, whose own tests are elsewhere.
type contractServer struct {
	*httptest.Server
	// before sees each request first and may answer it; then it returns true.
	before func(w http.ResponseWriter, r *http.Request) bool
	// loseAnswer, if set, tells whether the answer to a rotation or its repeat is lost after the rotation was committed.
	loseAnswer func() bool
	// suffix, if set, makes the feed speak of other sessions than those that end.
	suffix string

	mu       sync.Mutex
	users    map[string]string // e-mail to password
	sessions map[string]*contractSession
	current  map[string]string // refresh token to sid
	previous map[string]string
	refused  int
	repeated int
	feed     []byte
	changed  chan struct{}
}

type contractSession struct {
	sid, token, key string
	ended           bool
}

func newContractServer(t *testing.T, start func(http.Handler) *httptest.Server) *contractServer {
	s := &contractServer{
		users:    map[string]string{},
		sessions: map[string]*contractSession{},
		current:  map[string]string{},
		previous: map[string]string{},
		changed:  make(chan struct{}),
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/signup", s.signup)
	mux.HandleFunc("POST /v1/login", s.login)
	mux.HandleFunc("POST /v1/logout", s.logout)
	mux.HandleFunc("POST /oauth2/token", s.token)
	mux.HandleFunc("GET /v1/me", s.me)
	mux.HandleFunc("GET /.well-known/jwks.json", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"keys":[` + strings.Repeat(" ", 5000) + `]}`)) // long enough to be sent in chunks
	})
	mux.HandleFunc("GET /v1/blocklist", s.blocklist)
	mux.HandleFunc("GET /v1/blocklist/stream", s.stream)
	s.Server = start(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var before func(http.ResponseWriter, *http.Request) bool
		s.locked(func() { before = s.before })
		if before == nil || !before(w, r) {
			mux.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return s
}

// locked calls do while no request is served.
func (s *contractServer) locked(do func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	do()
}

type seen struct{ refused, repeated, users int }

// seen is what the server has counted so far.
func (s *contractServer) seen() (n seen) {
	s.locked(func() { n = seen{s.refused, s.repeated, len(s.users)} })
	return n
}

func (s *contractServer) startSession() *contractSession {
	se := &contractSession{sid: "ses_" + rand.Text(), token: contractToken()}
	s.sessions[se.sid], s.current[se.token] = se, se.sid
	return se
}

func contractToken() string {
	var b [tokenBytes]byte
	_, _ = rand.Read(b[:])
	return tokenPrefix + base64.RawURLEncoding.EncodeToString(b[:])
}

func (se *contractSession) answer(w http.ResponseWriter, status int) {
	claims, _ := json.Marshal(map[string]string{"sid": se.sid})
	writeContractJSON(w, status, map[string]any{
		"access_token":  "e30." + base64.RawURLEncoding.EncodeToString(claims) + ".x",
		"token_type":    "Bearer",
		"expires_in":    900,
		"refresh_token": se.token,
	})
}

func writeContractJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

func (s *contractServer) signup(w http.ResponseWriter, r *http.Request) {
	var in struct{ Email, Password string }
	if json.NewDecoder(r.Body).Decode(&in) != nil || in.Email == "" || len(in.Password) < 15 {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.users[in.Email] = in.Password
	s.startSession().answer(w, http.StatusCreated)
}

func (s *contractServer) login(w http.ResponseWriter, r *http.Request) {
	var in struct{ Email, Password string }
	_ = json.NewDecoder(r.Body).Decode(&in)
	s.mu.Lock()
	defer s.mu.Unlock()
	if password, ok := s.users[in.Email]; !ok || password != in.Password {
		writeContractJSON(w, http.StatusUnauthorized, map[string]any{"status": 401, "code": "invalid_credentials"})
		return
	}
	s.startSession().answer(w, http.StatusOK)
}

func (s *contractServer) token(w http.ResponseWriter, r *http.Request) {
	if r.PostFormValue("grant_type") != "refresh_token" || r.PostFormValue("client_id") != defaultClientID {
		writeContractJSON(w, http.StatusBadRequest, map[string]any{"error": "invalid_request"})
		return
	}
	token, key := r.PostFormValue("refresh_token"), r.Header.Get("Idempotency-Key")
	s.mu.Lock()
	defer s.mu.Unlock()
	if sid, ok := s.previous[token]; ok && key != "" && s.sessions[sid].key == key {
		s.repeated++
		s.answerRefresh(w, s.sessions[sid])
		return
	}
	sid, ok := s.current[token]
	if !ok || s.sessions[sid].ended {
		s.refused++
		writeContractJSON(w, http.StatusBadRequest, map[string]any{"error": "invalid_grant"})
		return
	}
	se := s.sessions[sid]
	delete(s.current, token)
	s.previous[token] = sid
	se.token, se.key = contractToken(), key
	s.current[se.token] = sid
	s.answerRefresh(w, se)
}

func (s *contractServer) answerRefresh(w http.ResponseWriter, se *contractSession) {
	if s.loseAnswer != nil && s.loseAnswer() {
		panic(http.ErrAbortHandler)
	}
	se.answer(w, http.StatusOK)
}

// bearer returns the session of the request's access token.
func (s *contractServer) bearer(r *http.Request) *contractSession {
	sid, err := sessionOf(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
	if err != nil {
		return nil
	}
	if se := s.sessions[sid]; se != nil && !se.ended {
		return se
	}
	return nil
}

func (s *contractServer) me(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bearer(r) == nil {
		writeContractJSON(w, http.StatusUnauthorized, map[string]any{"code": "invalid_token"})
		return
	}
	writeContractJSON(w, http.StatusOK, map[string]any{"id": "usr_1"})
}

func (s *contractServer) logout(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	se := s.bearer(r)
	if se == nil {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	se.ended = true
	key := sessionKey(se.sid + s.suffix)
	s.feed = binary.BigEndian.AppendUint64(append(s.feed, key[:]...), 1)
	close(s.changed)
	s.changed = make(chan struct{})
	w.WriteHeader(http.StatusNoContent)
}

// document is the feed after the entry with number from, and the next cursor.
func (s *contractServer) document(from int) (string, int, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.feed) / entryBytes
	entries := base64.StdEncoding.EncodeToString(s.feed[from*entryBytes:])
	return fmt.Sprintf(`{"iss":"x","cursor":"c/%d","as_of":"%s","entries":%q}`, n, time.Now().Format(time.RFC3339),
		entries), n, s.changed
}

func (s *contractServer) blocklist(w http.ResponseWriter, _ *http.Request) {
	doc, _, _ := s.document(0)
	_, _ = w.Write([]byte(doc))
}

func (s *contractServer) stream(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	number, ok := strings.CutPrefix(r.URL.Query().Get("after"), "c/")
	from, err := strconv.Atoi(number)
	if !ok || err != nil {
		_, _ = w.Write([]byte("event: reset\ndata: {}\n\n"))
		return
	}
	_, _ = w.Write([]byte("retry: 1000\n\nevent: heartbeat\nid: c/0\ndata: {\"as_of\":\"\"}\n\n"))
	for {
		_ = http.NewResponseController(w).Flush()
		doc, next, changed := s.document(from)
		if next > from {
			_, _ = fmt.Fprintf(w, "event: entries\nid: c/%d\ndata: %s\n\n", next, doc)
			from = next
			continue
		}
		select {
		case <-changed:
		case <-r.Context().Done():
			return
		}
	}
}
