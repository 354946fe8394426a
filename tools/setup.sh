#!/bin/sh
# Installs what the tests need and this machine lacks, from Debian's packages.
set -eu
need=""
command -v gcc >/dev/null || need="$need gcc libc6-dev"
ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || need="$need postgresql"
command -v tpm2_getrandom >/dev/null || need="$need tpm2-tools libtss2-tcti-swtpm0"
command -v cryptsetup >/dev/null || need="$need cryptsetup-bin"
command -v systemd-cryptenroll >/dev/null || need="$need systemd"
[ -e /usr/bin/pykmip-server ] || need="$need python3-pykmip"
[ -e /usr/lib/softhsm/libsofthsm2.so ] || need="$need softhsm2"
if ! command -v go >/dev/null; then
	echo "Go 1.26 or newer must be on PATH: see README.md, Requirements" >&2
	exit 1
fi
[ -z "$need" ] && exit 0
as=""
if [ "$(id -u)" != 0 ]; then
	command -v sudo >/dev/null || { echo "as root: apt-get install$need" >&2; exit 1; }
	as=sudo
fi
echo "installing$need"
$as apt-get update -qq
# shellcheck disable=SC2086 # a list of words
DEBIAN_FRONTEND=noninteractive $as apt-get install -qq --no-install-recommends $need >/dev/null
