package config

import (
	"errors"
	"fmt"
	"regexp"
	"testing"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"
	"pgregory.net/rapid"

	configv1 "github.com/weir-project/weir/proto/weir/config/v1"
)

func TestParseDuration(t *testing.T) {
	const low, high = time.Millisecond, 366 * 24 * time.Hour
	for s, want := range map[string]time.Duration{
		"1ms": time.Millisecond, "500ms": 500 * time.Millisecond, "1s": time.Second, "1.5s": 1500 * time.Millisecond,
		"1m": time.Minute, "60s": time.Minute, "0.5m": 30 * time.Second, "1h30m": 90 * time.Minute, "24h": 24 * time.Hour,
		"1d": 24 * time.Hour, "366d": high, "365d23h59m59s1000ms": high,
		"1ms0.0000001s": time.Millisecond + 100, "007s": 7 * time.Second, "1s1s": 2 * time.Second,
		"0.001000000s": time.Millisecond, "999999999ms": 999999999 * time.Millisecond,
	} {
		if got, err := parseDuration(s, low, high); err != nil || got != want {
			t.Errorf("%s: got %v, %v, want %v", s, got, err, want)
		}
	}
	for s, want := range map[string]error{
		"0s": errDurationRange, "0.999999999ms": errDurationRange, "0.000000001d": errDurationRange,
		"366d1ms": errDurationRange, "999999999d": errDurationRange, "999999999d999999999d": errDurationRange,
		"366.000000001d": errDurationRange,
		"":               errDurationForm, "1": errDurationForm, "s": errDurationForm, "1.s": errDurationForm, ".5s": errDurationForm,
		"-1s": errDurationForm, "+1s": errDurationForm, "1 s": errDurationForm, "1S": errDurationForm, "1µs": errDurationForm,
		"1ns": errDurationForm, "1w": errDurationForm, "1e3s": errDurationForm, "1000000000s": errDurationForm,
		"1s1": errDurationForm, "1m s": errDurationForm, "0.0000000001s": errDurationForm, "inf": errDurationForm,
	} {
		if got, err := parseDuration(s, low, high); !errors.Is(err, want) || got != 0 {
			t.Errorf("%q: got %v, %v, want %v", s, got, err, want)
		}
	}
}

// TestDurationFormIsThePattern: what the parser takes for a duration is what the
// .proto's pattern, and so the schema, takes for one.
func TestDurationFormIsThePattern(t *testing.T) {
	pattern := regexp.MustCompile(`^([0-9]{1,9}([.][0-9]{1,9})?(ms|s|m|h|d))+$`)
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.StringMatching(`([0-9]{0,10}[.]?[0-9]{0,10}(ms|s|m|h|d|w)?){0,3}`).Draw(t, "s")
		_, err := parseDuration(s, 0, 366*24*time.Hour)
		if isForm := !errors.Is(err, errDurationForm); isForm != (pattern.MatchString(s) && len(s) <= 128) {
			t.Fatalf("%q: parser says %v, pattern says %v", s, err, pattern.MatchString(s))
		}
	})
}

// TestParseDurationOfGo: where both read a text, they read the same.
func TestParseDurationOfGo(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := time.Duration(rapid.Int64Range(1, int64(366*24*time.Hour)).Draw(t, "d"))
		s := d.Truncate(time.Millisecond).String()
		got, err := parseDuration(s, 0, 366*24*time.Hour)
		if err != nil || got != d.Truncate(time.Millisecond) {
			t.Fatalf("%s: got %v, %v", s, got, err)
		}
	})
}

