package service

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/handstamp/handstamp/pkg/egress"
)

func TestAS14_LogoutCalls(t *testing.T) {
	receiver := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer receiver.Close()
	client := egress.New(logoutCalls())
	for name, c := range map[string]struct {
		address string
		want    error
	}{
		"ok/loopback":           {receiver.URL, nil},
		"fail/metadata service": {"http://169.254.169.254/latest/meta-data/", egress.ErrAddress},
		"fail/unspecified":      {"http://0.0.0.0:1/", egress.ErrAddress},
		"fail/file":             {"file:///etc/passwd", egress.ErrURL},
	} {
		t.Run(name, func(t *testing.T) {
			request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, c.address, http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			response, err := client.Do(request)
			if err == nil {
				_ = response.Body.Close()
			}
			if !errors.Is(err, c.want) {
				t.Errorf("error %v, want %v", err, c.want)
			}
		})
	}
	if err := egress.CheckURL("http://app:3000/logout", logoutCalls()); err != nil {
		t.Errorf("a neighbour of the service: %v", err)
	}
}

func TestSignalCalls(t *testing.T) {
	for _, open := range []bool{false, true} {
		if got := egress.CheckURL("http://127.0.0.1/", signalCalls(Config{SignalsPrivate: open})) == nil; got != open {
			t.Errorf("private networks %v: %v", open, got)
		}
		if egress.CheckURL("http://receiver.example.com/", signalCalls(Config{SignalsPrivate: open})) == nil {
			t.Errorf("private networks %v: plain http", open)
		}
	}
}
