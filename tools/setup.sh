#!/bin/sh
# Installs what the tests need and this machine lacks, from Debian's packages.
set -eu
need=""
command -v gcc >/dev/null || need="$need gcc libc6-dev"
ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || need="$need postgresql"
command -v tpm2_getrandom >/dev/null || need="$need tpm2-tools libtss2-tcti-swtpm0"
command -v openssl >/dev/null || need="$need openssl"
command -v jq >/dev/null || need="$need jq"
command -v cryptsetup >/dev/null || need="$need cryptsetup-bin"
command -v systemd-cryptenroll >/dev/null || need="$need systemd"
[ -e /usr/bin/pykmip-server ] || need="$need python3-pykmip"
[ -e /usr/lib/softhsm/libsofthsm2.so ] || need="$need softhsm2"
command -v qemu-system-x86_64 >/dev/null || need="$need qemu-system-x86"
command -v qemu-img >/dev/null || need="$need qemu-utils"
[ -e /usr/share/OVMF/OVMF_CODE_4M.fd ] || need="$need ovmf"
# The guest's kernel is unpacked, not installed, for test/qemu.
kernel=${XDG_CACHE_HOME:-$HOME/.cache}/assay-test/vmlinuz
if ! command -v go >/dev/null; then
	echo "Go 1.26 or newer must be on PATH: see README.md, Requirements" >&2
	exit 1
fi
[ -z "$need" ] && [ -e "$kernel" ] && exit 0
as=""
if [ "$(id -u)" != 0 ]; then
	command -v sudo >/dev/null || { echo "as root: apt-get install$need" >&2; exit 1; }
	as=sudo
fi
$as apt-get update -qq
[ -e "$kernel" ] || {
	mkdir -p "$(dirname "$kernel")"
	tmp=$(mktemp -d)
	chmod 755 "$tmp"
	package=$(apt-cache depends linux-image-cloud-amd64 | awk '/Depends:/{print $2; exit}')
	echo "unpacking the kernel of $package"
	(cd "$tmp" && apt-get download -qq -o APT::Sandbox::User=root "$package" && dpkg-deb --fsys-tarfile ./*.deb | tar -x --wildcards './boot/vmlinuz*')
	cp "$tmp"/boot/vmlinuz* "$kernel.part" && mv "$kernel.part" "$kernel"
	rm -rf "$tmp"
}
[ -z "$need" ] && exit 0
echo "installing$need"
# shellcheck disable=SC2086 # a list of words
DEBIAN_FRONTEND=noninteractive $as apt-get install -qq --no-install-recommends $need >/dev/null
