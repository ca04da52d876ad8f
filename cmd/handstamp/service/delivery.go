package service

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/handstamp/handstamp/pkg/egress"
	"github.com/handstamp/handstamp/pkg/mail"
	"github.com/handstamp/handstamp/pkg/oauth"
	"github.com/handstamp/handstamp/pkg/outbox"
	"github.com/handstamp/handstamp/pkg/sharedsignal"
)

// delivery builds what tells others that sessions have ended.
func (b *builder) delivery(context.Context) error {
	b.sealer = sharedsignal.NewSealer(b.master)
	b.logouts = oauth.NewLogoutSender(b.config.Issuer, b.Store, b.signer, egress.New(logoutCalls()), b.log)
	b.signals = sharedsignal.NewSender(b.config.Issuer, b.Store, b.signer, b.sealer, egress.New(signalCalls(b.config)), b.log)
	return nil
}

// deliveryFigures registers what is counted of deliveries. Their labels are the kinds of the outbox and its results, no
// text of a caller.
func deliveryFigures(registry *prometheus.Registry) outbox.Observe {
	attempts := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "handstamp_delivery_attempts_total",
		Help: "Attempts to tell others of ended sessions, and to send mails, by kind and result. Alert on a rise of dead: some " +
			"receiver never learns.",
	}, []string{"kind", "result"})
	age := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "handstamp_delivery_age_seconds",
		Help:    "Time from the end of a session, or the writing of a mail, to its delivery, by kind; of a stream, its oldest event.",
		Buckets: []float64{.01, .05, .1, .5, 1, 5, 30, 60, 300, 1800},
	}, []string{"kind"})
	registry.MustRegister(attempts, age)
	for _, kind := range []string{oauth.KindLogout, sharedsignal.KindPush, mail.KindMail} {
		age.WithLabelValues(kind)
		for _, result := range []outbox.Result{outbox.Delivered, outbox.PutOff, outbox.Dead} {
			attempts.WithLabelValues(kind, string(result))
		}
	}
	return func(kind string, r outbox.Result, took time.Duration) {
		attempts.WithLabelValues(kind, string(r)).Inc()
		if r == outbox.Delivered {
			age.WithLabelValues(kind).Observe(took.Seconds())
		}
	}
}
