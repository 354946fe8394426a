#!/bin/sh
# Builds the programs twice, in folders of different names, and compares them.
set -eu
flags=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for side in one another-folder; do
	mkdir "$work/$side"
	cp -R go.mod go.sum "$work/$side"
	tar -cf - --exclude=./bin --exclude=./.git . | tar -xf - -C "$work/$side"
	(cd "$work/$side" && CGO_ENABLED=0 go build -buildvcs=false -trimpath -ldflags="$flags" -o out/ ./cmd/...)
done
for program in assay assay-agent assay-vtpm; do
	cmp "$work/one/out/$program" "$work/another-folder/out/$program"
done
echo "two builds are equal"
