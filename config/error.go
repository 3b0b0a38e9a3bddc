package config

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Error says everything that is wrong with a configuration.
type Error struct {
	// Problems are in the order of files and lines; there is at least one.
	Problems []Problem
	// More counts the problems beyond MaxProblems that were left out.
	More int
}

// Problem is one thing that is wrong, and where.
type Problem struct {
	// File is the path as it was given or found; empty if no file is at fault.
	File string
	// Line and Column count from 1, Column in characters. 0 if the file as a whole
	// is at fault.
	Line, Column int
	// Field is the field at fault, such as descriptors[2].rate_limit, of a resource
	// that a control plane sent; File then begins with ResourcePrefix.
	Field string
	// Text says what is wrong and what was expected.
	Text string
	// Source is the line of the file, without its end; it may be shortened.
	Source string
	// mark is the column of the mark in Source, from 0.
	mark int
}

// Position returns file:line:column, or the resource and its field, as far as known.
func (p Problem) Position() string {
	switch {
	case p.File == "":
		return ""
	case p.Field != "":
		return p.File + " " + p.Field
	case p.Line == 0:
		return p.File
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
}

// String returns the position and the text in one line.
func (p Problem) String() string {
	if p.File == "" {
		return p.Text
	}
	return p.Position() + ": " + p.Text
}

// Picture returns String, and below it the source line with a mark under the place.
func (p Problem) Picture() string {
	if p.Line == 0 || strings.TrimSpace(p.Source) == "" {
		return p.String()
	}
	number := fmt.Sprintf("%5d | ", p.Line)
	gutter := strings.Repeat(" ", len(number)-2) + "| "
	return p.String() + "\n" + number + p.Source + "\n" + gutter + strings.Repeat(" ", p.mark) + "^"
}

// Error returns the pictures of all problems, one below the other.
func (e *Error) Error() string {
	var b strings.Builder
	for i, p := range e.Problems {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(p.Picture())
	}
	if e.More > 0 {
		fmt.Fprintf(&b, "\nand %d more", e.More)
	}
	return b.String()
}

// maxSource is how many characters of a source line a problem shows.
const maxSource = 120

// excerpt returns the part of line around column (from 1, in characters) that a
// problem shows, and the offset of column in it. Tabs and what cannot be printed
// become spaces, so that the mark stands where it should.
func excerpt(line string, column int) (string, int) {
	runes := []rune(line)
	mark := min(max(column-1, 0), len(runes))
	start := 0
	if len(runes) > maxSource {
		start = min(max(mark-maxSource/2, 0), len(runes)-maxSource)
		runes = runes[start : start+maxSource]
	}
	var b strings.Builder
	for _, r := range runes {
		if r < ' ' || r == 0x7f || r == utf8.RuneError {
			r = ' '
		}
		b.WriteRune(r)
	}
	return strings.TrimRight(b.String(), " "), mark - start
}
