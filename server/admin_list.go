package server

import (
	"cmp"
	"context"
	"encoding/base64"
	"slices"
	"strconv"
	"strings"

	"github.com/weir-project/weir/limiter"
	weirv1 "github.com/weir-project/weir/proto/weir/v1"
)

// The sizes of pages.
const (
	defaultPage = 100
	maxPage     = 1000
)

// ListQuotas implements weirv1.AdminServiceServer. A token names the last quota of the
// page before, so that quotas that come and go meanwhile shift nothing.
func (m *adminService) ListQuotas(ctx context.Context, req *weirv1.ListQuotasRequest) (*weirv1.ListQuotasResponse, error) {
	size, err := pageSize(req.GetPageSize())
	if err != nil {
		return nil, err
	}
	after, err := pageStart(req.GetPageToken())
	if err != nil {
		return nil, err
	}
	now := m.d.now()
	views, err := m.d.store.Quotas(ctx, now)
	if err != nil {
		return nil, sick(err)
	}
	type listed struct {
		order string
		view  *limiter.QuotaView
	}
	var all []listed
	for i := range views {
		v := &views[i]
		if req.GetName() != "" && v.Name != req.GetName() {
			continue
		}
		if o := quotaOrder(v); after == "" || o > after {
			all = append(all, listed{o, v})
		}
	}
	slices.SortFunc(all, func(a, b listed) int { return cmp.Compare(a.order, b.order) })
	out := &weirv1.ListQuotasResponse{}
	for i, l := range all {
		if i == size {
			out.NextPageToken = pageToken(all[i-1].order)
			break
		}
		out.Quotas = append(out.Quotas, quotaState(now, l.view))
	}
	return out, nil
}

// quotaOrder orders quotas by name and attributes. Its parts cannot be mistaken for one
// another, whatever bytes they hold.
func quotaOrder(v *limiter.QuotaView) string {
	var b strings.Builder
	b.WriteString(strconv.Quote(v.Name))
	for _, e := range v.Attributes {
		b.WriteString(" " + strconv.Quote(e.Key) + " " + strconv.Quote(e.Value))
	}
	return b.String()
}

func quotaState(now limiter.Instant, v *limiter.QuotaView) *weirv1.QuotaState {
	q := quotaHead(now, v)
	q.Limits, q.Paces = limitStates(now, v.Checks), paceStates(now, v)
	return q
}

// quotaHead is a quota without its limits and paces.
func quotaHead(now limiter.Instant, v *limiter.QuotaView) *weirv1.QuotaState {
	q := &weirv1.QuotaState{
		Name: v.Name, Provider: v.Provider,
		OpenReservations: uint64(max(v.Open, 0)), Waiting: uint64(max(v.Held, 0)),
		LastAsked: timestampOf(v.LastAsked),
	}
	standing(now, v, q)
	for _, e := range v.Attributes {
		if q.Attributes == nil {
			q.Attributes = make(map[string]string)
		}
		q.Attributes[e.Key] = e.Value
	}
	return q
}

// ListRules implements weirv1.AdminServiceServer. A token counts rules, and is good for
// the plan that it was made under.
func (m *adminService) ListRules(_ context.Context, req *weirv1.ListRulesRequest) (*weirv1.ListRulesResponse, error) {
	size, err := pageSize(req.GetPageSize())
	if err != nil {
		return nil, err
	}
	a := m.d.loaded.Load()
	skip, err := rulesToSkip(a, req.GetPageToken())
	if err != nil {
		return nil, err
	}
	out := &weirv1.ListRulesResponse{}
	seen := 0
	for i := range a.Spec.Domains {
		d := &a.Spec.Domains[i]
		if req.GetDomain() != "" && d.Name != req.GetDomain() {
			continue
		}
		eachRule(d, func(at rulePath) {
			seen++
			switch {
			case seen <= skip:
			case len(out.Rules) < size:
				out.Rules = append(out.Rules, ruleState(d.Name, at))
			case out.NextPageToken == "":
				out.NextPageToken = pageToken(a.Digest + ":" + strconv.Itoa(skip+size))
			}
		})
	}
	return out, nil
}

func rulesToSkip(a *active, token string) (int, error) {
	start, err := pageStart(token)
	if err != nil || start == "" {
		return 0, err
	}
	digest, count, _ := strings.Cut(start, ":")
	n, err := strconv.Atoi(count)
	if err != nil || n < 0 || digest != a.Digest {
		return 0, wrong("page_token", quoted(token), "the next_page_token of a page of the plan in force, "+a.Digest+"; start again without one")
	}
	return n, nil
}

func ruleState(domain string, at rulePath) *weirv1.RuleState {
	r := &weirv1.RuleState{Name: at.name(), Domain: domain, Match: at.match()}
	for _, l := range at.rule().Limits {
		r.Limits = append(r.Limits, &weirv1.RuleLimit{Meter: l.Meter.String(), Amount: l.Amount, Window: window(l.Window)})
	}
	return r
}

func pageSize(n uint32) (int, error) {
	if n > maxPage {
		return 0, wrong("page_size", strconv.Itoa(int(n)), "at most "+strconv.Itoa(maxPage))
	}
	if n == 0 {
		return defaultPage, nil
	}
	return int(n), nil
}

func pageToken(after string) string { return base64.RawURLEncoding.EncodeToString([]byte(after)) }

func pageStart(token string) (string, error) {
	b, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil {
		return "", wrong("page_token", quoted(token), "the next_page_token of the page before, as it was")
	}
	return string(b), nil
}
