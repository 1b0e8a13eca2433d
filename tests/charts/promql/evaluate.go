package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"time"

	"github.com/prometheus/prometheus/promql"
)

const (
	samples  = 50_000_000
	patience = time.Minute
	lookback = 5 * time.Minute
)

type question struct {
	Scrapes []scrape `json:"scrapes"`
	Queries []string `json:"queries"`
}

// One series of an answer. Value is absent where it is not a number.
type found struct {
	Labels map[string]string `json:"labels"`
	Value  *float64          `json:"value"`
}

// Evaluates all queries of a question, and writes a list of series for each, in their order.
func evaluate(from *json.Decoder, to *json.Encoder) error {
	var asked question
	if err := from.Decode(&asked); err != nil {
		return err
	}
	held := memory{}
	var last time.Time
	for _, each := range asked.Scrapes {
		if err := held.take(each); err != nil {
			return err
		}
		if when := time.UnixMilli(each.Time); when.After(last) {
			last = when
		}
	}
	engine := promql.NewEngine(promql.EngineOpts{MaxSamples: samples, Timeout: patience, LookbackDelta: lookback})
	answers := make([][]found, 0, len(asked.Queries))
	for _, each := range asked.Queries {
		answer, err := instant(engine, held, each, last)
		if err != nil {
			return fmt.Errorf("%s: %w", each, err)
		}
		answers = append(answers, answer)
	}
	return to.Encode(answers)
}

func instant(engine *promql.Engine, held memory, text string, at time.Time) ([]found, error) {
	query, err := engine.NewInstantQuery(context.Background(), held, nil, text, at)
	if err != nil {
		return nil, err
	}
	defer query.Close()
	result := query.Exec(context.Background())
	vector, err := result.Vector()
	if err != nil {
		return nil, err
	}
	answer := make([]found, 0, len(vector))
	for _, each := range vector {
		one := found{Labels: each.Metric.Map()}
		if !math.IsNaN(each.F) && !math.IsInf(each.F, 0) {
			one.Value = &each.F
		}
		answer = append(answer, one)
	}
	return answer, nil
}
