package server

import (
	"context"
	"math"
	"strconv"
	"strings"

	alsv3 "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"
	aiv3 "github.com/envoyproxy/go-control-plane/envoy/data/ai/v3"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/weir-project/weir/limiter"
)

// logged says what came of an access log entry: what came of its report, or why it was
// none.
type logged uint8

const (
	// loggedGoesOn: the call has not ended yet.
	loggedGoesOn = logged(numSettled) + iota
	// loggedAttempt: one attempt of a call that may be tried again. A reservation is
	// settled once, by the call's own entry, which comes at its end. An attempt that was
	// refused is learned from, if the call was tried again.
	loggedAttempt
	// loggedOther: not about an HTTP call.
	loggedOther
	numLogged
)

// String returns the label of metrics.
func (l logged) String() string {
	switch l {
	case loggedGoesOn:
		return "periodic"
	case loggedAttempt:
		return "attempt"
	case loggedOther:
		return "other"
	}
	return settled(l).String()
}

// entry settles the call that e is about if it has ended, and else charges what it is
// known to have used so far.
func (s *als) entry(ctx context.Context, a *active, words *vocabulary, e *alsv3.HTTPAccessLogEntry) logged {
	common := e.GetCommonProperties()
	switch common.GetAccessLogType() {
	case alsv3.AccessLogType_DownstreamEnd:
	case alsv3.AccessLogType_NotSet: // proxies before there were types
		if common.GetIntermediateLogEntry() { //nolint:staticcheck // deprecated, and all that those proxies say
			return s.goesOn(ctx, a, words, e)
		}
	case alsv3.AccessLogType_DownstreamPeriodic:
		return s.goesOn(ctx, a, words, e)
	case alsv3.AccessLogType_UpstreamEnd:
		return s.attempt(ctx, a, e)
	case alsv3.AccessLogType_UpstreamPoolReady, alsv3.AccessLogType_UpstreamPeriodic:
		return loggedAttempt
	case alsv3.AccessLogType_DownstreamStart, alsv3.AccessLogType_DownstreamTunnelSuccessfullyEstablished:
		return loggedGoesOn
	default:
		return loggedOther
	}
	if common == nil {
		return loggedOther
	}
	r := words.reportOf(e)
	r.trusted = a.trusts(ctx, true)
	return logged(s.settler.settle(ctx, s.d.now(), a, &r))
}

// goesOn charges what a call that has not ended used beyond its reservation. A call
// that nobody asked for is charged at its end.
func (s *als) goesOn(ctx context.Context, a *active, words *vocabulary, e *alsv3.HTTPAccessLogEntry) logged {
	if e.GetCommonProperties() == nil {
		return loggedGoesOn
	}
	r := words.reportOf(e)
	if r.ref == (Ref{}) {
		return loggedGoesOn
	}
	r.trusted = a.trusts(ctx, true)
	r.progress, r.aborted, r.unsent, r.attempt = true, false, false, 0
	if !r.usage.any() { // it says that an attempt which was refused was not the last
		r.status, r.errorType, r.headers = 0, "", nil
		s.settler.goesOn(ctx, s.d.now(), a, &r)
		return loggedGoesOn
	}
	s.settler.settle(ctx, s.d.now(), a, &r)
	return loggedGoesOn
}

// attemptHeader is the request header by which a proxy counts its attempts.
const attemptHeader = "x-envoy-attempt-count"

// attempt takes in that an attempt was refused. Its entry has the answer's status and
// headers, and nothing of what other filters said: the call is known by its request id,
// and the kind of the refusal by what comes with it.
func (s *als) attempt(ctx context.Context, a *active, e *alsv3.HTTPAccessLogEntry) logged {
	r := report{
		progress: true, trusted: a.trusts(ctx, true),
		status: int(min(e.GetResponse().GetResponseCode().GetValue(), 999)),
		ref:    Ref{RequestID: named(e.GetRequest().GetRequestId())},
	}
	for name, value := range e.GetRequest().GetRequestHeaders() {
		if n, _, ok := parseAmount(value); ok && strings.EqualFold(name, attemptHeader) {
			r.attempt = int(min(n, maxAttempts+1))
		}
	}
	if !r.trusted || r.ref.RequestID == "" || r.attempt == 0 || r.attempt > maxAttempts || r.status < 400 {
		return loggedAttempt
	}
	r.respondedWith(e.GetResponse().GetResponseHeaders())
	if begun := e.GetCommonProperties().GetStartTime(); begun.IsValid() {
		r.sent = limiter.InstantOf(begun.AsTime())
	}
	s.settler.attempt(ctx, s.d.now(), a, &r)
	return loggedAttempt
}

// maxLogged bounds the names and values that are read from an entry: whoever sends
// more means nothing by it.
const maxLogged = 256

