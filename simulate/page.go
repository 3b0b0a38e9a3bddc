package simulate

import (
	_ "embed" // the page
	"fmt"
	"html/template"
	"io"
)

//go:embed page.html
var pageText string

var pageTemplate = template.Must(template.New("page").Funcs(template.FuncMap{
	"number": func(digits int, v float64) string { return fmt.Sprintf("%.*f", digits, v) },
}).Parse(pageText))

// page is what the template shows.
type page struct {
	Title         string
	Rows          []Summary
	Scenarios     []scenarioPage
	Width, Height float64
	Left, Bottom  float64
	Right         float64
}

type scenarioPage struct {
	Name string
	Runs []runPage
}

type runPage struct {
	Title string
	*Result
	Plots []plot
}

// WritePage writes a page of HTML with a table of all results, and plots over time of
// the first result of each scenario and limiter. It needs no other file and no network.
func WritePage(w io.Writer, heading string, results []*Result) error {
	p := page{
		Title: heading, Rows: Summarize(results), Width: plotWidth, Height: plotHeight,
		Left: plotLeft, Bottom: plotHeight - plotBottom, Right: plotWidth - plotRight,
	}
	places := map[string]int{}
	shown := map[[2]string]bool{}
	for _, r := range results {
		run := runPage{Title: title(r.Limiter, r.Mode), Result: r}
		k := [2]string{r.Scenario, run.Title}
		if shown[k] || len(r.Series.Sent) < 2 {
			continue
		}
		shown[k] = true
		i, ok := places[r.Scenario]
		if !ok {
			i = len(p.Scenarios)
			places[r.Scenario] = i
			p.Scenarios = append(p.Scenarios, scenarioPage{Name: r.Scenario})
		}
		run.Plots = []plot{ratePlot(r), refusalPlot(r), queuePlot(r)}
		p.Scenarios[i].Runs = append(p.Scenarios[i].Runs, run)
	}
	return pageTemplate.Execute(w, p)
}
