#!/usr/bin/env bash
# Fuzzes every fuzz target of the module, one after the other.
#
#   tools/fuzz.sh 10s
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
each="${1:?usage: tools/fuzz.sh TIME, for example 10s}"

found=0
while IFS=: read -r file target; do
	found=$((found + 1))
	echo "fuzz: $(dirname "$file") $target, $each"
	go test -run '^$' -fuzz "^$target\$" -fuzztime "$each" "./$(dirname "$file")" </dev/null | sed -e '/^fuzz: elapsed/d' -e '/^PASS$/d'
done < <(git grep --untracked -oE '^func Fuzz[A-Za-z0-9_]+' -- '*_test.go' ':!:bench' | sed 's/func //')
echo "fuzz: $found targets"
