package mail

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	gomail "github.com/wneessen/go-mail"
)

// keep writes a mail to a file, which only the user of this program may read, and tells of it in the log: with its link and its
// code, for a developer who has no server for mail. The service does this on loopback only.
func (s *Sender) keep(ctx context.Context, p payload, c Content, m *gomail.Msg) error {
	if err := os.MkdirAll(s.config.Dir, 0o700); err != nil {
		return fmt.Errorf("keep mail: %w", err)
	}
	name := filepath.Join(s.config.Dir, p.At.UTC().Format("20060102T150405")+"-"+string(p.Mail)+"-"+p.ID+".eml")
	if err := write(name, m); err != nil {
		return fmt.Errorf("keep mail: %w", err)
	}
	args := []any{"mail", p.Mail, "file", name}
	if c.Link != "" {
		args = append(args, "link", c.Link)
	}
	if c.Code != "" {
		args = append(args, "code", c.Code)
	}
	s.log.InfoContext(ctx, "there is no smtp_url, so a mail is kept in a file", args...)
	return nil
}

// write makes a file all at once: what is read there is a whole mail.
func write(name string, m *gomail.Msg) (err error) {
	f, err := os.OpenFile(name+".part", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = m.WriteTo(f)
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(name+".part"))
	}
	return os.Rename(name+".part", name)
}
