package xds

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// collected is the sum of one family of a client's metrics.
type collected struct {
	c    *Client
	desc *prometheus.Desc
}

func (m collected) Describe(ch chan<- *prometheus.Desc) { ch <- m.desc }

func (m collected) Collect(ch chan<- prometheus.Metric) {
	all := make(chan prometheus.Metric, 100)
	m.c.Collect(all)
	close(all)
	sum := 0.0
	for metric := range all {
		var d dto.Metric
		if metric.Desc() == m.desc && metric.Write(&d) == nil {
			sum += d.GetGauge().GetValue() + d.GetCounter().GetValue()
		}
	}
	name := strings.Split(m.desc.String(), `"`)[1]
	ch <- prometheus.MustNewConstMetric(prometheus.NewDesc(name, "The sum.", nil, nil), prometheus.GaugeValue, sum)
}
