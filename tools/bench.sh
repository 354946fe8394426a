#!/bin/sh
# Measures the table of docs/benchmarks.md: this project and its peers on the
# same evidence, one core, in one run.
set -eu
count=${COUNT:-3}
out=$(mktemp)
trap 'rm -rf "$out" "$out.bin"' EXIT
run() { # folder, package, pattern, further flags
	dir=$1 pkg=$2 pattern=$3
	shift 3
	(cd "$dir" && go test -run='^$' -bench="$pattern" -benchmem -count="$count" "$@" "$pkg") | tee -a "$out"
}
run . ./eventlog 'ParseReplay|Hostile' -cpu=1
run . ./evidence/tpm . -cpu=1
run . ./policy . -cpu=1
run . ./token . -cpu=1
run test/peers . . -cpu=1
run . ./internal/store/... Decide
run . ./internal/httpapi AttestHTTPS
echo
awk -f tools/bench.awk "$out"
if ! command -v swtpm >/dev/null; then
	echo "swtpm is not installed (Debian: apt-get install swtpm): the vTPM's commands beside it are left out" >&2
	exit 1
fi
echo
CGO_ENABLED=0 go build -trimpath -o "$out.bin/" ./cmd/assay ./cmd/assay-vtpm
ASSAY_REQUIRE_SWTPM=1 go test -count=1 -run 'Speed' ./test/differential -speed "$out.bin/assay,$out.bin/assay-vtpm"
