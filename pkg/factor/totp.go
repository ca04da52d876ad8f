package factor

import (
	"crypto/rand"
	"encoding/base32"
	"net/url"
	"strings"
	"time"

	"github.com/piglig/go-qr"
	"github.com/pquerna/otp"
	"github.com/pquerna/otp/hotp"

	"github.com/handstamp/handstamp/pkg/seal"
)

// What every authenticator can do: SHA-1, six digits, half a minute (RFC 6238). The secret is as long as the hash (RFC
// 4226, section 4).
const (
	period      = 30 * time.Second
	digits      = otp.DigitsSix
	secretBytes = 20
	skew        = 1 // steps before and after that of now, whose codes count too
)

// newSecret makes a secret, in the base32 that people can type.
func newSecret() seal.Secret {
	var b [secretBytes]byte
	rand.Read(b[:])
	return seal.Secret(base32.StdEncoding.EncodeToString(b[:]))
}

// stepAt is the number of the half minute.
func stepAt(at time.Time) int64 { return at.Unix() / int64(period/time.Second) }

// match finds the step whose code this is, the newest first, among those that are near and were not used.
// [hotp.ValidateCustom] is asked for each, because totp.Validate does not say which step has matched.
func match(secret seal.Secret, code string, at time.Time, last int64) (step int64, ok bool) {
	for step = stepAt(at) + skew; step >= stepAt(at)-skew; step-- {
		if step <= last || step < 0 {
			return 0, false
		}
		valid, err := hotp.ValidateCustom(code, uint64(step), string(secret), hotp.ValidateOpts{
			Digits:    digits,
			Algorithm: otp.AlgorithmSHA1,
		})
		if err == nil && valid {
			return step, true
		}
	}
	return 0, false
}

// keyURI is what the QR code says. It has the form that authenticators read; the parameters that are the default of all of them
// are named nevertheless.
func keyURI(issuer, account string, secret seal.Secret) string {
	label := issuer + ":" + account
	query := "secret=" + string(secret) + "&issuer=" + escape(issuer) + "&algorithm=SHA1&digits=6&period=30"
	return "otpauth://totp/" + escape(label) + "?" + query
}

// escape is for both parts of the URI: authenticators take a plus sign for one.
func escape(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }

// Picture is a QR code.
type Picture struct {
	SVG string
	PNG []byte
}

// draw makes the QR code of a text: black on white with the quiet zone, also on a dark page.
func draw(text string) (Picture, error) {
	code, err := go_qr.EncodeText(text, go_qr.Medium)
	if err != nil {
		return Picture{}, err
	}
	const scale, border = 4, 4
	svg, err := code.ToSVGBytes(go_qr.NewQrCodeImgConfig(scale, border, go_qr.WithOptimalSVG()))
	if err != nil {
		return Picture{}, err
	}
	png, err := code.ToPNGBytes(go_qr.NewQrCodeImgConfig(scale, border))
	if err != nil {
		return Picture{}, err
	}
	return Picture{SVG: string(svg), PNG: png}, nil
}
