#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# The guest draws its console with the display's memory mapped into it, and with every access
# trapped: the pictures are the same to the byte, and the counters tell the two apart.
. "$(dirname "$0")/guest.sh"

draw() {	# NAME [OPTION...]
	name=$1
	shift
	boot "$name" viaduct.job=draw --device display --screenshot "$work/$name.png" \
		--stats-json "$work/$name.json" "$@"
	[ "$status" = 0 ] || fail_boot "$name" 'the guest did not power off'
	trapped=$(counter "$work/$name.json" mmio.trapped)
	pages=$(counter "$work/$name.json" mmio.direct_pages)
	echo "$name: $pages pages mapped directly, $trapped accesses trapped"
}

draw direct
direct=$trapped
[ "$pages" -gt 0 ] || fail 'video memory was not mapped into the guest'
draw trapped --no-direct-mmio
[ "$pages" = 0 ] || fail '--no-direct-mmio mapped device memory into the guest'
# A screen of 1280 x 800 pixels of four bytes, by stores of eight.
[ $((trapped - direct)) -ge 512000 ] || fail 'not one screen of accesses was trapped'
[ "$(head -c 4 "$work/direct.png" | od -An -c | tr -d ' ')" = '211PNG' ] || fail 'no PNG'
[ "$(wc -c <"$work/direct.png")" -gt 5000 ] || fail 'the picture holds no text'
cmp "$work/direct.png" "$work/trapped.png" || fail 'mapped and trapped draw different pictures'
