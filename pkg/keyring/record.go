package keyring

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	"github.com/handstamp/handstamp/pkg/seal"
	"github.com/handstamp/handstamp/pkg/verifier"
)

// ErrSealed is returned when a signing key cannot be opened: the master key is another than the one it was sealed under,
// or the row was altered. Nothing is ever put in its place.
var ErrSealed = errors.New("keyring: signing key cannot be opened")

// ErrCorrupt is returned when a row of the database contradicts itself: its public half does not belong to its kid, its
// algorithm or its private half.
var ErrCorrupt = errors.New("keyring: signing key is not the one that its kid names")

// sealer seals and opens private halves, in their PKCS #8 form.
type sealer struct{ seal.Sealer }

func newSealer(master seal.MasterKey) sealer { return sealer{seal.New(master, seal.SigningKeys)} }

// additional binds a sealed key to its row, so that rows cannot be exchanged.
func additional(id, algorithm string) []byte { return []byte(id + "\x00" + algorithm) }

// newRecord makes a key of the algorithm, sealed, with no times and state.
func (s sealer) newRecord(algorithm string) (Record, error) {
	signer, err := generate(algorithm)
	if err != nil {
		return Record{}, err
	}
	key, err := verifier.NewJWK("", signer.Public())
	if err != nil {
		return Record{}, err
	}
	id := key.Thumbprint()
	if id[0] == '-' {
		return s.newRecord(algorithm) // a command line would take this kid for a flag
	}
	public, err := x509.MarshalPKIXPublicKey(signer.Public())
	if err != nil {
		return Record{}, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(signer)
	if err != nil {
		return Record{}, err
	}
	defer clear(private)
	return Record{ID: id, Algorithm: algorithm, Sealed: s.Seal(private, additional(id, algorithm)), Public: public}, nil
}

// open returns the private half of a record, and ErrSealed or ErrCorrupt if that is not possible. It is the half that
// belongs to the kid, for it was sealed together with it.
func (s sealer) open(record Record) (crypto.Signer, error) {
	private, err := s.Open(record.Sealed, additional(record.ID, record.Algorithm))
	if errors.Is(err, seal.ErrForm) {
		return nil, fmt.Errorf("%w: %s is cut short or was sealed by a newer program", ErrSealed, record.ID)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %s was sealed under another master key, or altered: put back the master key that belongs "+
			"to this database (file %s in the keys directory, or HANDSTAMP_MASTER_KEY)", ErrSealed, record.ID, seal.MasterKeyFile)
	}
	defer clear(private)
	parsed, err := x509.ParsePKCS8PrivateKey(private)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrCorrupt, record.ID, err)
	}
	signer, ok := parsed.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("%w: %s: %T cannot sign", ErrCorrupt, record.ID, parsed)
	}
	return signer, nil
}

// PublicKey returns the public half. The error is ErrCorrupt if it does not belong to the kid or the algorithm.
func (r Record) PublicKey() (crypto.PublicKey, error) {
	public, err := x509.ParsePKIXPublicKey(r.Public)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrCorrupt, r.ID, err)
	}
	key, err := verifier.NewJWK(r.ID, public)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrCorrupt, r.ID, err)
	}
	if id := key.Thumbprint(); id != r.ID || key.Alg != r.Algorithm {
		return nil, fmt.Errorf("%w: %s (%s) has the public key of %s (%s): rows were exchanged or restored in part, "+
			"restore the whole database", ErrCorrupt, r.ID, r.Algorithm, id, key.Alg)
	}
	return public, nil
}

// PEM returns the public half as a PEM block "PUBLIC KEY" (RFC 7468, section 13), for proxies that read key files.
func (r Record) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: r.Public})
}

// equal reports whether two readings of a row are the same, whatever the location of their times.
func (r Record) equal(o Record) bool {
	times := func(r Record) [6]time.Time {
		return [6]time.Time{r.CreatedAt, r.ActivatesAt, r.ActivatedAt, r.RetiredAt, r.RemoveAt, r.RevokedAt}
	}
	a, b := times(r), times(o)
	for i := range a {
		if !a[i].Equal(b[i]) {
			return false
		}
	}
	return r.ID == o.ID && r.Algorithm == o.Algorithm && r.State == o.State && bytes.Equal(r.Sealed, o.Sealed) &&
		bytes.Equal(r.Public, o.Public)
}
