# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=sh
# Sourced by the benchmarks of whole guests: ours and the peers, the same kernel, initramfs, memory
# and number of harts. Runs of all are interleaved, so that a busy machine disturbs them alike.
#
# environment: VIADUCT (default build/viaduct), VIADUCT_CACHE as for tools/guest-fetch
set -eu

top=$(cd "$(dirname "$0")/.." && pwd)
viaduct=${VIADUCT:-$top/build/viaduct}
cache=${VIADUCT_CACHE:-${XDG_CACHE_HOME:-${HOME:?}/.cache}/viaduct}
kernel=$cache/guest/Image
memory=512M

note() { printf '%s\n' "$*" >&2; }
die() { note "$(basename "$0"): $*"; exit 1; }

[ -x "$viaduct" ] || die "no $viaduct; build it first"
[ -e "$cache/guest/VERSION" ] || die 'no guest in the cache; tools/guest-fetch gets it'

work=$(mktemp -d "${TMPDIR:-/tmp}/viaduct-bench.XXXXXX")
pid=
cleanup() {
	[ -z "$pid" ] || kill -KILL "$pid" 2>/dev/null || :
	rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 1' HUP INT TERM

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

# result BENCH CASE OURS [PEER THEIRS EXTRA]: from files of nanoseconds, one a line.
result() {
	sort -n "$3" >"$work/ours"
	sort -n "${5:-/dev/null}" >"$work/theirs"
	awk -v bench="$1" -v name="$2" -v peer="${4-}" -v extra="${6-}" '
		FILENAME ~ /ours$/ { a[++n] = $1 }
		FILENAME ~ /theirs$/ { b[++m] = $1 }
		function median(v, k) {
			return k % 2 ? v[(k + 1) / 2] : (v[k / 2] + v[k / 2 + 1]) / 2
		}
		END {
			if (!n)
				exit 1
			printf "{\"bench\": \"%s\", \"case\": \"%s\", \"n\": %d, ", bench, name, n
			printf "\"median_ns\": %.0f, \"min_ns\": %.0f, \"max_ns\": %.0f", median(a, n), a[1], a[n]
			if (m) {
				printf ", \"peer\": \"%s\", \"peer_median_ns\": %.0f, ", peer, median(b, m)
				printf "\"peer_min_ns\": %.0f, \"peer_max_ns\": %.0f, ", b[1], b[m]
				printf "\"ratio\": %.3f", median(a, n) / median(b, m)
			}
			print extra "}"
		}' "$work/ours" "$work/theirs" || die "no result for $1 $2"
}
