package main

import "testing"

func TestNearest(t *testing.T) {
	verbs := []string{"serve", "check", "init", "explain", "version"}
	tests := []struct{ word, want string }{
		{"srve", "serve"},
		{"serves", "serve"},
		{"chekc", "check"},
		{"explian", "explain"},
		{"run", ""},
		{"x", ""},
		{"", ""},
	}
	for _, tt := range tests {
		if got := nearest(tt.word, verbs); got != tt.want {
			t.Errorf("nearest(%q) = %q, want %q", tt.word, got, tt.want)
		}
	}
}