// reportOf reads an entry as that of a call that has ended.
func (c *vocabulary) reportOf(e *alsv3.HTTPAccessLogEntry) report {
	var p phrase
	common := e.GetCommonProperties()
	var attrs []limiter.Entry
	for _, ns := range c.namespaces {
		for key, value := range common.GetMetadata().GetFilterMetadata()[ns].GetFields() {
			attrs = c.hear(&p, attrs, key, textOf(value))
		}
	}
	attrs = c.headers(&p, attrs, e.GetRequest().GetRequestHeaders())

	var r report
	var said proxied
	r.takeIn(&p, attrs, &said)
	if r.ref.RequestID == "" {
		r.ref.RequestID = named(e.GetRequest().GetRequestId())
	}
	if r.ref.RequestID == "" {
		r.ref.RequestID = named(common.GetStreamId())
	}
	r.typedUsage(common)
	r.respondedWith(e.GetResponse().GetResponseHeaders())
	r.status = int(min(e.GetResponse().GetResponseCode().GetValue(), 999))
	flags := common.GetResponseFlags()
	said.details = e.GetResponse().GetResponseCodeDetails()
	said.attempts = int(common.GetUpstreamRequestAttemptCount())
	// A count of zero looks like none: only with the proxy's own 429 it is one.
	said.hasAttempts = said.attempts > 0 || r.status == 429 && said.details != viaUpstream
	said.refused = flags.GetRateLimited()
	said.left = flags.GetDownstreamConnectionTermination() || flags.GetDownstreamRemoteReset()
	r.conclude(&said)
	return r
}

// hear takes one item of metadata into the phrase, and into attrs if it is an
// attribute.
func (c *vocabulary) hear(p *phrase, attrs []limiter.Entry, key, value string) []limiter.Entry {
	w, known := c.words[key]
	if !known || value == "" {
		return attrs
	}
	if w != wordErrorMessage && len(value) > maxLogged {
		return attrs
	}
	if p.has.has(w) {
		return attrs
	}
	c.say(p, limiter.Entry{Key: key, Value: value})
	if w <= lastAttribute {
		attrs = append(attrs, limiter.Entry{Key: attributeNames[w], Value: value})
	}
	return attrs
}

// attributeHeader begins the names of request headers that carry attributes.
const attributeHeader = "x-llm-"

// headers takes attributes from request headers: x-llm-org says what the word org does.
func (c *vocabulary) headers(p *phrase, attrs []limiter.Entry, headers map[string]string) []limiter.Entry {
	for name, value := range headers {
		if len(name) <= len(attributeHeader) || !strings.EqualFold(name[:len(attributeHeader)], attributeHeader) {
			continue
		}
		key := strings.ToLower(strings.ReplaceAll(name[len(attributeHeader):], "-", "_"))
		for w := wordOrg; w <= lastAttribute; w++ {
			if attributeNames[w] == key {
				attrs = c.hear(p, attrs, c.names[w], value)
			}
		}
	}
	return attrs
}

// respondedWith takes in the answer's headers, as far as the proxy logs them.
func (r *report) respondedWith(headers map[string]string) {
	for name, value := range headers {
		if len(r.headers) == maxLogged {
			return
		}
		if len(name) <= maxLogged && len(value) <= maxLogged {
			r.headers = append(r.headers, limiter.Entry{Key: name, Value: value})
		}
	}
}

// named returns an id of a request, or nothing if it is too long to be one.
func named(id string) string {
	if len(id) > maxLogged {
		return ""
	}
	return id
}

// textOf returns a value of metadata as the text that a descriptor would carry.
func textOf(v *structpb.Value) string {
	switch k := v.GetKind().(type) {
	case *structpb.Value_StringValue:
		return k.StringValue
	case *structpb.Value_NumberValue:
		if math.IsNaN(k.NumberValue) || math.IsInf(k.NumberValue, 0) {
			return ""
		}
		return strconv.FormatFloat(k.NumberValue, 'f', -1, 64)
	case *structpb.Value_BoolValue:
		return strconv.FormatBool(k.BoolValue)
	}
	return ""
}

// tokenUsage is where Envoy's own parser of LLM calls leaves what it counted.
const tokenUsage = "envoy.ai.token_usage"

// typedUsage takes in what Envoy's own parser counted, where nothing else did. Its
// input includes what was written to and read from the cache.
func (r *report) typedUsage(common *alsv3.AccessLogCommon) {
	packed := common.GetMetadata().GetTypedFilterMetadata()[tokenUsage]
	if packed == nil || r.usage.hasInput && r.usage.hasOutput {
		return
	}
	var t aiv3.TokenUsage
	if packed.UnmarshalTo(&t) != nil || t.GetExtractionStatus() == aiv3.TokenUsage_FAILED {
		return
	}
	u := &r.usage
	if in := t.GetInputTokens(); in != nil && !u.hasInput {
		read := known(t.GetInputTokenDetails().GetCachedTokens())
		created := known(t.GetInputTokenDetails().GetCacheCreationTokens())
		u.cacheRead, u.hasCacheRead = read, true
		u.cacheCreation, u.hasCacheCreation = created, true
		u.input, u.hasInput = known(in)-min(known(in), read+created), true
	}
	if out := t.GetOutputTokens(); out != nil && (!u.hasOutput || u.output < out.GetValue()) {
		u.output, u.hasOutput = known(out), true
	}
	if t.GetExtractionStatus() == aiv3.TokenUsage_PARTIAL {
		r.partial = true
	}
}

// known returns a count, or 0 for one that no call can have.
func known(v *wrapperspb.UInt64Value) uint64 {
	if v.GetValue() > limiter.MaxAmount {
		return 0
	}
	return v.GetValue()
}
