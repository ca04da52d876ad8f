package main

import (
	"context"
	"time"
)

// cookie compares refreshes whose token is in a cookie with refreshes whose token is in the body, in turn: the same
// sessions of the same client, which changes its transport in between.
func (b *bench) cookie(ctx context.Context) ([]figure, error) {
	if err := b.subjects(ctx); err != nil {
		return nil, err
	}
	measure := func(transport string, more ...string) (perSecond, cpu float64, err error) {
		_, err = output(ctx, b.dir, b.program("handstamp"), "client", "update", "default", "--refresh-transport", transport,
			"--database-url", b.database.url(b.database.address()))
		if err != nil {
			return 0, 0, err
		}
		select {
		case <-time.After(2 * time.Second): // until the service has heard of it
		case <-ctx.Done():
			return 0, 0, ctx.Err()
		}
		before, _ := cpuOf(b.postgres.process.pid())
		r, err := b.refreshes(ctx, b.postgres, 64, more...)
		if err != nil {
			return 0, 0, err
		}
		after, _ := cpuOf(b.postgres.process.pid())
		refresh := r.Operations["refresh"]
		return refresh.PerSecond, float64((after - before).Microseconds()) / refresh.Answered, nil
	}
	var byCookie, byBody, cookieCPU, bodyCPU samples
	for range b.repetitions {
		perSecond, cpu, err := measure("cookie", "--cookie")
		if err != nil {
			return nil, err
		}
		byCookie, cookieCPU = append(byCookie, perSecond), append(cookieCPU, cpu)
		if perSecond, cpu, err = measure("body"); err != nil {
			return nil, err
		}
		byBody, bodyCPU = append(byBody, perSecond), append(bodyCPU, cpu)
	}
	return []figure{
		newFigure("CPU of a refresh by cookie, service, 64 clients", "µs", cookieCPU, "by body", bodyCPU, ratioUnder(1.1)),
		newFigure("refreshes by cookie, PostgreSQL, 64 clients", "/s", byCookie, "by body", byBody, nil),
	}, nil
}
