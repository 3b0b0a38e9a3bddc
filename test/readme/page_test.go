package readme

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// step is one command of a page.
type step struct {
	line    int // of the command, from 1
	command string
	output  []string
	exit    int
}

// parse returns the commands of a page, in order.
func parse(page string) ([]step, error) {
	var steps []step
	var block []step
	kind, inside, continued := "", false, false
	for i, line := range strings.Split(page, "\n") {
		switch {
		case !inside && strings.HasPrefix(line, "```"):
			kind, inside, block = strings.TrimPrefix(line, "```"), true, nil
		case inside && strings.HasPrefix(line, "```"):
			inside = false
			done, err := finish(kind, block)
			if err != nil {
				return nil, fmt.Errorf("line %d: %w", i+1, err)
			}
			steps = append(steps, done...)
		case !inside || !strings.HasPrefix(kind, "console"):
		case continued:
			last := &block[len(block)-1]
			last.command += "\n" + line
			continued = strings.HasSuffix(line, `\`)
		case strings.HasPrefix(line, "$ "):
			block = append(block, step{line: i + 1, command: line[2:]})
			continued = strings.HasSuffix(line, `\`)
		case strings.HasPrefix(line, "# "):
		case len(block) == 0:
			if strings.TrimSpace(line) != "" {
				return nil, fmt.Errorf("line %d: output before any command: %q", i+1, line)
			}
		default:
			last := &block[len(block)-1]
			last.output = append(last.output, line)
		}
	}
	return steps, nil
}

// finish applies what a block's kind says to its commands.
func finish(kind string, block []step) ([]step, error) {
	words := strings.Fields(kind)
	if len(words) == 0 || words[0] != "console" {
		return nil, nil
	}
	for i := range block {
		block[i].output = trimBlank(block[i].output)
	}
	for _, word := range words[1:] {
		status, isExit := strings.CutPrefix(word, "exit=")
		n, err := strconv.Atoi(status)
		switch {
		case word == "skip":
			return nil, nil
		case isExit && err == nil && len(block) > 0:
			block[len(block)-1].exit = n
		default:
			return nil, fmt.Errorf("block of kind %q: expected skip or exit=NUMBER after console", kind)
		}
	}
	return block, nil
}

func trimBlank(lines []string) []string {
	for len(lines) > 0 && strings.TrimSpace(lines[len(lines)-1]) == "" {
		lines = lines[:len(lines)-1]
	}
	return lines
}

// matches compares output with what a page shows; prefix says that more may follow.
// Its error shows both.
func matches(want []string, got string, prefix bool) error {
	pattern := `(?s)\A`
	for _, line := range want {
		if strings.TrimSpace(line) == "…" {
			pattern += `(?:[^\n]*\n)*?`
			continue
		}
		parts := strings.Split(squeeze(line), "…")
		for i, part := range parts {
			parts[i] = regexp.QuoteMeta(part)
		}
		pattern += strings.Join(parts, `[^\n]*?`) + `\n`
	}
	if !prefix {
		pattern += `\s*\z`
	}
	var squeezed strings.Builder
	for line := range strings.Lines(got) {
		squeezed.WriteString(squeeze(line) + "\n")
	}
	if regexp.MustCompile(pattern).MatchString(squeezed.String()) {
		return nil
	}
	return fmt.Errorf("the page shows\n%s\nbut it printed\n%s", indent(strings.Join(want, "\n")), indent(got))
}

// squeeze removes white space, in which encoders are free.
func squeeze(line string) string { return strings.Join(strings.Fields(line), "") }

func indent(text string) string {
	return "    " + strings.ReplaceAll(strings.TrimRight(text, "\n"), "\n", "\n    ")
}

func TestParse(t *testing.T) {
	page := strings.Join([]string{
		"# Title", "```sh", "$ not this", "```",
		"```console", "# look:", "$ one \\", "    --more", "out", "", "$ two", "```",
		"```console exit=3", "$ three", "$ four", "bad", "", "```",
		"```console skip", "$ five", "```",
	}, "\n")
	got, err := parse(page)
	want := []step{
		{line: 7, command: "one \\\n    --more", output: []string{"out"}},
		{line: 11, command: "two"},
		{line: 14, command: "three"},
		{line: 15, command: "four", output: []string{"bad"}, exit: 3},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(step{})); err != nil || diff != "" {
		t.Errorf("%v, (-want +got):\n%s", err, diff)
	}
	for _, bad := range []string{"```console\nout\n```", "```console exit=x\n$ a\n```", "```console maybe\n$ a\n```"} {
		if _, err := parse(bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestMatches(t *testing.T) {
	for _, c := range []struct {
		want   string
		got    string
		prefix bool
		ok     bool
	}{
		{"a\nb", "a\nb\n", false, true},
		{"a\nb", "a\nb\nc\n", false, false},
		{"a\nb", "a\nb\nc\n", true, true},
		{"a\nb", "a\n", true, false},
		{`{"id": "…", "n": 1}`, "{\"id\":\"xyz\",  \"n\":1}\n", false, true},
		{`{"id": "…", "n": 1}`, "{\"id\":\"xyz\",  \"n\":2}\n", false, false},
		{"a…", "a\nb\n", false, false},
		{"a\n…\nd", "a\nb\nc\nd\n", false, true},
		{"a\n…\nd", "a\nd\n", false, true},
		{"a\n…", "a\n", false, true},
		{"a.c", "abc\n", false, false},
	} {
		if err := matches(strings.Split(c.want, "\n"), c.got, c.prefix); (err == nil) != c.ok {
			t.Errorf("%q against %q (prefix %v): %v", c.got, c.want, c.prefix, err)
		}
	}
}