// TestEveryKindIsRead: the .proto uses no kind of field that the binder cannot fill.
func TestEveryKindIsRead(t *testing.T) {
	seen := map[protoreflect.FullName]bool{}
	var visit func(protoreflect.MessageDescriptor)
	check := func(f protoreflect.FieldDescriptor) {
		switch f.Kind() {
		case protoreflect.StringKind, protoreflect.BoolKind, protoreflect.Uint64Kind:
		case protoreflect.MessageKind:
			visit(f.Message())
		default:
			t.Errorf("%s is of kind %s", f.FullName(), f.Kind())
		}
	}
	visit = func(m protoreflect.MessageDescriptor) {
		if seen[m.FullName()] {
			return
		}
		seen[m.FullName()] = true
		for i := range m.Fields().Len() {
			if f := m.Fields().Get(i); f.IsMap() {
				check(f.MapValue())
			} else {
				check(f)
				if !f.IsList() && !f.HasPresence() {
					t.Errorf("%s has no presence: the schema would call it required", f.FullName())
				}
			}
		}
	}
	visit((&configv1.Config{}).ProtoReflect().Descriptor())
	if len(seen) < 8 {
		t.Errorf("saw only %d messages", len(seen))
	}
}

// TestEveryKeyCanBeRenamed: each field of LlmKeys leads to a name of its own, whose
// default is the field's own name, except for phase.
func TestEveryKeyCanBeRenamed(t *testing.T) {
	v := DefaultVocabulary()
	fields := (&configv1.LlmKeys{}).ProtoReflect().Descriptor().Fields()
	taken := map[*string]protoreflect.Name{}
	for i := range fields.Len() {
		name := fields.Get(i).Name()
		word := v.word(string(name))
		if word == nil {
			t.Errorf("%s renames nothing", name)
			continue
		}
		if other, ok := taken[word]; ok {
			t.Errorf("%s and %s rename the same", name, other)
		}
		taken[word] = name
		if *word != string(name) && name != "phase" {
			t.Errorf("%s is called %q by default", name, *word)
		}
	}
}

// TestEveryLimitHasMeterAndWindow: the names of QuotaLimits are all understood.
func TestEveryLimitHasMeterAndWindow(t *testing.T) {
	fields := (&configv1.QuotaLimits{}).ProtoReflect().Descriptor().Fields()
	seen := map[string]protoreflect.Name{}
	for i := range fields.Len() {
		name := fields.Get(i).Name()
		meter, window := meterAndWindow(string(name))
		key := fmt.Sprint(meter, window)
		if window == 0 || meter.String() == "unknown" || seen[key] != "" {
			t.Errorf("%s means %s per %s, as %q does", name, meter, window, seen[key])
		}
		seen[key] = name
	}
}

func TestClosest(t *testing.T) {
	names := []string{"name", "provider", "match", "per", "limits", "hold", "counts_cache_reads"}
	for key, want := range map[string]string{
		"limitt": "limits", "Limits": "limits", "nam": "name", "prov": "provider", "countsCacheReads": "counts_cache_reads",
		"counts-cache-reads": "counts_cache_reads", "xyz": "", "": "", "holding": "hold", "perr": "per",
	} {
		if got := closest(key, names); got != want {
			t.Errorf("%q: got %q, want %q", key, got, want)
		}
	}
}

func TestExcerpt(t *testing.T) {
	line := "0123456789"
	long := ""
	for range 30 {
		long += line
	}
	for _, c := range []struct {
		line     string
		column   int
		want     string
		wantMark int
	}{
		{line, 1, line, 0},
		{line, 10, line, 9},
		{line, 99, line, 10},
		{line, 0, line, 0},
		{"a\tb", 3, "a b", 2},
		{"é☃b", 3, "é☃b", 2},
		{"", 1, "", 0},
		{long, 1, long[:120], 0},
		{long, 151, long[90:210], 60},
		{long, 300, long[180:], 119},
	} {
		got, mark := excerpt(c.line, c.column)
		if got != c.want || mark != c.wantMark {
			t.Errorf("excerpt(%q, %d) = %q, %d, want %q, %d", c.line, c.column, got, mark, c.want, c.wantMark)
		}
	}
}
