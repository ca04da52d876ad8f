package main

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/handstamp/handstamp/cmd/handstamp/service"
	"github.com/handstamp/handstamp/pkg/mail"
	"github.com/handstamp/handstamp/pkg/outbox"
	"github.com/handstamp/handstamp/pkg/store"
	"github.com/handstamp/handstamp/pkg/user"
)

func (p *program) mailCommand() *cobra.Command {
	return group("mail", "Try the sending of mail, list what was not sent, and send it again",
		p.mailTestCommand(), p.mailListCommand(), p.mailRetryCommand())
}

func (p *program) mailTestCommand() *cobra.Command {
	var to, language string
	cmd := &cobra.Command{
		Use:   "test [ADDRESS]",
		Short: "Send a mail at once, and say in plain words what is wrong if it does not leave",
		Long: `Send a mail to an address by the settings smtp_url, mail_from and mail_reply_to, at once and past the queue. If it does
not leave, the command says why and what to do about it: the host has no address, nothing listens, the certificate is for
another name, STARTTLS is missing, the login, the sender or the recipient is refused. It needs no database.`,
		Example: "  handstamp mail test --to ann@example.com",
		Args:    optionalArg("ADDRESS"),
		RunE: func(cmd *cobra.Command, args []string) error {
			to, err := theOne("ADDRESS", "to", to, args)
			if err != nil {
				return err
			}
			address, err := user.ParseEmail(to)
			if err != nil {
				return usageErrorf("--to: %w", err)
			}
			c, err := p.config(cmd)
			if err != nil {
				return err
			}
			if c.SMTPURL == "" {
				return errors.New("smtp_url is not set, so there is no server to send mail by; set it, for example to " +
					"smtp://USER:PASSWORD@mail.example.com:587")
			}
			id, explanation, err := service.SendTestMail(cmd.Context(), c.Config, address, language, p.commandLog(c))
			if err != nil {
				return err
			}
			if explanation != "" {
				return errors.New(explanation)
			}
			return p.say(map[string]any{"to": address, "message_id": id},
				"The mail server has taken the mail for %s. If it does not arrive, look for it among the spam. Its Message-ID is <%s>.",
				address, id)
		},
	}
	cmd.Flags().StringVar(&to, "to", "", "who gets the mail")
	cmd.Flags().StringVar(&language, "language", "", "language of the mail, such as de")
	return cmd
}

// mailBody is a mail that was not sent, as printed. Its link and its code are sealed.
type mailBody struct {
	ID        int64      `json:"id"`
	Mail      mail.Name  `json:"mail"`
	To        string     `json:"to"`
	MessageID string     `json:"message_id"`
	State     string     `json:"state"`
	Attempts  int        `json:"attempts"`
	CreatedAt time.Time  `json:"created_at"`
	DueAt     *time.Time `json:"due_at,omitempty"`
	Reason    string     `json:"reason,omitempty"`
}

func mailBodyOf(e outbox.Entry) mailBody {
	b := mailBody{
		ID:        e.ID,
		State:     "waiting",
		Attempts:  e.Attempts,
		CreatedAt: e.CreatedAt.UTC(),
		DueAt:     optional(e.LeasedUntil),
		Reason:    e.Reason,
	}
	if !e.DeadAt.IsZero() {
		b.State, b.DueAt = "failed", nil
	}
	// What cannot be read is listed without these.
	head, err := mail.HeadOf(e.Payload)
	if err == nil {
		b.Mail, b.To, b.MessageID = head.Mail, head.To, head.ID
	}
	return b
}

func (p *program) mailListCommand() *cobra.Command {
	var limit int
	var failed bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List mails that wait, and those of the last week that were given up, the newest first, each with its reason",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if limit < 1 || limit > 10_000 {
				return usageErrorf("--limit: must be between 1 and 10000")
			}
			return p.withStore(cmd, func(_ Config, s store.Store) error {
				body := []mailBody{}
				rows := [][]string{{"ID", "MAIL", "TO", "STATE", "ATTEMPTS", "WRITTEN", "NEXT", "REASON"}}
				for before := int64(0); len(body) < limit; {
					entries, err := s.Rows(cmd.Context(), mail.KindMail, before, 1000)
					if err != nil {
						return err
					}
					for _, e := range entries {
						before = e.ID
						if b := mailBodyOf(e); len(body) < limit && (!failed || b.State == "failed") {
							body = append(body, b)
							due := "-"
							if b.DueAt != nil {
								due = when(*b.DueAt)
							}
							rows = append(rows, []string{strconv.FormatInt(b.ID, 10), string(b.Mail), b.To, b.State, strconv.Itoa(b.Attempts),
								when(b.CreatedAt), due, b.Reason})
						}
					}
					if len(entries) < 1000 {
						break
					}
				}
				return p.print(body, rows...)
			})
		},
	}
	cmd.Flags().IntVar(&limit, "limit", 100, "maximum number of mails to list")
	cmd.Flags().BoolVar(&failed, "failed", false, "only those that were given up")
	return cmd
}

func (p *program) mailRetryCommand() *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "retry [ID...]",
		Short: "Send mails again that were given up, and at once those that wait for their next attempt",
		Long: `Send mails again that were given up, and at once those that wait for their next attempt: those with the IDs that
"handstamp mail list" shows, or all. A mail whose link or code has expired meanwhile is given up again.`,
		Example: "  handstamp mail retry 4711\n  handstamp mail retry --all",
		RunE: func(cmd *cobra.Command, args []string) error {
			ids := make([]int64, 0, len(args))
			for _, arg := range args {
				id, err := strconv.ParseInt(arg, 10, 64)
				if err != nil || id < 1 {
					return usageErrorf("%q is no ID of a mail; handstamp mail list shows them", arg)
				}
				ids = append(ids, id)
			}
			if all == (len(ids) > 0) {
				return usageErrorf("name the mails by their IDs, or all of them by --all")
			}
			if all {
				ids = nil
			}
			return p.withStore(cmd, func(c Config, s store.Store) error {
				n, err := s.RetryRows(cmd.Context(), mail.KindMail, slices.Clone(ids), c.Clock.Now())
				if err != nil {
					return err
				}
				if n == 0 && !all {
					return fmt.Errorf("none of these mails waits for another attempt or was given up")
				}
				return p.say(map[string]any{"retried": n}, "Mails that are sent again: %d.", n)
			})
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "all mails that wait or were given up")
	return cmd
}
