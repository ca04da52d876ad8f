// Command clients-go is an application that logs its users in at Handstamp, with Go libraries of others as their guides set them
// up:
//
//	clients-go LIBRARY --issuer URL --client-id ID --client-secret SECRET --port PORT
//
// GET /login logs in, GET /me shows who is logged in, GET /refresh asks for new tokens, and GET /logout logs out. With keyfunc
// and jwx it is an API as well: GET /token shows the access token, and GET /hello takes it.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"
)

// settings are the arguments.
type settings struct {
	issuer, clientID, clientSecret, base string
}

// audience is what access tokens for the API are for.
const audience = "https://hello.example"

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "clients-go:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	var s settings
	var port string
	flags := flag.NewFlagSet("clients-go", flag.ContinueOnError)
	flags.StringVar(&s.issuer, "issuer", "", "")
	flags.StringVar(&s.clientID, "client-id", "", "")
	flags.StringVar(&s.clientSecret, "client-secret", "", "")
	flags.StringVar(&port, "port", "", "")
	if len(args) == 0 {
		return fmt.Errorf("which library?")
	}
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	s.base = "http://localhost:" + port
	library, ok := map[string]func(settings, *http.ServeMux) error{
		"goth":       useGoth,
		"keyfunc":    useKeyfunc,
		"jwx":        useJWX,
		"kubernetes": useKubernetes,
	}[args[0]]
	if !ok {
		return fmt.Errorf("no library %s", args[0])
	}
	mux := http.NewServeMux()
	if err := library(s, mux); err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "localhost:"+port)
	if err != nil {
		return err
	}
	fmt.Println("listening on", s.base)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	return server.Serve(listener)
}

// handle answers with what run returns: an error, an address to go to, or a document.
func handle(mux *http.ServeMux, path string, run func(http.ResponseWriter, *http.Request) (to string, document any, err error)) {
	mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) {
		to, document, err := run(w, r)
		switch {
		case err != nil:
			http.Error(w, err.Error(), http.StatusInternalServerError)
		case to != "":
			http.Redirect(w, r, to, http.StatusFound)
		default:
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(document)
		}
	})
}

// hello is the API: verify returns the subject of an access token for the audience.
func hello(mux *http.ServeMux, verify func(*http.Request, string) (string, error)) {
	mux.HandleFunc("GET /hello", func(w http.ResponseWriter, r *http.Request) {
		var raw string
		_, _ = fmt.Sscanf(r.Header.Get("Authorization"), "Bearer %s", &raw)
		subject, err := verify(r, raw)
		if err != nil {
			w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`)
			http.Error(w, err.Error(), http.StatusUnauthorized)
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]string{"subject": subject})
	})
}
