package config

import (
	"github.com/weir-project/weir/limiter"
	"github.com/weir-project/weir/provider"
)

// builtinSpec is the plan of a weir that was given no files: for each organisation and
// class of models a quota at Anthropic whose limits are found out from what the upstream answers.
func builtinSpec() limiter.Spec {
	return limiter.Spec{Quotas: []limiter.QuotaSpec{{
		Name:     "anthropic",
		Provider: "anthropic",
		Per:      []string{"org", ModelClass},
		Learn:    true,
		Mode:     limiter.HintLimits,

		CacheReadModels: cacheReadModels(provider.Anthropic()),
	}}}
}
