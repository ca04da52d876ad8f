// Package mail writes mails to users and sends them.
//
// One function for each mail makes its letters: those of [Notices] tell users what has happened to their accounts, those of
// [Writer] carry a link or a code. The caller hands a letter to the store method that carries out its cause, so that both are
// committed together or not at all:
//
//	ending.Mail = notices.PasswordChanged(now, origin)  // to the user whose password it is
//	err = store.Post(ctx, writer.Reset(to, secrets))    // of a cause that writes nothing else
//
// The store adds the address of the user, if the letter names none, counts the letter against what one recipient may get (see
// [Budget]), and leaves it as a row of the outbox. A [Sender] delivers the rows: one after the other, on one replica at a time.
// So a letter is sent at least once, with the same Message-ID each time, and if a replica or the server for mail dies, one letter
// at most is sent twice.
//
// Links and codes are sealed in the outbox: the database alone reveals none.
package mail

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/handstamp/handstamp/pkg/audit"
	"github.com/handstamp/handstamp/pkg/seal"
)

// Name says which mail a letter is. The texts are stable: the files of languages name them.
type Name string

// The mails.
const (
	Verify          Name = "verify"         // prove that the address is yours
	Reset           Name = "reset"          // choose another password
	LoginCode       Name = "login_code"     // log in
	NoAccount       Name = "no_account"     // somebody has asked for one of these, and the address has no account
	AccountExists   Name = "account_exists" // somebody has signed up with the address, which has an account
	Invitation      Name = "invitation"     // make an account
	PasswordChanged Name = "password_changed"
	EmailChanged    Name = "email_changed"     // to the address that holds from now on
	EmailChangedOld Name = "email_changed_old" // to the one before; its link undoes the change
	NewDevice       Name = "new_device"
	FactorAdded     Name = "factor_added"
	FactorRemoved   Name = "factor_removed"
	AccountDeleted  Name = "account_deleted"
	Test            Name = "test" // of an operator
)

// Names are all of them.
func Names() []Name {
	return []Name{
		Verify, Reset, LoginCode, NoAccount, AccountExists, Invitation, PasswordChanged, EmailChanged, EmailChangedOld, NewDevice,
		FactorAdded,
		FactorRemoved, AccountDeleted, Test,
	}
}

// tells says whether the mail tells of what has happened.
func (n Name) tells() bool {
	switch n {
	case PasswordChanged, EmailChanged, EmailChangedOld, NewDevice, FactorAdded, FactorRemoved, AccountDeleted:
		return true
	case Verify, Reset, LoginCode, NoAccount, AccountExists, Invitation, Test:
	}
	return false
}

// Rate bounds the mails to one recipient: a bucket that holds Burst and fills with one every Every.
type Rate struct {
	Burst int
	Every time.Duration
}

// Budget is what a letter counts against. The store counts it in the transaction that writes the letter; a letter beyond it is
// not written, and its cause is carried out all the same, so that nobody learns of it. Each recipient has one bucket for each
// name.
type Budget struct {
	Name string
	Rate
}

// The names of budgets. What strangers can ask for must not use up what a code or a warning needs.
const (
	budgetAsked   = "asked"
	budgetCodes   = "codes"
	budgetNotices = "notices"
	budgetDevices = "devices"
)

// noticeBudget is for what only a person who has the account can cause: many more than anybody does. Logins are counted apart: a
// thief who has the password must not use up what tells of its change, and a program that logs in without cookies does so all
// day.
func noticeBudget(name Name) Budget {
	if name == NewDevice {
		return Budget{budgetDevices, Rate{Burst: 5, Every: time.Hour}}
	}
	return Budget{budgetNotices, Rate{Burst: 20, Every: 15 * time.Minute}}
}

// Letter is a mail that was not sent yet. The zero Letter is none: stores do nothing with it.
type Letter struct {
	// To is the address. Empty for that of the user whom the transaction is about, as it is in the transaction.
	To     string
	At     time.Time
	Budget Budget
	// Payload is a JSON object, to which the store adds "to", the address, and "locale", that of the user's profile.
	Payload string
}

// IsZero says whether there is no mail.
func (l Letter) IsZero() bool { return l.Payload == "" }

