package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/util/annotations"
)

// What a target said at a time (in milliseconds), and the labels that it is known by.
type scrape struct {
	Time   int64             `json:"time"`
	Labels map[string]string `json:"labels"`
	Text   string            `json:"text"`
}

type point struct {
	t int64
	f float64
}

func (p point) T() int64                      { return p.t }
func (p point) F() float64                    { return p.f }
func (p point) H() *histogram.Histogram       { return nil }
func (p point) FH() *histogram.FloatHistogram { return nil }
func (p point) Type() chunkenc.ValueType      { return chunkenc.ValFloat }
func (p point) Copy() chunks.Sample           { return p }

type series struct {
	labels labels.Labels
	points []chunks.Sample
}

// All samples, in the order in which they were taken, by the text of their labels.
type memory map[string]*series

func (m memory) take(said scrape) error {
	parser := textparse.NewPromParser([]byte(said.Text), labels.NewSymbolTable(), false)
	for {
		entry, err := parser.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("scrape of %v: %w", said.Labels, err)
		}
		if entry != textparse.EntrySeries {
			continue
		}
		var own labels.Labels
		parser.Labels(&own)
		_, _, value := parser.Series()
		m.add(known(own, said.Labels), point{t: said.Time, f: value})
	}
}

// The labels of a target win, as they do without honor_labels.
func known(own labels.Labels, target map[string]string) labels.Labels {
	builder := labels.NewBuilder(own)
	for name, value := range target {
		if before := own.Get(name); before != "" {
			builder.Set("exported_"+name, before)
		}
		builder.Set(name, value)
	}
	return builder.Labels()
}

func (m memory) add(of labels.Labels, what point) {
	key := of.String()
	if m[key] == nil {
		m[key] = &series{labels: of}
	}
	m[key].points = append(m[key].points, what)
}

// Querier makes the samples what the engine asks; times are left to it.
func (m memory) Querier(_, _ int64) (storage.Querier, error) {
	return querier{storage.NoopQuerier(), m}, nil
}

type querier struct {
	storage.Querier
	held memory
}

func (q querier) Select(
	_ context.Context, _ bool, _ *storage.SelectHints, matchers ...*labels.Matcher,
) storage.SeriesSet {
	set := &chosen{at: -1}
	for _, each := range q.held {
		if matches(each.labels, matchers) {
			set.series = append(set.series, storage.NewListSeries(each.labels, each.points))
		}
	}
	return set
}

func matches(of labels.Labels, matchers []*labels.Matcher) bool {
	for _, each := range matchers {
		if !each.Matches(of.Get(each.Name)) {
			return false
		}
	}
	return true
}

type chosen struct {
	series []storage.Series
	at     int
}

func (c *chosen) Next() bool                        { c.at++; return c.at < len(c.series) }
func (c *chosen) At() storage.Series                { return c.series[c.at] }
func (c *chosen) Err() error                        { return nil }
func (c *chosen) Warnings() annotations.Annotations { return nil }
