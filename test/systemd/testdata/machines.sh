# What TestServicesRunUnderSystemd does with machines, findings and the agent inside its
# container. It ends with "done".
set -eu
unit=assay-vm@web-1
fail() { echo "not as it should be: $*"; systemctl status --no-pager $unit || true; exit 1; }
property() { systemctl show --value -p "$1" $unit; }
until_is() { # PROPERTY VALUE: within a minute
	n=0
	while [ "$(property "$1")" != "$2" ]; do
		n=$((n + 1))
		[ $n -lt 600 ] || fail "$1 is $(property "$1"), not $2"
		sleep 0.1
	done
}
# What systemd-run does in the guide, without a bus: a command of the services' user, with
# what systemd lends them.
as_assay() {
	words=""
	for word in "$@"; do words="$words \"$word\""; done
	cat >/run/systemd/system/as-assay.service <<END
[Service]
Type=oneshot
User=assay
LoadCredential=assay-vtpm.keys
StateDirectory=assay/vtpm assay/images
StateDirectoryMode=0700
Environment=ASSAY_VTPM_ROOT=/var/lib/assay/vtpm
StandardOutput=truncate:/tmp/said
StandardError=append:/assay-test.log
ExecStart=$words
END
	systemctl daemon-reload
	systemctl start as-assay
}
machines() { pgrep -c -f 'qemu-system-x86_64 .*guest=web-1' || true; }
echo "as the package would"
systemd-sysusers
install -d -m 0700 /etc/credstore
ASSAY_VTPM_ROOT=/root/elsewhere assay key-provider add k local:/etc/credstore/assay-vtpm.keys --create
systemctl daemon-reload
as_assay /usr/bin/assay key-provider add main 'local:?credential=assay-vtpm.keys'

echo "a machine"
as_assay /usr/bin/assay keyset create own --kind own
as_assay /usr/bin/truncate -s 16M /var/lib/assay/images/web-1.raw
as_assay /usr/bin/assay vm create web-1 --keyset own --disk /var/lib/assay/images/web-1.raw --memory 256
systemctl start assay-vm@no-such && fail "a machine that is not there was started"

echo "start: systemd waits until the machine runs"
systemctl start $unit
[ "$(property ActiveState) $(property StatusText)" = "active runs" ] || fail "$(property ActiveState) $(property StatusText)"
[ "$(machines)" = 1 ] || fail "$(machines) hypervisors run"
[ "$(ps -o user= -p "$(pgrep -f 'qemu-system-x86_64 .*guest=web-1')")" = assay ] || fail "QEMU's user"
as_assay /usr/bin/assay vm run web-1 && fail "the machine runs twice"

echo "a supervisor that is killed takes its machine along, and both are started anew"
kill -KILL "$(property MainPID)"
until_is NRestarts 1
until_is ActiveState active
until_is StatusText runs
[ "$(machines)" = 1 ] || fail "$(machines) hypervisors run"
as_assay /usr/bin/assay vm events web-1 -o json
grep -q machineLostEvent /tmp/said || fail "nobody says that the machine was lost: $(cat /tmp/said)"

echo "a machine that its operator stops stays off"
as_assay /usr/bin/assay vm stop web-1 --force
until_is ActiveState inactive
sleep 3 # longer than RestartSec=
[ "$(property ActiveState) $(property Result)" = "inactive success" ] || fail "$(property ActiveState) $(property Result)"

echo "stop: the guest is asked first"
systemctl start $unit
systemctl stop $unit
[ "$(property ActiveState) $(property Result)" = "inactive success" ] || fail "$(property ActiveState) $(property Result)"
[ "$(machines)" = 0 ] || fail "$(machines) hypervisors run"

echo "a machine that is refused is not tried again"
as_assay /usr/bin/mv /var/lib/assay/images/web-1.raw /var/lib/assay/images/other.raw
systemctl start $unit && fail "it was started without its disk"
sleep 3
[ "$(property ActiveState) $(property NRestarts)" = "failed 0" ] || fail "$(property ActiveState) $(property NRestarts)"

echo "findings are delivered by one process"
systemctl start assay-findings
as_assay /usr/bin/assay finding deliver --once && fail "two deliver"
systemctl stop assay-findings
[ "$(systemctl show --value -p Result assay-findings)" = success ] || fail "the delivery ended otherwise"

echo "the agent goes on when its service does not answer"
systemctl start assay-agent
[ "$(systemctl is-active assay-agent)" = inactive ] || fail "an agent without its settings runs"
install -d /etc/assay
echo 'ASSAY_AGENT_OPTIONS=--server http://127.0.0.1:9 --interval 1m' >/etc/assay/agent.env
echo secret >/etc/credstore/assay-agent.token
systemctl start assay-agent
n=0
while ! grep -q 'assay-agent: .*trying again' /assay-service.log; do
	n=$((n + 1))
	[ $n -lt 200 ] || fail "the agent says $(cat /assay-service.log)"
	sleep 0.1
done
systemctl stop assay-agent
[ "$(systemctl show --value -p Result assay-agent)" = success ] || fail "the agent ended otherwise"
echo done
