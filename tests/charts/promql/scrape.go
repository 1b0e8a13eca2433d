package main

import (
	"encoding/json"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/discovery"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/relabel"
)

// Prometheus' own client of Kubernetes is larger than all the rest: of its settings the role alone is known here.
type kubernetes struct {
	Role string `yaml:"role"`
}

func (*kubernetes) Name() string { return "kubernetes" }

func (*kubernetes) NewDiscoverer(discovery.DiscovererOptions) (discovery.Discoverer, error) {
	return nil, nil
}

func (*kubernetes) NewDiscovererMetrics(
	prometheus.Registerer, discovery.RefreshMetricsInstantiator,
) discovery.DiscovererMetrics {
	return nil
}

// A configuration, and the labels of what a discovery found.
type discovered struct {
	Config string              `json:"config"`
	Found  []map[string]string `json:"found"`
}

// Reads a configuration, and writes by job the labels of the targets that it makes of what was found.
func scrapes(from *json.Decoder, to *json.Encoder) error {
	discovery.RegisterConfig(&kubernetes{})
	var asked discovered
	if err := from.Decode(&asked); err != nil {
		return err
	}
	read, err := config.Load(asked.Config, slog.Default())
	if err != nil {
		return err
	}
	answer := map[string][]map[string]string{}
	for _, job := range read.ScrapeConfigs {
		answer[job.JobName] = []map[string]string{}
		for _, found := range asked.Found {
			given := labels.NewBuilder(labels.FromMap(found))
			given.Set("__metrics_path__", job.MetricsPath)
			given.Set("__scheme__", job.Scheme)
			if made, kept := relabel.Process(given.Labels(), job.RelabelConfigs...); kept {
				answer[job.JobName] = append(answer[job.JobName], made.Map())
			}
		}
	}
	return to.Encode(answer)
}
