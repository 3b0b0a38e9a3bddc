package simulate

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// plot is a diagram over time, in the units of its SVG.
type plot struct {
	Title  string
	Lines  []line
	Areas  []line
	YTicks []tick
	XTicks []tick
}

// line is a path with a name and a colour.
type line struct {
	Name, Path, Color string
	Dashed            bool
}

// tick is a labelled place on an axis.
type tick struct {
	At    float64
	Label string
}

// The size of plots, with room for the axes.
const (
	plotWidth  = 420.0
	plotHeight = 150.0
	plotLeft   = 52.0
	plotRight  = 8.0
	plotTop    = 8.0
	plotBottom = 20.0
	plotPoints = 300
)

// palette are colours that can be told apart, also by the colour-blind.
func palette(i int) string {
	colors := [...]string{"#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#999999"}
	return colors[i%len(colors)]
}

// thin averages samples so that there are at most plotPoints.
func thin(v []float64) []float64 {
	step := (len(v) + plotPoints - 1) / plotPoints
	if step <= 1 {
		return v
	}
	out := make([]float64, 0, plotPoints)
	for i := 0; i < len(v); i += step {
		part := v[i:min(i+step, len(v))]
		out = append(out, sum(part)/float64(len(part)))
	}
	return out
}

// smooth averages each sample with those before it.
func smooth(v []float64, over int) []float64 {
	out := make([]float64, len(v))
	var s float64
	for i, x := range v {
		s += x
		if i >= over {
			s -= v[i-over]
		}
		out[i] = s / float64(min(i+1, over))
	}
	return out
}

// scale maps samples to places in a plot.
type scale struct {
	n    int
	most float64
}

func (s scale) x(i float64) float64 {
	return plotLeft + i/math.Max(1, float64(s.n-1))*(plotWidth-plotLeft-plotRight)
}

func (s scale) y(v float64) float64 {
	v = min(max(v, 0), s.most)
	return plotTop + (1-v/s.most)*(plotHeight-plotTop-plotBottom)
}

func (s scale) path(v []float64) string {
	var b strings.Builder
	for i, x := range v {
		op := byte('L')
		if i == 0 {
			op = 'M'
		}
		fmt.Fprintf(&b, "%c%.1f %.1f", op, s.x(float64(i)), s.y(x))
	}
	return b.String()
}

// between is the path around the area from one line to another.
func (s scale) between(low, high []float64) string {
	var b strings.Builder
	b.WriteString(s.path(high))
	for i, y := range slices.Backward(low) {
		fmt.Fprintf(&b, "L%.1f %.1f", s.x(float64(i)), s.y(y))
	}
	return b.String() + "Z"
}

// axes adds ticks for seconds of run, and for values.
func (p *plot) axes(s scale, run float64) {
	step := niceStep(s.most, 4)
	for v := 0.0; v <= s.most*1.0001; v += step {
		p.YTicks = append(p.YTicks, tick{s.y(v), short(v)})
	}
	step = max(1, niceStep(run/60, 6))
	for m := 0.0; m*60 <= run; m += step {
		p.XTicks = append(p.XTicks, tick{s.x(m * 60 / max(run, 1) * float64(s.n-1)), fmt.Sprintf("%g min", m)})
	}
}

// niceStep divides most into about n steps of 1, 2 or 5 times a power of ten.
func niceStep(most float64, n int) float64 {
	raw := max(most, 1e-9) / float64(n)
	base := math.Pow(10, math.Floor(math.Log10(raw)))
	for _, f := range []float64{1, 2, 5} {
		if raw <= f*base*1.0001 {
			return f * base
		}
	}
	return 10 * base
}

// short writes a number with k or M.
func short(v float64) string {
	switch {
	case v >= 1e6:
		return fmt.Sprintf("%gM", math.Round(v/1e4)/100)
	case v >= 1e4:
		return fmt.Sprintf("%gk", math.Round(v/100)/10)
	}
	return fmt.Sprintf("%g", math.Round(v*100)/100)
}

// ratePlot shows what was accepted of the binding meter, beside its limit.
func ratePlot(r *Result) plot {
	p := plot{Title: "accepted " + strings.ReplaceAll(r.Binding.String(), "_", " ") + " a minute, over 10 s"}
	x := &r.Series
	accepted := thin(smooth(x.Accepted[r.Binding], window))
	limit, learned := thin(x.Limit[r.Binding]), thin(x.Learned[r.Binding])
	s := scale{n: len(accepted), most: 1}
	for i := range limit {
		s.most = max(s.most, 1.25*limit[i], min(accepted[i], 2*limit[i]))
	}
	p.axes(s, r.Duration.Seconds())
	p.Lines = []line{{Name: "accepted", Path: s.path(accepted), Color: palette(0)}}
	if sum(learned) > 0 {
		p.Lines = append(p.Lines, line{Name: "learned rate", Path: s.path(learned), Color: palette(1)})
	}
	p.Lines = append(p.Lines, line{Name: "limit", Path: s.path(limit), Color: "#d00000", Dashed: true})
	return p
}

// refusalPlot shows how many calls were refused.
func refusalPlot(r *Result) plot {
	p := plot{Title: "calls a second: sent, refused with 429 and with 529, over 10 s"}
	x := &r.Series
	kinds := []line{{Name: "sent", Color: palette(4)}, {Name: "429", Color: palette(5)}, {Name: "529", Color: palette(6)}}
	values := [][]float64{thin(smooth(x.Sent, window)), thin(smooth(x.Rejected, window)), thin(smooth(x.Overloaded, window))}
	s := scale{n: len(values[0]), most: 1}
	for _, v := range values {
		for _, y := range v {
			s.most = max(s.most, 1.1*y)
		}
	}
	p.axes(s, r.Duration.Seconds())
	for i, k := range kinds {
		k.Path = s.path(values[i])
		p.Lines = append(p.Lines, k)
	}
	return p
}

// queuePlot shows how many requests wait, by tenant, one above the other.
func queuePlot(r *Result) plot {
	p := plot{Title: "waiting requests, by tenant"}
	var below []float64
	var layers [][]float64
	s := scale{most: 1}
	for _, v := range r.Series.Waiting {
		top := append([]float64(nil), thin(v)...)
		if below == nil {
			below = make([]float64, len(top))
			s.n = len(top)
			layers = append(layers, below)
		}
		for i := range top {
			top[i] += below[i]
			s.most = max(s.most, 1.1*top[i])
		}
		layers = append(layers, top)
		below = top
	}
	p.axes(s, r.Duration.Seconds())
	for i := 1; i < len(layers); i++ {
		p.Areas = append(p.Areas, line{Name: r.Tenants[i-1].Name, Path: s.between(layers[i-1], layers[i]), Color: palette(i - 1)})
	}
	return p
}
