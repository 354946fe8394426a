#!/usr/bin/env bash
# Runs other people's TPM test suites over this project's TPM and writes, for each,
# a table of its tests: name, pass, fail or skip, and a remark.
#
# usage: tpm-suites.sh SUITES_DIR [SUITE...]
#
# SUITES_DIR holds built checkouts named tpm2-tss, tpm2-tools and ibmtss, and swtpm's
# source as swtpm; see docs/tpm-conformance.md. Suites canonical, go-tpm and cryptenroll need none.
# OUT (bin/tpm-suites) gets the tables and the logs; JOBS (2) tests run at a time.
# At the end comes the whole table. The status is 2 if a checkout is at another commit
# than docs/tpm-conformance/commits.tsv names. It is 1 if a run is not as
# docs/tpm-conformance has it: a test failed that is not in known-failures.tsv or was
# skipped and is not in skips.tsv, which have the reasons; a test of SUITE.tsv did not
# run, or a new one did; or the suite ended with an error and no test failed.
set -u
here=$(cd "$(dirname "$0")/.." && pwd)
dir=$(cd "${1:?SUITES_DIR is missing}" && pwd) || exit 2
shift
out=${OUT:-$here/bin/tpm-suites}
jobs=${JOBS:-2}
mkdir -p "$out/bin"
out=$(cd "$out" && pwd)

(cd "$here" && CGO_ENABLED=0 go build -trimpath -o "$out/bin/" ./cmd/assay-vtpm ./test/suites) || exit 2
for name in tpm_server tpm2-simulator swtpm swtpm_ioctl swtpm_setup swtpm_cert swtpm_localca; do
	ln -sf assay-vtpm "$out/bin/$name"
done
export PATH=$out/bin:$PATH
export ASSAY_KEY_PROVIDER=ephemeral # nothing that a suite makes is kept

suites=$out/bin/suites
tables=$here/docs/tpm-conformance
[ $# -gt 0 ] || set -- canonical go-tpm cryptenroll tpm2-tss tpm2-tools ibmtss swtpm
for suite; do
	case $suite in
	canonical | go-tpm | cryptenroll) ;; # their versions stand in test/interop/go.mod
	*) "$suites" checkout "$tables" "$suite" "$dir/$suite" || exit 2 ;;
	esac
done

# simulator PORT LOG: starts our TPM as the simulator, and waits until it answers;
# its process is $server
simulator() {
	: >"$2"
	tpm_server -port "$1" >"$2" 2>&1 &
	server=$!
	until grep -qsx ready "$2"; do
		kill -0 "$server" || { cat "$2" >&2; exit 2; }
		sleep 0.05
	done
}

# A run leaves in $ended how the suite's own program ended.

# go_suite SUITE PATTERN...: the tests of Go packages, from test/interop
go_suite() {
	suite=$1
	shift
	mkdir -p "$out/run"
	(cd "$here/test/interop" && XDG_RUNTIME_DIR=$out/run go test -json -vet=off -p 1 -count=1 "$@") >"$out/$suite.json" 2>"$out/$suite.err"
	ended=$?
	"$suites" gotests <"$out/$suite.json" >"$out/$suite.tsv"
}

run_canonical() {
	go_suite canonical github.com/canonical/go-tpm2 github.com/canonical/go-tpm2/{cryptutil,objectutil,policyutil,templates,testutil,util} -check.v -args -use-mssim -mssim-port="$("$suites" port)"
}

run_go-tpm() {
	go_suite go-tpm github.com/google/go-tpm/tpm2/...
	port=$("$suites" port)
	simulator "$port" "$out/go-tpm-tcp.server"
	(cd "$here/test/interop" && go test -json -count=1 github.com/google/go-tpm/tpm2/transport/tcp -args -cmd_addr=127.0.0.1:"$port" -plat_addr=127.0.0.1:$((port + 1))) >"$out/go-tpm-tcp.json" 2>&1 || ended=$?
	kill "$server"
	wait "$server"
	"$suites" gotests <"$out/go-tpm-tcp.json" >>"$out/go-tpm.tsv"
}

# ours SUITE LOG...: whether our TPM said "ready" in the logs. A build of those
# suites remembers the PATH that it was configured with, where another may be.
ours() {
	suite=$1
	shift
	if ! grep -qsx ready "$@"; then
		echo "$suite did not run over our TPM" >&2
		exit 2
	fi
}

