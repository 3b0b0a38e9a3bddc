#!/usr/bin/env bash
# Fails if a generated file is not what its proto says. It generates into a
# temporary directory and compares, so that nothing in the tree is touched, and
# work that is not yet committed is checked as it stands.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

fresh="$(mktemp -d)"
trap 'rm -rf "$fresh"' EXIT
buf generate -o "$fresh"

wrong=0
while IFS= read -r file; do
	if ! cmp -s "$fresh/$file" "$file"; then
		echo "$file is not what the protos say"
		wrong=1
	fi
done < <(cd "$fresh" && find . -type f | sed 's|^\./||' | sort)
# Files whose proto is gone.
while IFS= read -r file; do
	if [ -f "$file" ] && [ ! -f "$fresh/$file" ]; then
		echo "$file has no proto"
		wrong=1
	fi
done < <(git ls-files --cached --others --exclude-standard -- 'proto/*.go')

if [ "$wrong" -ne 0 ]; then
	echo 'Run "make generate" and commit the result.' >&2
	exit 1
fi
