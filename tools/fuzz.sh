#!/usr/bin/env bash
# Fuzzes every fuzz target of the module, one after the other.
#
#   tools/fuzz.sh 10s
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
each="${1:?usage: tools/fuzz.sh TIME, for example 10s}"

# fuzz PACKAGE TARGET. The fuzzer of Go can fail for nothing but that its own time ran out
# in the middle of a step (go.dev/issue/75804): it then names no input, and is asked again.
fuzz() {
	local attempt out
	for attempt in 1 2 3; do
		if out="$(go test -run '^$' -fuzz "^$2\$" -fuzztime "$each" "./$1" </dev/null 2>&1)"; then
			sed -e '/^fuzz: elapsed/d' -e '/^PASS$/d' <<<"$out"
			return
		fi
		if grep -q 'Failing input written' <<<"$out" || ! grep -q 'context deadline exceeded' <<<"$out"; then
			break
		fi
		echo "fuzz: $1 $2: the fuzzer ran out of its own time, attempt $attempt"
	done
	echo "$out"
	return 1
}

found=0
while IFS=: read -r file target; do
	found=$((found + 1))
	echo "fuzz: $(dirname "$file") $target, $each"
	fuzz "$(dirname "$file")" "$target"
done < <(git grep --untracked -oE '^func Fuzz[A-Za-z0-9_]+' -- '*_test.go' ':!:bench' | sed 's/func //')
echo "fuzz: $found targets"
