package server

import (
	"maps"
	"strconv"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/weir-project/weir/config"
)

// ratelimitMetadata adds the request, as envoyproxy/ratelimit writes it, and what the
// files say of the descriptors that passed.
func (c *rlsCall) ratelimitMetadata() {
	if !c.ratelimit.DynamicMetadata {
		return
	}
	fields := map[string]*structpb.Value{"domain": structpb.NewStringValue(c.request.domain)}
	list := &structpb.ListValue{}
	for i := range c.request.descriptors {
		list.Values = append(list.Values, structpb.NewStructValue(c.describe(&c.request.descriptors[i])))
	}
	fields["descriptors"] = structpb.NewListValue(list)
	if c.request.hits != 0 {
		fields["hitsAddend"] = structpb.NewNumberValue(float64(c.request.hits))
	}
	if m := c.metadataOfPassed(); m != nil {
		fields["metadata"] = structpb.NewStructValue(m)
	}
	// What came as text that is no text was refused before.
	c.response.metadata, _ = proto.MarshalOptions{Deterministic: true}.Marshal(&structpb.Struct{Fields: fields})
}

// describe writes one descriptor.
func (c *rlsCall) describe(d *rlsDescriptor) *structpb.Struct {
	entries := &structpb.ListValue{}
	for _, e := range c.request.of(d) {
		entries.Values = append(entries.Values, structpb.NewStringValue(e.Key+"="+e.Value))
	}
	fields := map[string]*structpb.Value{"entries": structpb.NewListValue(entries)}
	if d.limit.set {
		fields["limit"] = structpb.NewStringValue(d.limit.String())
	}
	if d.hasHits {
		fields["hitsAddend"] = structpb.NewNumberValue(float64(d.hits))
	}
	return &structpb.Struct{Fields: fields}
}

// unitEnums are the names of envoy.type.v3.RateLimitUnit.
var unitEnums = [...]string{"UNKNOWN", "SECOND", "MINUTE", "HOUR", "DAY", "MONTH", "YEAR", "WEEK"}

// String writes o in protobuf's text format.
func (o *rlsOverride) String() string {
	var b []byte
	if o.amount != 0 {
		b = strconv.AppendUint(append(b, "requests_per_unit:"...), uint64(o.amount), 10)
	}
	if o.unit != 0 {
		if len(b) > 0 {
			b = append(b, ' ')
		}
		b = append(b, "unit:"...)
		if int(o.unit) < len(unitEnums) && o.unit > 0 {
			b = append(b, unitEnums[o.unit]...)
		} else {
			b = strconv.AppendInt(b, int64(o.unit), 10)
		}
	}
	if o.hasMultiplier {
		b = append(strconv.AppendUint(append(b, " unit_multiplier:{value:"...), uint64(o.multiplier), 10), '}')
	}
	return string(b)
}

// metadataOfPassed merges the metadata of the rules whose descriptors passed: of each
// field the first value counts. It is nil if there is none.
func (c *rlsCall) metadataOfPassed() *structpb.Struct {
	var merged *structpb.Struct
	for i := range c.response.statuses {
		s := &c.response.statuses[i]
		if s.code != codeOK || s.limit == nil {
			continue
		}
		if rule, ok := s.limit.Note.(*config.RatelimitRule); ok && rule.Metadata != nil {
			merged = mergeStructs(merged, rule.Metadata)
		}
	}
	return merged
}

// mergeStructs returns first with what it lacks of second. It changes neither.
func mergeStructs(first, second *structpb.Struct) *structpb.Struct {
	if first == nil {
		return second
	}
	out := &structpb.Struct{Fields: make(map[string]*structpb.Value, len(first.GetFields())+len(second.GetFields()))}
	maps.Copy(out.Fields, first.GetFields())
	for k, v := range second.GetFields() {
		had, ok := out.Fields[k]
		switch a, b := had.GetStructValue(), v.GetStructValue(); {
		case !ok:
			out.Fields[k] = v
		case a != nil && b != nil:
			out.Fields[k] = structpb.NewStructValue(mergeStructs(a, b))
		}
	}
	return out
}
