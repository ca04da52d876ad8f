package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/handstamp/handstamp/pkg/verifier"
)

func (p *program) tokenCommand() *cobra.Command {
	var audiences []string
	verify := &cobra.Command{
		Use:   "verify [TOKEN]",
		Short: "Verify an access token as a resource server would, with the issuer's JWKS and blocklist",
		Long: "Verify an access token as a resource server would. The command fetches the keys and the blocklist from --issuer. " +
			"Without an argument it reads the token from standard input.",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := p.config(cmd)
			if err != nil {
				return err
			}
			raw, err := p.argumentOrStdin(args)
			if err != nil {
				return err
			}
			if len(audiences) == 0 {
				audiences = c.Audience
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), 10*time.Second)
			defer cancel()
			v, err := verifier.New(ctx, c.Issuer, verifier.WithAudience(audiences...))
			if err != nil {
				return err
			}
			defer v.Close()
			claims, err := v.Verify(ctx, raw)
			if err != nil {
				return err
			}
			return p.say(map[string]any{
				"valid":     true,
				"sub":       claims.Subject,
				"client_id": claims.ClientID,
				"sid":       claims.SessionID,
				"scope":     strings.Join(claims.Scope, " "),
				"aud":       claims.Audience, "roles": claims.Roles, "exp": claims.ExpiresAt.Unix(),
			}, "Valid until %s, for the subject %s.", when(claims.ExpiresAt), claims.Subject)
		},
	}
	verify.Flags().StringArrayVar(&audiences, "audience", nil,
		"audience that the token must have; may be repeated; default the service's")
	return group("token", "Inspect and verify access tokens",
		&cobra.Command{
			Use:   "inspect [TOKEN]",
			Short: "Show what a token says, without verifying it",
			Long:  "Show what a token says, without verifying it. Without an argument the command reads the token from standard input.",
			RunE: func(_ *cobra.Command, args []string) error {
				raw, err := p.argumentOrStdin(args)
				if err != nil {
					return err
				}
				return p.inspect(raw)
			},
		},
		verify,
	)
}

func (p *program) argumentOrStdin(args []string) (string, error) {
	if len(args) > 1 {
		return "", usageErrorf("give one token")
	}
	if len(args) == 1 {
		return args[0], nil
	}
	line, err := bufio.NewReader(io.LimitReader(p.stdin, 64<<10)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("read token: %w", err)
	}
	return strings.TrimSpace(line), nil
}

// inspect prints header and claims of a JWS as they stand in it.
func (p *program) inspect(raw string) error {
	if strings.HasPrefix(raw, "hsr_") {
		return errors.New("this is a refresh token: only the service can read it")
	}
	parts := strings.Split(raw, ".")
	if len(parts) != 3 {
		return errors.New("not a JWT: a JWT has three parts with dots between them")
	}
	var header, claims json.RawMessage
	for i, into := range []*json.RawMessage{&header, &claims} {
		decoded, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err != nil || !json.Valid(decoded) {
			return fmt.Errorf("not a JWT: part %d is not JSON in base64url", i+1)
		}
		*into = decoded
	}
	e := json.NewEncoder(p.stdout)
	e.SetIndent("", "  ")
	if err := e.Encode(struct {
		Header json.RawMessage `json:"header"`
		Claims json.RawMessage `json:"claims"`
	}{header, claims}); err != nil {
		return err
	}
	if p.output == "text" {
		fmt.Fprintln(p.stderr, "The signature was not checked; handstamp token verify does.")
	}
	return nil
}
