package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"sync"
	"time"

	"golang.org/x/oauth2"
	"k8s.io/apiserver/pkg/apis/apiserver"
	"k8s.io/apiserver/pkg/authentication/request/bearertoken"
	"k8s.io/apiserver/plugin/pkg/authenticator/token/oidc"
	_ "k8s.io/client-go/plugin/pkg/client/auth/oidc" // the auth provider of kubeconfig files
	"k8s.io/client-go/rest"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// useKubernetes is https://kubernetes.io/docs/reference/access-authn-authz/authentication/: the authenticator of the API server,
// configured as the documentation has it, behind the auth provider that kubectl uses. The login, which Kubernetes leaves to
// others, is by x/oauth2.
func useKubernetes(s settings, mux *http.ServeMux) error {
	authority := os.Getenv("SSL_CERT_FILE")
	certificate, err := os.ReadFile(authority)
	if err != nil {
		return err
	}
	server, err := apiServer(s, certificate)
	if err != nil {
		return err
	}
	config := oauth2.Config{
		ClientID:     s.clientID,
		ClientSecret: s.clientSecret,
		Endpoint:     oauth2.Endpoint{AuthURL: s.issuer + "/oauth2/authorize", TokenURL: s.issuer + "/oauth2/token"},
		RedirectURL:  s.base + "/callback",
		Scopes:       []string{"openid", "profile", "email"},
	}
	verifier := oauth2.GenerateVerifier()
	var kubectl *http.Client
	var kept persister
	handle(mux, "/login", func(http.ResponseWriter, *http.Request) (string, any, error) {
		return config.AuthCodeURL("state", oauth2.S256ChallengeOption(verifier)), nil, nil
	})
	handle(mux, "/callback", func(_ http.ResponseWriter, r *http.Request) (string, any, error) {
		token, err := config.Exchange(r.Context(), r.FormValue("code"), oauth2.VerifierOption(verifier))
		if err != nil {
			return "", nil, err
		}
		kubectl, err = rest.HTTPClientFor(&rest.Config{
			Host: server,
			AuthProvider: &clientcmdapi.AuthProviderConfig{Name: "oidc", Config: map[string]string{
				"idp-issuer-url":            s.issuer,
				"client-id":                 s.clientID,
				"client-secret":             s.clientSecret,
				"refresh-token":             token.RefreshToken, // without an ID token, as when it has expired
				"idp-certificate-authority": authority,
			}},
			AuthConfigPersister: &kept,
		})
		return "/me", nil, err
	})
	handle(mux, "/me", func(http.ResponseWriter, *http.Request) (string, any, error) {
		answer, err := kubectl.Get(server + "/")
		if err != nil {
			return "", nil, err
		}
		defer answer.Body.Close()
		var user any
		if err := json.NewDecoder(answer.Body).Decode(&user); err != nil {
			return "", nil, err
		}
		if kept.config()["id-token"] == "" {
			return "", nil, errors.New("client-go has not kept an ID token")
		}
		return "", user, nil
	})
	return nil
}

// apiServer is an API server that answers with who the caller is.
func apiServer(s settings, authority []byte) (address string, err error) {
	none := ""
	tokens, err := oidc.New(context.Background(), oidc.Options{
		CAContentProvider: bundle(authority),
		JWTAuthenticator: apiserver.JWTAuthenticator{
			Issuer: apiserver.Issuer{URL: s.issuer, Audiences: []string{s.clientID}, CertificateAuthority: string(authority)},
			ClaimMappings: apiserver.ClaimMappings{
				Username: apiserver.PrefixedClaimOrExpression{Claim: "sub", Prefix: &none},
				Groups:   apiserver.PrefixedClaimOrExpression{Claim: "groups", Prefix: &none},
				Extra: []apiserver.ExtraMapping{
					{Key: "example.com/name", ValueExpression: "claims.name"},
					{Key: "example.com/email", ValueExpression: "claims.email"},
				},
			},
		},
	})
	if err != nil {
		return "", err
	}
	for range 100 { // the authenticator asks for the metadata in the background
		if err = tokens.HealthCheck(); err == nil {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	if err != nil {
		return "", err
	}
	authenticator := bearertoken.New(tokens)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer, ok, err := authenticator.AuthenticateRequest(r)
		if err != nil || !ok {
			w.WriteHeader(http.StatusUnauthorized)
			_ = json.NewEncoder(w).Encode(map[string]any{"error": fmt.Sprint(err)})
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]any{
			"user":   answer.User.GetName(),
			"groups": answer.User.GetGroups(),
			"extra":  answer.User.GetExtra(),
		})
	}))
	return server.URL, nil
}

type bundle []byte

// CurrentCABundleContent is the certificate that the issuer's must be signed with.
func (b bundle) CurrentCABundleContent() []byte { return b }

// persister is the kubeconfig file.
type persister struct {
	mu   sync.Mutex
	last map[string]string
}

// Persist keeps what client-go writes into the kubeconfig file after a refresh.
func (p *persister) Persist(config map[string]string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last = config
	return nil
}

func (p *persister) config() map[string]string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.last
}
