package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	ratelimitv3 "github.com/envoyproxy/go-control-plane/ratelimit/config/ratelimit/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/structpb"
	"pgregory.net/rapid"
)

type rateLimit = ratelimitv3.RateLimitPolicy

// drawResource draws a resource of a few keys, so that some are given twice.
func drawResource(t *rapid.T) *ratelimitv3.RateLimitConfig {
	key := rapid.SampledFrom([]string{"", "a", "b", "a_b", "path", "k*"})
	value := rapid.SampledFrom([]string{"", "x", "y", "/v1/*", "*", "1", "true", "null", "1.5", "é", "a: b", "- #"})
	var draw func(depth int) []*ratelimitv3.RateLimitDescriptor
	draw = func(depth int) (list []*ratelimitv3.RateLimitDescriptor) {
		for range rapid.IntRange(0, 3-depth).Draw(t, "descriptors") {
			d := &ratelimitv3.RateLimitDescriptor{
				Key: key.Draw(t, "key"), Value: value.Draw(t, "value"),
				ShadowMode: rapid.Bool().Draw(t, "shadow"), DetailedMetric: rapid.Bool().Draw(t, "detailed"),
				QuotaMode: rapid.IntRange(0, 9).Draw(t, "quota") == 0, Descriptors: draw(depth + 1),
			}
			if rapid.Bool().Draw(t, "limited") {
				d.RateLimit = &rateLimit{
					Unit:            ratelimitv3.RateLimitUnit(rapid.IntRange(0, 8).Draw(t, "unit")),
					RequestsPerUnit: rapid.Uint32().Draw(t, "amount"), Name: value.Draw(t, "name"),
					Unlimited: rapid.IntRange(0, 3).Draw(t, "unlimited") == 0,
				}
				for range rapid.IntRange(0, 10).Draw(t, "replaces") - 8 {
					d.RateLimit.Replaces = append(d.RateLimit.Replaces, &ratelimitv3.RateLimitReplace{Name: value.Draw(t, "replaced")})
				}
			}
			if rapid.IntRange(0, 5).Draw(t, "metadata") == 0 {
				d.Metadata = &structpb.Struct{Fields: map[string]*structpb.Value{
					"text": structpb.NewStringValue("x"), "number": structpb.NewNumberValue(1.5), "whole": structpb.NewNumberValue(-3),
					"truth": structpb.NewBoolValue(true), "nothing": structpb.NewNullValue(),
					"list": structpb.NewListValue(&structpb.ListValue{Values: []*structpb.Value{structpb.NewStringValue("y")}}),
				}}
			}
			list = append(list, d)
		}
		return list
	}
	return &ratelimitv3.RateLimitConfig{
		Name: rapid.SampledFrom([]string{"r1", "r2", ""}).Draw(t, "name"), Domain: rapid.SampledFrom([]string{"edge", "other", ""}).Draw(t, "domain"),
		Descriptors: draw(0),
	}
}

// asFile writes a resource as the file that says the same.
func asFile(c *ratelimitv3.RateLimitConfig) string {
	var b strings.Builder
	fmt.Fprintf(&b, "domain: %q\n", c.GetDomain())
	if len(c.GetDescriptors()) > 0 {
		fmt.Fprintf(&b, "descriptors: %s\n", descriptorsAsFile(c.GetDescriptors()))
	}
	return b.String()
}

