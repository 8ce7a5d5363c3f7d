#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# usage: disk.sh shared | private
# A guest of stock QEMU keeps a file on a served disk. Its memory is shared with the server, or is
# QEMU's own, and then DMA goes by messages. In the first case the guest also resets its machine,
# and finds the file afterwards.
# shellcheck source=tests/peer/peer.sh
. "$(dirname "$0")/peer.sh"

memory=${1-shared}
restart=0
[ "$memory" = private ] || restart=1
truncate -s 64M "$work/disk.img"
serve "nvme,image=$work/disk.img" --socket "$work/disk"
start disk "$memory" "viaduct.job=peer viaduct.restart=$restart" "$work/disk"
finish disk "$vm"
stop_serving
check_disk disk nvme0 "$work/disk.img"

boots=$(console disk | grep -c '^peer: nvme0n1 ')
[ "$boots" = $((restart + 1)) ] || fail_boot disk "$boots boots"
messages=$(($(counter server.dma_reads) + $(counter server.dma_writes)))
case $memory in
shared) [ $messages = 0 ] || fail "$messages DMA messages, though the memory is shared" ;;
private) [ $messages -gt 1000 ] || fail "only $messages DMA messages for private memory" ;;
esac