# automake SUITE: the results of an automake test run, from its .trs files, with the
# reasons of what was skipped
automake() {
	find "$dir/$1/test" -name '*.trs' -newer "$out/$1.start" | sort | while read -r trs; do
		result=$(sed -n 's/^:test-result: //p' "$trs" | tr 'A-Z' 'a-z')
		test=$(basename "${trs%.trs}")
		reason=
		[ "$result" = pass ] || reason=$(awk -F'\t' -v s="$1" -v t="$test" '$1 == s && $2 == t { print $3 }' "$here/docs/tpm-conformance/skips.tsv")
		printf '%s\t%s\t%s\n' "$test" "$result" "$reason"
	done
}

run_tpm2-tss() {
	touch "$out/tpm2-tss.start"
	# shellcheck disable=SC2016 # make expands it
	make -C "$dir/tpm2-tss" -j"$jobs" -k check PATH="$PATH" 'TESTS=$(TESTS_INTEGRATION)' >"$out/tpm2-tss.log" 2>&1
	ended=$?
	ours tpm2-tss "$dir"/tpm2-tss/test/integration/*_simulator.log
	automake tpm2-tss >"$out/tpm2-tss.tsv"
}

run_tpm2-tools() {
	touch "$out/tpm2-tools.start"
	tests=$(cd "$dir/tpm2-tools" && echo test/integration/tests/*.sh)
	dbus-run-session make -C "$dir/tpm2-tools" -j"$jobs" -k check PATH="$PATH" TPM2_SIM=swtpm TPM2_ABRMD=tpm2-abrmd TESTS="$tests" >"$out/tpm2-tools.log" 2>&1
	ended=$?
	ours tpm2-tools "$dir"/tpm2-tools/test/integration/tests/*.log
	automake tpm2-tools >"$out/tpm2-tools.tsv"
}

# The groups of reg.sh. Group 34 is for one vendor's chips and stays away.
ibm_groups="$(seq 1 33) 35 36 50 51"

run_ibmtss() {
	# The suite names its own folder in a file: a copy names the folder that it is in.
	rm -rf "$out/ibmtss"
	cp -r "$dir/ibmtss/utils" "$out/ibmtss"
	cd "$out/ibmtss" || return
	sed -i "s,^.*/certificates/,$PWD/certificates/," certificates/rootcerts.txt
	export LD_LIBRARY_PATH=$PWD/.libs TPM_INTERFACE_TYPE=socsim TPM_SERVER_NAME=127.0.0.1 TPM_SERVER_TYPE=mssim
	TPM_COMMAND_PORT=$("$suites" port) TPM_PLATFORM_PORT=$((TPM_COMMAND_PORT + 1))
	export TPM_COMMAND_PORT TPM_PLATFORM_PORT
	: >"$out/ibmtss.tsv"
	for group in $ibm_groups; do
		simulator "$TPM_COMMAND_PORT" "$out/ibmtss-$group.server"
		result=fail
		./reg.sh "-$group" >"$out/ibmtss-$group.log" 2>&1 && result=pass
		kill "$server"
		wait "$server"
		printf 'group %s\t%s\t%s checks\n' "$group" $result "$(grep -c INFO: "$out/ibmtss-$group.log")" >>"$out/ibmtss.tsv"
	done
	ended=0 # each group has its own
	printf 'group 34\tskip\tvendor commands of Nuvoton chips\n' >>"$out/ibmtss.tsv"
	cd "$here" || return
}

run_cryptenroll() {
	(cd "$here/test/interop" && go test -json -count=1 -run Cryptenroll .) >"$out/cryptenroll.json" 2>"$out/cryptenroll.err"
	ended=$?
	"$suites" gotests <"$out/cryptenroll.json" >"$out/cryptenroll.tsv"
}

run_swtpm() {
	"$here/tools/swtpm-suite.sh" "$dir/swtpm" "$out/bin" "$out/swtpm.tsv"
	ended=$?
}

: >"$out/table.txt"
status=0
for suite; do
	begun=$(date +%s)
	"run_$suite"
	"$suites" judge "$tables" "$suite" "$out/$suite.tsv" "$ended" $(($(date +%s) - begun)) >>"$out/table.txt" || status=1
	echo "$suite is done" >&2
done
cat "$out/table.txt"
exit $status
