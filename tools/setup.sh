#!/bin/sh
# Installs what the tests need and this machine lacks, from Debian's packages.
set -eu
need=""
command -v gcc >/dev/null || need="$need gcc libc6-dev"
ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || need="$need postgresql"
command -v tpm2_getrandom >/dev/null || need="$need tpm2-tools libtss2-tcti-swtpm0"
command -v swtpm >/dev/null || need="$need swtpm"
command -v openssl >/dev/null || need="$need openssl"
command -v jq >/dev/null || need="$need jq"
command -v cryptsetup >/dev/null || need="$need cryptsetup-bin"
command -v systemd-cryptenroll >/dev/null || need="$need systemd"
[ -e /usr/bin/pykmip-server ] || need="$need python3-pykmip"
[ -e /usr/lib/softhsm/libsofthsm2.so ] || need="$need softhsm2"
command -v qemu-system-x86_64 >/dev/null || need="$need qemu-system-x86"
command -v qemu-img >/dev/null || need="$need qemu-utils"
[ -e /usr/share/OVMF/OVMF_CODE_4M.fd ] || need="$need ovmf"
command -v sbverify >/dev/null || need="$need sbsigntool"
command -v prometheus-alertmanager >/dev/null || need="$need prometheus-alertmanager"
command -v promtool >/dev/null || need="$need prometheus"
command -v osslsigncode >/dev/null || need="$need osslsigncode"
[ -e /usr/sbin/fsck.vfat ] || need="$need dosfstools"
[ -e /usr/sbin/sfdisk ] || need="$need fdisk"
# What guests boot is unpacked, not installed: a kernel, shim, GRUB, systemd's stub.
cache=${XDG_CACHE_HOME:-$HOME/.cache}/assay-test
unpacked() {
	for f in vmlinuz shimx64.efi.signed grubx64.efi.signed linuxx64.efi.stub; do
		[ -e "$cache/$f" ] || return 1
	done
}
# unpack PACKAGE PATTERN NAME: one file of a package, into the cache.
unpack() {
	[ -e "$cache/$3" ] && return
	echo "unpacking $3 of $1"
	tmp=$(mktemp -d)
	chmod 755 "$tmp"
	(cd "$tmp" && apt-get download -qq -o APT::Sandbox::User=root "$1" && dpkg-deb --fsys-tarfile ./*.deb | tar -x --wildcards "$2" && find . -type f ! -name '*.deb' -exec cp {} "$cache/$3.part" \;)
	mv "$cache/$3.part" "$cache/$3"
	rm -rf "$tmp"
}
if ! command -v go >/dev/null; then
	echo "Go 1.26 or newer must be on PATH: see README.md, Requirements" >&2
	exit 1
fi
[ -z "$need" ] && unpacked && exit 0
as=""
if [ "$(id -u)" != 0 ]; then
	command -v sudo >/dev/null || { echo "as root: apt-get install$need" >&2; exit 1; }
	as=sudo
fi
$as apt-get update -qq
unpacked || {
	mkdir -p "$cache"
	unpack "$(apt-cache depends linux-image-cloud-amd64 | awk '/Depends:/{print $2; exit}')" './boot/vmlinuz*' vmlinuz
	unpack shim-signed './usr/lib/shim/shimx64.efi.signed' shimx64.efi.signed
	unpack grub-efi-amd64-signed './usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed' grubx64.efi.signed
	unpack systemd-boot-efi './usr/lib/systemd/boot/efi/linuxx64.efi.stub' linuxx64.efi.stub
}
[ -z "$need" ] && exit 0
echo "installing$need"
# Tests start an Alertmanager of their own, and of Prometheus only promtool is used: the
# services of the packages stay off.
for service in prometheus-alertmanager prometheus; do
	case " $need " in *" $service "*)
		off=/etc/systemd/system/$service.service
		[ -e $off ] || [ -L $off ] || { $as mkdir -p ${off%/*} && $as ln -s /dev/null $off; }
		;;
	esac
done
# shellcheck disable=SC2086 # a list of words
DEBIAN_FRONTEND=noninteractive $as apt-get install -qq --no-install-recommends $need >/dev/null
