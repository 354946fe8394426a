# Makes the table of docs/benchmarks.md from the output of go test -bench: the
# fastest of the repetitions, the floor, and the ratio to each peer.
/^Benchmark/ {
	name = $1
	sub(/-[0-9]+$/, "", name)
	for (i = 3; i < NF; i += 2) {
		key = name SUBSEP $(i + 1)
		if (!(key in best) || $i < best[key]) best[key] = $i
		if (!(key in most) || $i > most[key]) most[key] = $i
	}
}
function row(what, nanos, least) {
	if (nanos == "") printf "%-58s %12s %10s\n", what, "not run", least
	else printf "%-58s %10.0f/s %8s/s  %s\n", what, 1e9 / nanos, least, verdict(1e9 / nanos >= least)
}
function verdict(met) {
	if (met) return "met"
	return "NOT MET"
}
function took(name) { return best["Benchmark" name, "ns/op"] }
END {
	printf "%-58s %12s %10s\n", "WORK (fastest repetition)", "MEASURED", "FLOOR"
	row("quote + 24 KB log verified", took("VerifyQuoteAndLog/assay-verify"), 12000)
	row("... and all claims, of a log seen before", took("VerifyQuoteAndLog/assay-fleet"), 12000)
	row("... 20 rules, ES256 token, of a log seen before", took("AppraiseIssue/fleet"), 6000)
	row("... 20 rules, ES256 token, nothing kept", took("AppraiseIssue/alone"), 6000)
	for (key in most) {
		split(key, part, SUBSEP)
		if (part[2] == "appraisals/core-s")
			printf "%-58s %8.0f/core-s %4s/core-s  %s\n", "over HTTPS, durable: " substr(part[1], 10), most[key], 3000, verdict(most[key] >= 3000)
	}
	if (took("ParseReplay") != "")
		printf "%-58s %10.1f us %7s us  %s\n", "parse + replay of a 45 KB log", took("ParseReplay") / 1000, 30, verdict(took("ParseReplay") <= 30000)
	for (key in most) {
		split(key, part, SUBSEP)
		if (part[1] ~ /HostileConfirm/ && part[2] == "cpu-ms/op" && best[key] > worst) { worst = best[key]; shape = part[1] }
	}
	if (shape != "")
		printf "%-58s %10.1f ms %7s ms  %s\n", "1 MiB of hostile log, worst (" substr(shape, 25) ")", worst, 5, verdict(worst < 5)
	peers = split("go-attestation go-tpm-tools", peer, " ")
	for (i = 1; i <= peers; i++) {
		them = took("VerifyQuoteAndLog/" peer[i])
		if (them != "" && took("VerifyQuoteAndLog/assay-verify") != "")
			printf "%-58s %9.1f x  (%.1f x with all claims)\n", peer[i] " takes, of quote and log", them / took("VerifyQuoteAndLog/assay-verify"), them / took("VerifyQuoteAndLog/assay-fleet")
	}
}
