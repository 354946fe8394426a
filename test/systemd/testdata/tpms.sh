# What TestServicesRunUnderSystemd does with the daemon of TPMs inside its container. It ends with "done".
set -eu
fail() { echo "not as it should be: $*"; systemctl status --no-pager assay-vtpm || true; exit 1; }
as_assay() { setpriv --reuid assay --regid assay --clear-groups env ASSAY_VTPM_ROOT=/var/lib/assay/vtpm "$@"; }
property() { systemctl show --value -p "$1" assay-vtpm; }
until_is() { # PROPERTY VALUE: within 20 s
	n=0
	while [ "$(property "$1")" != "$2" ]; do
		n=$((n + 1))
		[ $n -lt 200 ] || fail "$1 is $(property "$1"), not $2"
		sleep 0.1
	done
}
echo "as the package would"
systemd-sysusers
ln -sf assay-vtpm /usr/bin/swtpm_ioctl
install -d -m 0700 /etc/credstore
ASSAY_VTPM_ROOT=/root/elsewhere assay-vtpm key-provider add k local:/etc/credstore/assay-vtpm.keys --create
systemctl daemon-reload

echo "start: systemd waits until the daemon is ready"
systemctl start assay-vtpm
[ "$(property ActiveState)" = active ] || fail "it is not active"
setpriv --reuid nobody --regid nogroup --clear-groups cat /run/credentials/assay-vtpm.service/assay-vtpm.keys && fail "others read the credential"
[ "$(stat -c '%U %a' /run/assay-vtpm)" = "assay 711" ] || fail "$(stat -c '%U %a' /run/assay-vtpm)"

echo "a key provider that the daemon alone can open, and a TPM"
as_assay assay-vtpm key-provider add main 'local:?credential=assay-vtpm.keys' --no-test
export ASSAY_VTPM_ROOT=/var/lib/assay/vtpm
assay-vtpm create web-1
[ "$(stat -c '%U %G %a' /run/assay-vtpm/web-1.ctrl)" = "assay libvirt-qemu 660" ] || fail "$(stat -c '%U %G %a' /run/assay-vtpm/web-1.ctrl)"
[ "$(stat -c '%U %a' /var/lib/assay/vtpm)" = "assay 700" ] || fail "$(stat -c '%U %a' /var/lib/assay/vtpm)"

echo "QEMU's user reaches it, others do not"
setpriv --reuid libvirt-qemu --regid libvirt-qemu --clear-groups swtpm_ioctl --unix /run/assay-vtpm/web-1.ctrl -i
setpriv --reuid nobody --regid nogroup --clear-groups swtpm_ioctl --unix /run/assay-vtpm/web-1.ctrl -i && fail "nobody reaches the TPM"
assay-vtpm describe web-1

echo "the watchdog is answered"
until_is StatusText "1 TPMs"
sleep 5
[ "$(property NRestarts)" = 0 ] || fail "it was restarted: $(property Result)"
systemctl reload assay-vtpm

echo "a daemon that hangs is ended, and the next has its TPM"
kill -STOP "$(property MainPID)"
until_is NRestarts 1
until_is ActiveState active
assay-vtpm describe web-1 >/dev/null

echo "stop"
systemctl stop assay-vtpm
[ "$(property ActiveState) $(property Result)" = "inactive success" ] || fail "$(property ActiveState) $(property Result)"
as_assay assay-vtpm audit verify
echo done