func descriptorsAsFile(list []*ratelimitv3.RateLimitDescriptor) string {
	items := make([]string, len(list))
	for i, d := range list {
		fields := []string{fmt.Sprintf("key: %q, value: %q, shadow_mode: %v, detailed_metric: %v, quota_mode: %v",
			d.GetKey(), d.GetValue(), d.GetShadowMode(), d.GetDetailedMetric(), d.GetQuotaMode())}
		if l := d.GetRateLimit(); l != nil {
			var replaces []string
			for _, r := range l.GetReplaces() {
				replaces = append(replaces, fmt.Sprintf("{name: %q}", r.GetName()))
			}
			fields = append(fields, fmt.Sprintf("rate_limit: {unit: %q, requests_per_unit: %d, unlimited: %v, name: %q, replaces: [%s]}",
				l.GetUnit(), l.GetRequestsPerUnit(), l.GetUnlimited(), l.GetName(), strings.Join(replaces, ", ")))
		}
		if d.GetMetadata() != nil {
			fields = append(fields, `metadata: {text: "x", number: 1.5, whole: -3, truth: true, nothing: null, list: ["y"]}`)
		}
		if len(d.GetDescriptors()) > 0 {
			fields = append(fields, "descriptors: "+descriptorsAsFile(d.GetDescriptors()))
		}
		items[i] = "{" + strings.Join(fields, ", ") + "}"
	}
	return "[" + strings.Join(items, ", ") + "]"
}

// texts returns what is wrong, without the places.
func texts(err error) []string {
	var e *Error
	if !errors.As(err, &e) {
		return nil
	}
	list := []string{}
	for _, p := range e.Problems {
		text, _, _ := strings.Cut(p.Text, "; also at ")
		list = append(list, text)
	}
	slices.Sort(list)
	return list
}

// TestResourceMeansTheFile: a resource means what the file means that says the same, and
// what is wrong with either is said in the same words.
func TestResourceMeansTheFile(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var resources []*ratelimitv3.RateLimitConfig
		var files []source
		for range rapid.IntRange(1, 3).Draw(t, "resources") {
			resources = append(resources, drawResource(t))
		}
		for i, c := range sortResources(resources) {
			files = append(files, source{path: fmt.Sprint(i, ".yaml"), data: []byte(asFile(c))})
		}
		o := Options{MergeDomains: rapid.Bool().Draw(t, "merge"), Strict: rapid.Bool().Draw(t, "strict")}
		fromFiles, fileErr := o.build([]string{"d"}, snapshot{files: files}, &report{}, nil)
		fromPlane, planeErr := o.LoadResources(nil, resources, nil)
		if diff := cmp.Diff(texts(fileErr), texts(planeErr)); diff != "" || (fileErr == nil) != (planeErr == nil) {
			t.Fatalf("other errors (-files +resources):\n%s", diff)
		}
		if fileErr != nil {
			return
		}
		same := cmp.Options{cmp.AllowUnexported(RatelimitRule{}, ratelimitLevel{}), protocmp.Transform()}
		if diff := cmp.Diff(fromFiles.Spec, fromPlane.Spec, same); diff != "" {
			t.Fatalf("another plan (-files +resources):\n%s", diff)
		}
		if diff := cmp.Diff(fromFiles.Ratelimit, fromPlane.Ratelimit); diff != "" || fromFiles.Digest != fromPlane.Digest || fromFiles.Rules != fromPlane.Rules {
			t.Fatalf("other domains, digests %s and %s, %d and %d rules:\n%s", fromFiles.Digest, fromPlane.Digest, fromFiles.Rules, fromPlane.Rules, diff)
		}
	})
}

// TestResourceMetadata: metadata stays what it is, also text that looks like something else.
func TestResourceMetadata(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var draw func(depth int) *structpb.Value
		text := rapid.SampledFrom([]string{"", "yes", "NO", "true", "null", "~", "1", "0x1f", "1.5", ".nan", "2026-11-25", "<<", "a: b", "- x", "\n", "\x00", "é"})
		draw = func(depth int) *structpb.Value {
			switch rapid.IntRange(0, 5-depth).Draw(t, "kind") {
			case 0:
				return structpb.NewStringValue(text.Draw(t, "text"))
			case 1:
				return structpb.NewNumberValue(rapid.OneOf(rapid.Float64(), rapid.SampledFrom([]float64{0, 1, -1, 1 << 53, 1e15 + 0.5, 1e300})).Draw(t, "number"))
			case 2:
				return structpb.NewBoolValue(rapid.Bool().Draw(t, "truth"))
			case 3:
				return structpb.NewNullValue()
			case 4:
				list := &structpb.ListValue{}
				for range rapid.IntRange(0, 3).Draw(t, "items") {
					list.Values = append(list.Values, draw(depth+1))
				}
				return structpb.NewListValue(list)
			}
			m := &structpb.Struct{Fields: map[string]*structpb.Value{}}
			for range rapid.IntRange(0, 3).Draw(t, "fields") {
				m.Fields[text.Draw(t, "key")] = draw(depth + 1)
			}
			return structpb.NewStructValue(m)
		}
		want := &structpb.Struct{Fields: map[string]*structpb.Value{"m": draw(0)}}
		l, err := Options{}.LoadResources(nil, []*ratelimitv3.RateLimitConfig{{Domain: "edge", Descriptors: []*ratelimitv3.RateLimitDescriptor{
			{Key: "a", Metadata: want, RateLimit: &rateLimit{Unit: ratelimitv3.RateLimitUnit_DAY}},
		}}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		got := l.Spec.Domains[0].Rules[0].Note.(*RatelimitRule).Metadata
		if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
			t.Fatalf("other metadata (-want +got):\n%s", diff)
		}
	})
}

