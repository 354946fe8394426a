#!/bin/sh
# Runs every fuzz target of the module for a time each; stops at the first finding.
set -eu
time=$1
only=${2:-.}
go list ./... | grep -E "$only" | while read -r pkg; do
	go test -run='^$' -list '^Fuzz' "$pkg" | grep '^Fuzz' | while read -r target; do
		echo "== $pkg $target"
		go test -run='^$' -fuzz="^$target\$" -fuzztime="$time" "$pkg"
	done
done
