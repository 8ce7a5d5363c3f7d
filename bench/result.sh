# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=sh
# shellcheck disable=SC2034 # cache is for who sources this
# Sourced by the benchmarks that are shell scripts: where things are, a folder that goes at the end,
# and results as 'viaduct bench --json' prints them.
#
# environment: VIADUCT (default build/viaduct), VIADUCT_CACHE as for tools/guest-fetch
set -eu

top=$(cd "$(dirname "$0")/.." && pwd)
viaduct=${VIADUCT:-$top/build/viaduct}
cache=${VIADUCT_CACHE:-${XDG_CACHE_HOME:-${HOME:?}/.cache}/viaduct}

note() { printf '%s\n' "$*" >&2; }
die() { note "$(basename "$0"): $*"; exit 1; }

[ -x "$viaduct" ] || die "no $viaduct; build it first"

work=$(mktemp -d "${TMPDIR:-/tmp}/viaduct-bench.XXXXXX")
pid=
cleanup() {
	[ -z "$pid" ] || kill -KILL "$pid" 2>/dev/null || :
	rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 1' HUP INT TERM

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