// payload is a letter in the outbox.
type payload struct {
	To     string `json:"to,omitempty"`
	Locale string `json:"locale,omitempty"`

	Mail      Name      `json:"mail"`
	ID        string    `json:"id"` // of the Message-ID, before the @
	At        time.Time `json:"at"`
	ExpiresAt time.Time `json:"expires_at,omitzero"` // after that the mail is of no use
	Languages string    `json:"languages,omitempty"` // as in Accept-Language
	Sealed    []byte    `json:"sealed,omitempty"`    // a sealedPart
	IP        string    `json:"ip,omitempty"`
	UserAgent string    `json:"user_agent,omitempty"`
	Address   string    `json:"address,omitempty"` // another than the recipient's
	Factor    string    `json:"factor,omitempty"`
}

// sealedPart is what nobody may read who has the database alone. It is bound to the letter's ID.
type sealedPart struct {
	Path  string `json:"path,omitempty"`
	Token string `json:"token,omitempty"`
	Code  string `json:"code,omitempty"`
}

// newLetter makes a letter of a payload.
func newLetter(to string, b Budget, p payload) Letter {
	text, err := json.Marshal(p)
	if err != nil {
		panic(err) // texts and times
	}
	return Letter{To: to, At: p.At, Budget: b, Payload: string(text)}
}

// Notices makes the letters that tell users what has happened to their accounts. They hold no secret, so that the command line
// can make them without the master key. Nil makes none: without a way to send mail none is written.
type Notices struct{}

// NewNotices returns notices.
func NewNotices() *Notices { return &Notices{} }

func (n *Notices) letter(name Name, to string, at time.Time, from audit.Origin, more func(p *payload)) Letter {
	if n == nil {
		return Letter{}
	}
	p := payload{
		Mail:      name,
		ID:        newID(),
		At:        at,
		Languages: from.Languages,
		IP:        from.IP,
		UserAgent: from.UserAgent,
	}
	if more != nil {
		more(&p)
	}
	return newLetter(to, noticeBudget(name), p)
}

// PasswordChanged tells the user of the transaction that there is another password.
func (n *Notices) PasswordChanged(at time.Time, from audit.Origin) Letter {
	return n.letter(PasswordChanged, "", at, from, nil)
}

// NewDevice tells the user of the transaction of a login on a device that was not known.
func (n *Notices) NewDevice(at time.Time, from audit.Origin) Letter {
	return n.letter(NewDevice, "", at, from, nil)
}

// FactorAdded tells the user of the transaction of another factor, or passkey; name is what it is called.
func (n *Notices) FactorAdded(at time.Time, name string, from audit.Origin) Letter {
	return n.letter(FactorAdded, "", at, from, func(p *payload) { p.Factor = name })
}

// FactorRemoved tells the user of the transaction that a factor, or passkey, is gone; name is what it was called.
func (n *Notices) FactorRemoved(at time.Time, name string, from audit.Origin) Letter {
	return n.letter(FactorRemoved, "", at, from, func(p *payload) { p.Factor = name })
}

// EmailChanged tells the user of the transaction that this address holds from now on; old is the one before.
func (n *Notices) EmailChanged(at time.Time, old string, from audit.Origin) Letter {
	return n.letter(EmailChanged, "", at, from, func(p *payload) { p.Address = old })
}

// AccountDeleted tells the user of the transaction that the account is gone.
func (n *Notices) AccountDeleted(at time.Time, from audit.Origin) Letter {
	return n.letter(AccountDeleted, "", at, from, nil)
}

// Recipient is who gets a letter that somebody has asked for.
type Recipient struct {
	Address   string // empty for that of the user of the transaction
	Languages string // as in Accept-Language, of who has asked; a user's own locale comes before it
}

// Proof is what a letter brings to its recipient, so that the recipient can show to have got it. The token is sent as a link to
// Path, at the issuer and nowhere else, with the parameter "token". Token or Code may be empty.
type Proof struct {
	Path      string // "/..."
	Token     seal.Secret
	Code      seal.Secret
	ExpiresAt time.Time
}

// Writer makes the letters that carry a link or a code, besides notices. Nil makes none.
type Writer struct {
	*Notices
	sealer seal.Sealer
	rate   Rate
}

// NewWriter returns a writer. Of what strangers can ask for, a recipient gets no more than the rate allows: the codes of logins
// are counted apart from the rest.
func NewWriter(master seal.MasterKey, r Rate) *Writer {
	return &Writer{Notices: NewNotices(), sealer: seal.New(master, seal.Mails), rate: r}
}

