#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# usage: disk.sh sync | uring | snapshot
# A guest fills a small disk with numbered records, by each way to the image: all of them must be in
# the image, or, with snapshot=on, the image must be as it was. With sync, its DMA goes through I/O
# page tables.
. "$(dirname "$0")/guest.sh"

image=$work/disk.img
truncate -s 2M "$image"
case ${1-} in
sync|uring) options=backing=$1 ;;
snapshot) options=snapshot=on ;;
*) fail "unknown case '${1-}'" ;;
esac

dma=mediated
[ "$1" != sync ] || dma=assigned
boot disk viaduct.job=killtest --device "nvme,image=$image,$options" --dma $dma \
	--stats-json "$work/stats"
if [ "$status" != 0 ] && [ "$1" = uring ] && console_has disk 'io_uring.*not permitted'; then
	skip 'io_uring is not permitted here'
fi
[ "$status" = 0 ] || fail_boot disk 'the guest did not power off'
console_has disk '^killtest: disk full' || fail_boot disk 'the guest did not fill its disk'

faults=$(counter "$work/stats" dma.io_faults)
if [ $dma = assigned ]; then
	[ "$faults" -ge 1 ] || fail 'no DMA went through I/O page tables'
	[ "$(counter "$work/stats" dma.iotlb_hits)" -ge "$faults" ] || fail 'the IOTLB is of no use'
else
	[ "$faults" = 0 ] || fail "$faults I/O page faults, with no I/O page tables"
fi

case $1 in
snapshot) cmp -s -n 2097152 "$image" /dev/zero || fail 'snapshot=on changed the image' ;;
*)
	seq -f 'viaduct record %.0f' 0 511 >"$work/want"
	tr -d '\0' <"$image" | cmp "$work/want" - || fail 'the image is not what the guest wrote'
	;;
esac
