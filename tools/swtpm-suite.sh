#!/usr/bin/env bash
# Runs swtpm's own test scripts over this project's programs in its place, and
# writes a table of them: name, pass, fail or skip, and the reason.
#
# usage: swtpm-suite.sh CHECKOUT BIN TABLE
#
# CHECKOUT is swtpm's source at v0.10.1, unbuilt. BIN has assay under the names
# swtpm, swtpm_ioctl, swtpm_setup, swtpm_cert and swtpm_localca. Needs bash, socat,
# gawk, net-tools, certtool (gnutls-bin) and swtpm_bios of the package swtpm, which
# only sends commands. As root, and with softhsm2, more of the scripts run.
set -u
checkout=$(cd "${1:?CHECKOUT is missing}" && pwd) || exit 2
bin=$(cd "${2:?BIN is missing}" && pwd) || exit 2
table=${3:?TABLE is missing}
logs=$table.logs
mkdir -p "$logs" || exit 2
logs=$(cd "$logs" && pwd)

# What a build makes of samples/swtpm_setup.conf.in, without a certificate tool:
# the built-in authority certifies.
printf 'active_pcr_banks = sha256\nrsa_keysize = 2048\n' >"$checkout/samples/swtpm_setup.conf"

export abs_top_testdir=$checkout/tests abs_top_builddir=$checkout abs_top_srcdir=$checkout
export SWTPM_EXE=$bin/swtpm SWTPM_IOCTL=$bin/swtpm_ioctl SWTPM_SETUP=$bin/swtpm_setup
export SWTPM_CERT=$bin/swtpm_cert SWTPM_LOCALCA=$bin/swtpm_localca CERTTOOL=certtool
SWTPM_BIOS=$(command -v swtpm_bios) || { echo "swtpm_bios is missing" >&2; exit 2; }
export SWTPM_BIOS PATH=$bin:$PATH

# A key provider and a certificate authority for this run.
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
umask 077
printf 'assay-keys 1\nsuite %s\n' "$(head -c 32 /dev/urandom | base64)" >"$work/keys"
export ASSAY_KEY_PROVIDER=local:$work/keys ASSAY_VTPM_ROOT=$work/root XDG_CONFIG_HOME=$work/config
umask 022

# reason TEST: why a test is not run, or does not pass
reason() {
	case $1 in
	test_tpm2_swtpm_localca_pkcs11.test)
		echo "signs by a key in a token, which the file authority refuses: assay vtpm ca names a program that signs" ;;
	test_tpm2_samples_create_tpmca.test | test_samples_create_tpmca)
		echo "tests a script around swtpm_cert with a key in a TPM" ;;
	test_vtpm_proxy | test_tpm2_vtpm_proxy)
		echo "needs the kernel's vTPM proxy; --vtpm-proxy is refused, since no device file is made here" ;;
	test_tpm12 | test_ctrlchannel2 | test_ctrlchannel4) echo "for a TPM 1.2; there is none" ;;
	test_tpm2_save_load_state_da_timeout) echo "counts seconds: fails beside much other work" ;;
	test_tpm2_chroot_cuse) echo "uses swtpm cuse, which is refused" ;;
	test_tpm2_ctrlchannel2 | test_tpm2_migration_key | test_tpm2_resume_volatile)
		echo "resumes volatile state that swtpm wrote; only permanent state is taken over" ;;
	test_tpm2_derived_keys)
		echo "resumes volatile state that swtpm wrote, and wants a key for TDES, which is left out" ;;
	test_tpm2_save_load_state_3)
		echo "needs IBM's tools; resumes volatile state that swtpm wrote" ;;
	test_tpm2_save_load_state_2 | test_tpm2_save_load_state_2_linear)
		echo "needs IBM's tools; fills NV to libtpms' last byte" ;;
	test_tpm2_save_load_state_2_block) echo "keeps state on a block device, which is refused" ;;
	test_tpm2_partial_reads) echo "uses swtpm cuse" ;;
	test_tpm2_ibmtss2) echo "builds IBM's suite, which runs over our TPM by itself (ibmtss.tsv)" ;;
	test_tpm2_libtpms_versions_profiles) echo "builds old versions of libtpms" ;;
	test_tpm2_avoid_da_lockout) echo "wants TPM_RC_RETRY of the first use of a DA-protected index, as libtpms gives; ours answers at once (swtpm 4da66c6 takes both, and passes)" ;;
	test_tpm2_hashing3) echo "wants tpmEstablished set by an H-CRTM before TPM2_Startup; the bit says that a dynamic OS was established (PTP, TPM_ACCESS_x), which an H-CRTM does not" ;;
	test_tpm2_print_states) echo "wants a state file of 1,000 to 1,999 bytes, as libtpms' is; ours has room for generations" ;;
	test_tpm2_parameters) echo "uses --allow-signing; and its certificate tool writes the two letters ek: certificates are checked here" ;;
	test_tpm2_swtpm_setup_create_cert) echo "uses --allow-signing, which is refused: who trusts the certificate would take what a guest has signed for the TPM's own word" ;;
	test_tpm2_swtpm_setup_profile)
		echo "makes profiles of lists, which are refused; and wants state files of libtpms' sizes" ;;
	test_tpm2_swtpm_setup_profile_name) echo "wants the names and texts of libtpms' profiles, and local ones; profiles here are published as they are" ;;
	*) echo "not known" ;;
	esac
}

tests=$(make -s -C "$checkout/tests" -f - list <<'MAKE'
include Makefile.am
list: ; @echo $(TESTS)
MAKE
) 2>/dev/null
[ -n "$tests" ] || tests=$(awk '/^TESTS \+?=/ { on = 1 } on { for (i = 1; i <= NF; i++) if ($i ~ /^test_/) print $i } !/\\$/ { on = 0 }' "$checkout/tests/Makefile.am")

cd "$checkout/tests" || exit 2
: >"$table"
for t in $tests; do
	timeout 300 bash "./$t" >"$logs/$t.log" 2>&1
	rc=$?
	case $rc in
	0) printf '%s\tpass\t\n' "$t" ;;
	77)
		why=$(reason "$t")
		if [ "$why" = "not known" ] && grep -q "does not provide a TPM 1.2" "$logs/$t.log" 2>/dev/null; then
			why="for a TPM 1.2; there is none"
		fi
		printf '%s\tskip\t%s\n' "$t" "$why"
		;;
	*) printf '%s\tfail\t%s\n' "$t" "$(reason "$t")" ;;
	esac >>"$table"
done
