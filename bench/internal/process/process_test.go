package process

import (
	"testing"
	"time"
)

func TestParseStatSkipsANameWithBracketsAndSpaces(t *testing.T) {
	line := "42 (we) ir (x) S 1 42 42 0 -1 4194560 1 2 3 4 150 25 0 0 20 0 1 0 9 1 1"
	got, err := parseStat(line)
	if err != nil || got != 1750*time.Millisecond {
		t.Errorf("got %v, %v; want 1.75s", got, err)
	}
}

func TestParseStatRefusesWhatIsTooShort(t *testing.T) {
	if got, err := parseStat("42 (weir) S 1 2 3"); err == nil {
		t.Errorf("got %v, want an error", got)
	}
}
