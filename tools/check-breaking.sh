#!/usr/bin/env bash
# Fails if the protos as they stand break clients or files of the last release: of the
# last tag, or while there is none of the commit before this one. A clone that has only
# the newest commit is compared with that one.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

base=''
for ref in "$(git describe --tags --abbrev=0 2>/dev/null || true)" HEAD~1 HEAD; do
	if [ -n "$ref" ] && git rev-parse --quiet --verify "$ref^{commit}" >/dev/null 2>&1; then
		base="$ref"
		break
	fi
done
if [ -z "$base" ]; then
	echo 'no git history here: the protos are compared with nothing'
	exit 0
fi
earlier="$(mktemp -d)"
trap 'rm -rf "$earlier"' EXIT
git archive "$base" buf.yaml proto third_party | tar -x -C "$earlier"
buf breaking --against "$earlier"