// TestResourcePlaces: an error names the resource and the field.
func TestResourcePlaces(t *testing.T) {
	minute := &rateLimit{Unit: ratelimitv3.RateLimitUnit_MINUTE}
	a := &ratelimitv3.RateLimitConfig{Name: "one", Domain: "edge", Descriptors: []*ratelimitv3.RateLimitDescriptor{
		{Key: "a", RateLimit: minute, Descriptors: []*ratelimitv3.RateLimitDescriptor{
			{Key: "b"},
			{Key: "c", RateLimit: &rateLimit{Unit: 99}},
		}},
		{Key: "a", RateLimit: minute},
		{Key: "u", RateLimit: &rateLimit{Unit: ratelimitv3.RateLimitUnit_DAY, Unlimited: true}},
	}}
	b := &ratelimitv3.RateLimitConfig{Name: "two", Domain: "edge"}
	_, err := Options{}.LoadResources(nil, []*ratelimitv3.RateLimitConfig{b, a}, nil)
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("got %v, want an *Error", err)
	}
	var got []string
	for _, p := range e.Problems {
		got = append(got, p.String())
	}
	want := []string{
		"xds:one descriptors[0].descriptors[1].rate_limit.unit: invalid rate limit unit '99', expected one of second, minute, hour, day, week, month, year",
		"xds:one descriptors[1]: duplicate descriptor composite key 'edge.a', expected each once; also at xds:one descriptors[0]",
		"xds:one descriptors[2].rate_limit.unit: should not specify rate limit unit when unlimited, expected only one of unit and unlimited",
		"xds:two domain: duplicate domain 'edge' in config file, expected each domain in one file; also at xds:one domain",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// FuzzResource: whatever a resource holds, it is read or refused.
func FuzzResource(f *testing.F) {
	for _, c := range []*ratelimitv3.RateLimitConfig{{}, manyRules(8), {Name: "\x00", Domain: "a", Descriptors: []*ratelimitv3.RateLimitDescriptor{{
		Key: "a", Value: "*", Metadata: &structpb.Struct{Fields: map[string]*structpb.Value{"": {}, "n": structpb.NewNumberValue(1e300)}},
	}}}} {
		b, err := proto.Marshal(c)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c := &ratelimitv3.RateLimitConfig{}
		if proto.Unmarshal(data, c) != nil {
			return
		}
		l, err := Options{}.LoadResources(nil, []*ratelimitv3.RateLimitConfig{c}, nil)
		var problems *Error
		switch {
		case err == nil:
			checkSpec(t, l.Spec)
		case !errors.As(err, &problems) || len(problems.Problems) == 0 || len(problems.Problems) > MaxProblems:
			t.Fatalf("an error of another kind: %v", err)
		default:
			for _, p := range problems.Problems {
				if p.Line != 0 || strings.ContainsAny(p.String(), "\n\r\t\x00") || !strings.HasPrefix(p.File, ResourcePrefix) {
					t.Fatalf("a problem that cannot be shown: %q", p.String())
				}
			}
		}
	})
}
