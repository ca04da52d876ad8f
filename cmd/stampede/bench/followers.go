package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
)

// followerCount is how many streams the target speaks of.
const followerCount = 1000

// followers measures how fast a revocation reaches a thousand followers of one replica.
func (b *bench) followers(ctx context.Context) ([]figure, error) {
	if err := b.subjects(ctx); err != nil {
		return nil, err
	}
	revocations := 20
	if b.quick {
		revocations = 5
	}
	var median, slow samples
	for range b.repetitions {
		out, err := output(ctx, b.dir, b.program("stampede"), "followers", b.postgres.url, "--n", strconv.Itoa(followerCount),
			"--revocations", strconv.Itoa(revocations), "--output", "json")
		if err != nil {
			return nil, err
		}
		var r struct {
			Latency struct {
				P50 float64 `json:"p50"`
				P99 float64 `json:"p99"`
			} `json:"latency_ms"`
		}
		if err := json.Unmarshal(out, &r); err != nil {
			return nil, fmt.Errorf("report of stampede: %w", err)
		}
		median, slow = append(median, r.Latency.P50), append(slow, r.Latency.P99)
	}
	return []figure{
		newFigure(fmt.Sprintf("revocation to %d followers, p50", followerCount), "ms", median, "", nil, nil),
		newFigure(fmt.Sprintf("revocation to %d followers, p99", followerCount), "ms", slow, "", nil, below(100)),
	}, nil
}
