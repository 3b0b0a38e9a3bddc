package server

import (
	"math"
	"strconv"
	"strings"

	"github.com/weir-project/weir/limiter"
)

// Numbers travel as texts that others computed: proxies print a count as 12, 12.0 or
// 1.2e+01, and whoever asks can write anything into a request. A number is therefore
// never a reason to fail: it means something, or it is not known.

// parseAmount reads a number of units. Fractions are rounded up. More than
// limiter.MaxAmount, infinity included, is limiter.MaxAmount and huge. It is false for
// what is no amount: empty, negative, NaN, hexadecimal, or no number at all.
func parseAmount(text string) (n uint64, huge, ok bool) {
	text = strings.TrimSpace(text)
	digits := len(text) > 0 && len(text) <= 16 // 10^16-1 is more than MaxAmount, and no overflow
	for i := 0; digits && i < len(text); i++ {
		c := text[i] - '0'
		digits = c <= 9
		n = n*10 + uint64(c)
	}
	if digits {
		return clampAmount(n)
	}
	if text == "" || !strings.ContainsRune("0123456789.", rune(text[0])) ||
		strings.ContainsAny(text, "xXpP_") {
		return 0, false, false
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil && !math.IsInf(f, 1) { // a number out of range is infinite, and an error
		return 0, false, false
	}
	if f > float64(limiter.MaxAmount) {
		return limiter.MaxAmount, true, true
	}
	return uint64(math.Ceil(f)), false, true
}

func clampAmount(n uint64) (uint64, bool, bool) {
	if n > limiter.MaxAmount {
		return limiter.MaxAmount, true, true
	}
	return n, false, true
}

// estimate reads what an ask expects to use. Zero is what proxies say when they do not
// know, and so is not known; what is huge is MaxAmount, which no limit admits.
func estimate(text string) (uint64, bool) {
	n, _, ok := parseAmount(text)
	return n, ok && n > 0
}

// bound reads max_tokens. Zero and what is huge bound nothing.
func bound(text string) (uint64, bool) {
	n, huge, ok := parseAmount(text)
	if !ok || huge {
		return 0, false
	}
	return n, n > 0
}

// used reads what a report says was used. What is huge was not used.
func used(text string) (uint64, bool) {
	n, huge, ok := parseAmount(text)
	if !ok || huge {
		return 0, false
	}
	return n, true
}

// repeats reads how often a call was tried before, or whether it was.
func repeats(text string) bool {
	n, _, ok := parseAmount(text)
	return ok && n > 0 || text == "true"
}

// parseStatus reads an HTTP status; 0 is none.
func parseStatus(text string) int {
	n, _, ok := parseAmount(text)
	if !ok || n < 100 || n > 999 {
		return 0
	}
	return int(n)
}
