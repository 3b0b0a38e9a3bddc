package conformance

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	rlsv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
)

// windows are the reference's, aligned to the Unix epoch.
var windows = map[string]time.Duration{
	"second": time.Second, "minute": time.Minute, "hour": time.Hour, "day": 24 * time.Hour,
	"week": 7 * 24 * time.Hour, "month": 30 * 24 * time.Hour, "year": 365 * 24 * time.Hour,
}

// span is the time between sending a request and having its answer.
type span struct{ before, after time.Time }

// parseRequest reads a request in its JSON form.
func parseRequest(tree map[string]any) (*rlsv3.RateLimitRequest, error) {
	text, err := json.Marshal(tree)
	if err != nil {
		return nil, err
	}
	r := &rlsv3.RateLimitRequest{}
	return r, protojson.Unmarshal(text, r)
}

// parseAnswer reads a whole answer. The times in it that depend on the clock are
// returned by themselves, by their place.
func parseAnswer(tree map[string]any) (*rlsv3.RateLimitResponse, map[string]string, error) {
	times := map[string]string{}
	text, err := json.Marshal(takeTimes(tree, "", times))
	if err != nil {
		return nil, nil, err
	}
	for _, m := range times {
		if err := checkTime(m); err != nil {
			return nil, nil, err
		}
	}
	r := &rlsv3.RateLimitResponse{}
	return r, times, protojson.Unmarshal(text, r)
}

// takeTimes returns a copy of v in which the times are those of no answer, and collects
// how they are expected to be.
func takeTimes(v any, at string, times map[string]string) any {
	switch v := v.(type) {
	case map[string]any:
		c := make(map[string]any, len(v))
		for k, e := range v {
			m, isText := e.(string)
			switch {
			case isText && k == "durationUntilReset":
				times[at] = m
				c[k] = "0s"
			case isText && k == "value" && isTime(m):
				times[at] = m
				c[k] = ""
			default:
				c[k] = takeTimes(e, at+"."+k, times)
			}
		}
		return c
	case []any:
		c := make([]any, len(v))
		for i, e := range v {
			c[i] = takeTimes(e, at+"."+strconv.Itoa(i), times)
		}
		return c
	}
	return v
}

// A time is expected as "aligned MINUTE", the whole seconds until the end of the window
// that the clock is in; or as "1s..60s", or as "59s".

func isTime(m string) bool { return strings.HasPrefix(m, "aligned ") || strings.Contains(m, "..") }

func checkTime(m string) error {
	_, err := sameTime(m, 0, span{time.Unix(0, 0), time.Unix(0, 0)})
	return err
}

// sameTime says whether a time is as expected. An error says that nothing could be.
func sameTime(m string, got time.Duration, when span) (bool, error) {
	if unit, ok := strings.CutPrefix(m, "aligned "); ok {
		w := int64(windows[strings.ToLower(unit)] / time.Second)
		if w == 0 || unit != strings.ToUpper(unit) {
			return false, fmt.Errorf("%q: no such unit", m)
		}
		for at := when.before.Unix(); at <= when.after.Unix(); at++ {
			if got == time.Duration(w-at%w)*time.Second {
				return true, nil
			}
		}
		return false, nil
	}
	from, to, isRange := strings.Cut(m, "..")
	if !isRange {
		to = from
	}
	low, err := time.ParseDuration(from)
	high, err2 := time.ParseDuration(to)
	if err := errors.Join(err, err2); err != nil {
		return false, err
	}
	return low <= got && got <= high, nil
}

// differs says how an answer is not as expected, or "".
func (e *expected) differs(got *rlsv3.RateLimitResponse, when span) string {
	if e.Shows != nil {
		tree, err := shown(got)
		if err != nil {
			return err.Error()
		}
		return strings.Join(missing(e.Shows, tree, "", when), "\n")
	}
	want, times, err := parseAnswer(e.Answer)
	if err != nil {
		return err.Error()
	}
	got = proto.Clone(got).(*rlsv3.RateLimitResponse)
	var wrong []string
	check := func(at, text string, d time.Duration) {
		m, ok := times[at]
		if same, err := sameTime(m, d, when); ok && (err != nil || !same) {
			wrong = append(wrong, fmt.Sprintf("%s: got %q, want %s at %s", at, text, m, when.before.UTC().Format(time.TimeOnly)))
		}
	}
	for i, s := range got.GetStatuses() {
		if d := s.GetDurationUntilReset(); d != nil {
			check(fmt.Sprintf(".statuses.%d", i), d.AsDuration().String(), d.AsDuration())
			if times[fmt.Sprintf(".statuses.%d", i)] != "" {
				s.DurationUntilReset = durationpb.New(0)
			}
		}
	}
	for i, h := range got.GetResponseHeadersToAdd() {
		at := fmt.Sprintf(".responseHeadersToAdd.%d", i)
		if _, ok := times[at]; !ok {
			continue
		}
		seconds, err := strconv.Atoi(h.GetValue())
		if err != nil {
			seconds = -1
		}
		check(at, h.GetValue(), time.Duration(seconds)*time.Second)
		h.Value = ""
	}
	oneSpace(got.GetDynamicMetadata())
	oneSpace(want.GetDynamicMetadata())
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		wrong = append(wrong, "(-want +got):\n"+diff)
	}
	return strings.Join(wrong, "\n")
}

