# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=sh
# Sourced by the benchmarks of whole guests: ours and the peers, the same kernel, initramfs, memory
# and number of harts. Runs of all are interleaved, so that a busy machine disturbs them alike.
#
# environment: VIADUCT (default build/viaduct), VIADUCT_CACHE as for tools/guest-fetch
# shellcheck source=bench/result.sh
. "$(dirname "$0")/result.sh"

kernel=$cache/guest/Image
memory=512M

[ -e "$cache/guest/VERSION" ] || die 'no guest in the cache; tools/guest-fetch gets it'

# The peers by name, the emulator of each; none where it cannot be had.
emulator() {
	case $1 in
	qemu7) command -v qemu-system-riscv64 || : ;;
	qemu10) [ ! -x "$cache/peer/qemu-system-riscv64" ] || echo "$cache/peer/qemu-system-riscv64" ;;
	esac
}

version() { "$(emulator "$1")" --version | sed -n '1s/.*version \([0-9.]*\).*/QEMU \1/p'; }

# QEMU 7's IMSIC board loses interrupts of the serial port: init's output never comes.
board() {
	case $1 in
	qemu7) echo virt ;;
	qemu10) echo virt,aia=aplic-imsic ;;
	esac
}

# guest WHO INITRD WORDS [IMAGE]: replaces this process.
guest() {
	who=$1
	initrd=$2
	words="console=ttyS0 quiet $3"
	image=${4-}
	if [ "$who" = viaduct ]; then
		set -- "$viaduct" run --kernel "$kernel" --initrd "$initrd" --append "$words" \
			--memory $memory
		[ -z "$image" ] || set -- "$@" --device "nvme,image=$image"
	else
		set -- "$(emulator "$who")" -M "$(board "$who")" -nographic -no-reboot -m $memory \
			-kernel "$kernel" -initrd "$initrd" -append "$words"
		[ -z "$image" ] || set -- "$@" -drive "file=$image,format=raw,id=disk,if=none" \
			-device nvme,drive=disk,serial=bench
	fi
	exec timeout 120 "$@" </dev/null
}