func (w *Writer) letter(name Name, budget Budget, at time.Time, to Recipient, proof Proof, more func(p *payload)) Letter {
	if w == nil {
		return Letter{}
	}
	p := payload{
		Mail:      name,
		ID:        newID(),
		At:        at,
		ExpiresAt: proof.ExpiresAt,
		Languages: to.Languages,
	}
	if part := (sealedPart{proof.Path, string(proof.Token), string(proof.Code)}); part != (sealedPart{}) {
		plain, err := json.Marshal(part)
		if err != nil {
			panic(err) // three texts
		}
		p.Sealed = w.sealer.Seal(plain, []byte(p.ID))
	}
	if more != nil {
		more(&p)
	}
	return newLetter(to.Address, budget, p)
}

// Verify asks the recipient to prove that the address is theirs.
func (w *Writer) Verify(at time.Time, to Recipient, proof Proof) Letter {
	return w.letter(Verify, w.budget(budgetAsked), at, to, proof, nil)
}

// Reset lets the recipient choose another password.
func (w *Writer) Reset(at time.Time, to Recipient, proof Proof) Letter {
	return w.letter(Reset, w.budget(budgetAsked), at, to, proof, nil)
}

// LoginCode lets the recipient log in.
func (w *Writer) LoginCode(at time.Time, to Recipient, proof Proof) Letter {
	return w.letter(LoginCode, w.budget(budgetCodes), at, to, proof, nil)
}

// NoAccount tells the recipient that somebody has asked for a mail to the address, which has no account.
func (w *Writer) NoAccount(at time.Time, to Recipient) Letter {
	return w.letter(NoAccount, w.budget(budgetAsked), at, to, Proof{}, nil)
}

// AccountExists tells the recipient that somebody has signed up with the address, which has an account.
func (w *Writer) AccountExists(at time.Time, to Recipient) Letter {
	return w.letter(AccountExists, w.budget(budgetAsked), at, to, Proof{}, nil)
}

// Invitation lets the recipient make an account.
func (w *Writer) Invitation(at time.Time, to Recipient, proof Proof) Letter {
	return w.letter(Invitation, w.budget(budgetAsked), at, to, proof, nil)
}

// EmailChangedOld tells an address that another one has taken its place. The proof lets the recipient undo it.
func (w *Writer) EmailChangedOld(at time.Time, old, replacement string, proof Proof, from audit.Origin) Letter {
	return w.letter(EmailChangedOld, noticeBudget(EmailChangedOld), at, Recipient{old, from.Languages}, proof, func(p *payload) {
		p.Address, p.IP, p.UserAgent = replacement, from.IP, from.UserAgent
	})
}

// budget is that of what strangers can ask for.
func (w *Writer) budget(name string) Budget {
	if w == nil {
		return Budget{}
	}
	return Budget{name, w.rate}
}

// errLetter says that a row of the outbox is no letter of this program, or was sealed under another master key.
var errLetter = errors.New("the letter cannot be read")

// open reads a row's payload.
func open(text []byte, sealer seal.Sealer) (p payload, part sealedPart, err error) {
	if err := json.Unmarshal(text, &p); err != nil {
		return payload{}, sealedPart{}, fmt.Errorf("%w: %w", errLetter, err)
	}
	if len(p.Sealed) == 0 {
		return p, part, nil
	}
	plain, err := sealer.Open(p.Sealed, []byte(p.ID))
	if err == nil {
		err = json.Unmarshal(plain, &part)
	}
	if err != nil {
		return payload{}, sealedPart{}, fmt.Errorf("%w: %w", errLetter, err)
	}
	return p, part, nil
}

// newID makes what is before the @ of a Message-ID.
func newID() string { return strings.ToLower(rand.Text()) }

// Store is what the feature needs of a database, besides the outbox.
type Store interface {
	// Post writes a letter that names its recipient, of a cause that writes nothing else; none if it is beyond its budget. It does
	// the same work for each.
	Post(ctx context.Context, l Letter) error
}

// Head is what an operator sees of a letter in the outbox.
type Head struct {
	Mail Name   `json:"mail"`
	To   string `json:"to"`
	ID   string `json:"id"` // of the Message-ID, before the @
}

// HeadOf reads the head of a letter from the payload of its row.
func HeadOf(payload []byte) (h Head, err error) {
	if err := json.Unmarshal(payload, &h); err != nil {
		return Head{}, fmt.Errorf("%w: %w", errLetter, err)
	}
	return h, nil
}
