#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# usage: kill.sh kill [KILLS] | term | control
# A guest writes numbered records, flushing the disk after each and then saying so, over a backing
# that keeps unsynced writes in the process only. The process is ended while the guest writes on.
#   kill      by SIGKILL, KILLS times (default 20): all records said to be flushed are in the image
#   term      by SIGTERM: the same, and viaduct must end by itself
#   control   by SIGKILL, with FLUSH made a no-op: records are missing, else "kill" proves nothing
. "$(dirname "$0")/guest.sh"

# end_after NAME RECORDS SIGNAL [,OPTION=VALUE...]: sets $flushed to the last record said to be
# flushed, $status to how viaduct ended.
end_after() {
	truncate -s 64M "$work/$1.img"
	start "$1" viaduct.job=killtest \
		--device "nvme,image=$work/$1.img,backing=volatile${4-}" </dev/null
	flushed=-1
	while IFS= read -r line <&3; do
		case $line in
		'flushed '*)
			flushed=$(printf '%s' "${line#flushed }" | tr -d '\r')
			[ "$flushed" -ne "$2" ] || kill "-$3" "$vm"
			;;
		esac
		echo "$line" >>"$work/$1.console"
	done
	status=0
	wait "$vm" || status=$?
	vm=
	[ "$flushed" -ge "$2" ] || fail_boot "$1" "the guest ended after record $flushed, not $2"
}

# Whether records 0 to $flushed are in the image of NAME, each in its place.
all_there() {
	seq -f 'viaduct record %.0f' 0 "$flushed" >"$work/$1.want"
	head -c $(((flushed + 1) * 4096)) "$work/$1.img" | tr -d '\0' >"$work/$1.have"
	cmp -s "$work/$1.want" "$work/$1.have"
}

# Kills $1, $1 + 2, ...: two series run side by side. The numbers of records are fixed, yet spread.
series() {
	k=$1
	while [ "$k" -le "$kills" ]; do
		end_after "kill$k" $((20 + k * 37 % 101)) KILL
		all_there "kill$k" || fail "kill $k: a record up to $flushed is not in the image"
		echo "kill $k: all $((flushed + 1)) flushed records are in the image"
		rm "$work/kill$k.img"
		k=$((k + 2))
	done
}

case ${1-} in
kill)
	kills=${2:-20}
	series 1 &
	odd=$!
	series 2 &
	even=$!
	failed=
	wait $odd || failed=yes
	wait $even || failed=yes
	[ -z "$failed" ] || exit 1
	;;
term)
	end_after term 50 TERM
	[ $status -lt 128 ] || fail_boot term 'viaduct did not end by itself'
	all_there term || fail "a record up to $flushed is not in the image"
	;;
control)
	end_after control 50 KILL ,flush=noop
	! all_there control || fail 'nothing is lost without FLUSH: the backing keeps nothing back'
	echo 'with FLUSH made a no-op, flushed records are lost, as they must be'
	;;
*)
	fail "unknown case '${1-}'"
	;;
esac