// oneSpace makes runs of spaces one: the text form of messages, which the dynamic
// metadata has, is not the same from one build of a program to the next.
func oneSpace(s *structpb.Struct) {
	for _, v := range s.GetFields() {
		oneSpaceValue(v)
	}
}

func oneSpaceValue(v *structpb.Value) {
	switch k := v.GetKind().(type) {
	case *structpb.Value_StringValue:
		k.StringValue = strings.Join(strings.Fields(k.StringValue), " ")
	case *structpb.Value_StructValue:
		oneSpace(k.StructValue)
	case *structpb.Value_ListValue:
		for _, e := range k.ListValue.GetValues() {
			oneSpaceValue(e)
		}
	}
}

// shown returns an answer in its JSON form, with what is zero in it, too.
func shown(got *rlsv3.RateLimitResponse) (map[string]any, error) {
	text, err := protojson.MarshalOptions{EmitDefaultValues: true}.Marshal(got)
	if err != nil {
		return nil, err
	}
	var tree map[string]any
	return tree, json.Unmarshal(text, &tree)
}

// checkShown checks that a part of an answer could be one of any: that its fields exist.
func checkShown(tree map[string]any) error {
	if tree == nil {
		return nil
	}
	_, _, err := parseAnswer(withoutAbsent(tree).(map[string]any))
	return err
}

// absent is expected of a field that must not be there.
const absent = "(absent)"

func withoutAbsent(v any) any {
	switch v := v.(type) {
	case map[string]any:
		c := maps.Clone(v)
		for k, e := range c {
			if e == absent {
				delete(c, k)
			} else {
				c[k] = withoutAbsent(e)
			}
		}
		return c
	case []any:
		c := slices.Clone(v)
		for i, e := range c {
			c[i] = withoutAbsent(e)
		}
		return c
	}
	return v
}

// missing says what of a part is not so in an answer. Lists have the same length.
func missing(want, got any, at string, when span) []string {
	wrong := func() []string { return []string{fmt.Sprintf("%s: got %v, want %v", at, got, want)} }
	switch want := want.(type) {
	case map[string]any:
		tree, ok := got.(map[string]any)
		if !ok {
			return wrong()
		}
		var all []string
		for _, k := range slices.Sorted(maps.Keys(want)) {
			all = append(all, missing(want[k], tree[k], at+"."+k, when)...)
		}
		return all
	case []any:
		list, ok := got.([]any)
		if !ok || len(list) != len(want) {
			return wrong()
		}
		var all []string
		for i, e := range want {
			all = append(all, missing(e, list[i], at+"."+strconv.Itoa(i), when)...)
		}
		return all
	case string:
		if want == absent {
			if list, _ := got.([]any); got == nil || got == "" || list != nil && len(list) == 0 {
				return nil
			}
			return wrong()
		}
		if strings.HasSuffix(at, ".durationUntilReset") || isTime(want) {
			text := fmt.Sprint(got)
			if !strings.HasSuffix(text, "s") {
				text += "s" // the value of a header
			}
			d, err := time.ParseDuration(text)
			if same, bad := sameTime(want, d, when); err != nil || bad != nil || !same {
				return wrong()
			}
			return nil
		}
	}
	if plain(got) != plain(want) {
		return wrong()
	}
	return nil
}

// plain is a number, a text or a truth value as text; JSON has all numbers as floats.
func plain(v any) string {
	if f, ok := v.(float64); ok {
		return strconv.FormatFloat(f, 'f', -1, 64)
	}
	return fmt.Sprint(v)
}
