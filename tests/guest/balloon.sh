#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# usage: balloon.sh [OPTION...]: of `viaduct run`, such as --mmu shadow
# A guest uses 128 MiB and frees them: it reports free pages, and the host's memory comes back. Then the
# balloon takes all but 128 MiB of its 512, gives them back, and what the guest computes is right.
. "$(dirname "$0")/guest.sh"

mib=1048576
name=balloon-$$

# Reads the console up to a line that begins with $1.
expect() {
	while IFS= read -r line <&3; do
		line=$(printf '%s' "$line" | tr -d '\r')
		echo "$line" >>"$work/balloon.console"
		case $line in "$1"*) return ;; esac
	done
	status=
	fail_boot balloon "the console never said '$1'"
}

go_on() { printf '\r' >&4; }

# value KEY: of the machine's state, in MiB.
value() {
	"$viaduct" status "$name" >"$work/status" || fail 'no status'
	echo $(($(counter "$work/status" "$1") / mib))
}

# wait_for KEY RELATION MIB WHAT: up to half a minute.
wait_for() {
	tries=150
	until test "$(value "$1")" "$2" "$3"; do
		tries=$((tries - 1))
		if [ $tries = 0 ]; then
			cat "$work/status"
			fail "$4"
		fi
		sleep 0.2
	done
}

mkfifo "$work/keys"
exec 4<>"$work/keys"
start balloon viaduct.job=balloon --memory 512M --name "$name" --device balloon \
	--stats-json "$work/stats" "$@" <"$work/keys"

expect 'balloon: ready'
go_on
expect 'balloon: memory in use'
used=$(value resident_bytes)
[ "$used" -ge 128 ] || fail "only $used MiB are resident while the guest uses 128"
go_on
expect 'balloon: memory freed'
wait_for resident_bytes -le $((used - 100)) "$used MiB were resident, and stay so"
freed=$(value resident_bytes)
echo "$used MiB resident in use, $freed MiB when they are free"

"$viaduct" balloon "$name" 128M >/dev/null || fail 'the balloon cannot be set'
wait_for balloon.actual -le 128 'the balloon does not fill'
wait_for resident_bytes -le 128 'a full balloon gives nothing back'
echo "$(value resident_bytes) MiB resident with a balloon of $(value balloon.inflated_bytes) MiB"
"$viaduct" balloon "$name" 512M >/dev/null || fail 'the balloon cannot be set'
wait_for balloon.actual -ge 512 'the balloon does not empty'
go_on
expect 'balloon: ok'

status=0
cat <&3 >>"$work/balloon.console"
wait "$vm" || status=$?
vm=
[ $status = 0 ] || fail_boot balloon 'the guest did not power off'
[ "$(counter "$work/stats" dma.pins)" = 0 ] || fail 'something was pinned'
[ "$(counter "$work/stats" balloon.refused_bytes)" = 0 ] || fail 'something was refused'
