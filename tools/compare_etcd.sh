#!/bin/bash
# Compares spaxos, with each of its protocols, to etcd: three nodes each on this machine and its disk, everything
# synced, the same number of proposals outstanding (C) over the same number of connections (K), values of 128 bytes. A
# round measures each of them once, in turn and each with a new cluster, so that all meet the same machine.
#
#   tools/compare_etcd.sh [--rounds 5] [--secs 6]
#
# Writes the table between the bench:begin and bench:end markers of README.md, and every measurement as a JSON
# line into data/compare/. A measurement is made when the machine is idle, and again (at most three times)
# when others took more than 15 % of a processor during it. Ends only what it started.
set -euo pipefail
shopt -s inherit_errexit
cd "$(dirname "$(readlink -f "$0")")/.."

ROUNDS=5 SECS=6
OURS=("1 1" "256 1" "256 256" "1000 1")
# etcd's clients usually share few gRPC connections, hence 64 as well. The third is the K of spaxos to compare with.
ETCDS=("1 1 1" "256 1 1" "256 256 256" "256 64 256" "1000 1 1")
DIR=data/compare
ETCD_PIDS=()

main() {
  arguments "$@"
  needs
  trap end_etcd EXIT
  trap 'exit 1' INT TERM
  mkdir -p "$DIR"
  LINES_FILE="$DIR/$(date -u +%Y%m%dT%H%M%SZ).jsonl"
  for ((round = 1; round <= ROUNDS; round++)); do
    for row in "${ETCDS[@]}"; do
      read -r c k beside <<<"$row"
      [[ $k == "$beside" ]] && undisturbed "paxos" "$c" "$k"
      [[ $k == "$beside" ]] && undisturbed "raft" "$c" "$k"
      undisturbed "etcd" "$c" "$k"
    done
  done
  table >"$DIR/table.md"
  cat "$DIR/table.md"
  into_readme
}

arguments() {
  while (($#)); do
    case $1 in
      --rounds) ROUNDS=${2:-} ;;
      --secs) SECS=${2:-} ;;
      -h | --help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"; exit 0 ;;
      *) fail "unknown argument $1; see --help" ;;
    esac
    [[ ${2:-} =~ ^[1-9][0-9]{0,3}$ ]] || fail "$1 needs a whole number from 1 to 9999"
    shift 2
  done
}

# Checks that all that is needed is there, and builds the two programs.
needs() {
  command -v etcd >/dev/null || fail "etcd is missing: apt-get install etcd-server (and let no service of it run)"
  command -v protoc >/dev/null || fail "protoc is missing: apt-get install protobuf-compiler libprotobuf-dev"
  local target=${CARGO_TARGET_DIR:-target}
  cargo build --release --locked --bin spaxos
  cargo build --release --locked --manifest-path tools/etcd-load/Cargo.toml --target-dir "$target/etcd-load"
  SPAXOS=$target/release/spaxos LOAD=$target/etcd-load/release/etcd-load
}

# One measurement of $1 at C=$2 K=$3 that others did not disturb; the third one counts in any case.
undisturbed() {
  local line try
  for try in 1 2 3; do
    until_idle
    echo "round $round of $ROUNDS: $1, C=$2 K=$3" >&2
    line=$("measure_$1" "$2" "$3")
    awk -v f="$(field foreign_cpu_s <<<"$line")" -v s="$SECS" 'BEGIN { exit !(f <= 0.15 * s) }' && break
    echo "others used $(field foreign_cpu_s <<<"$line") s of CPU in the meantime (try $try)" >&2
  done
  echo "$line" >>"$LINES_FILE"
}

measure_paxos() { measure_spaxos paxos "$@"; }

measure_raft() { measure_spaxos raft "$@"; }

measure_spaxos() {
  "$SPAXOS" bench --json --protocol "$1" --clients "$2" --connections "$3" --secs "$SECS" --dir "$DIR"
}

measure_etcd() {
  start_etcd
  local pids
  pids=$(IFS=,; echo "${ETCD_PIDS[*]}")
  "$LOAD" --endpoints "$CLIENTS" --pids "$pids" --clients "$1" --connections "$2" --secs "$SECS"
  end_etcd
}

start_etcd() {
  # The ports are below those that the system uses for outgoing connections.
  local base=$((10000 + RANDOM % 20000)) cluster="" node
  rm -rf "$DIR/etcd"
  mkdir -p "$DIR/etcd"
  # Trapped again, because this runs in a subshell.
  trap end_etcd EXIT
  trap 'exit 1' INT TERM
  CLIENTS=""
  for node in 0 1 2; do
    cluster+="${cluster:+,}n$node=http://127.0.0.1:$((base + 10 * node + 1))"
    CLIENTS+="${CLIENTS:+,}http://127.0.0.1:$((base + 10 * node))"
  done
  for node in 0 1 2; do
    local client="http://127.0.0.1:$((base + 10 * node))" peer="http://127.0.0.1:$((base + 10 * node + 1))"
    etcd --name "n$node" --data-dir "$DIR/etcd/n$node" --initial-cluster "$cluster" \
      --listen-client-urls "$client" --advertise-client-urls "$client" \
      --listen-peer-urls "$peer" --initial-advertise-peer-urls "$peer" \
      --quota-backend-bytes $((6 << 30)) --logger zap --log-level error >"$DIR/etcd/n$node.out" 2>&1 &
    ETCD_PIDS+=($!)
  done
}

end_etcd() {
  local pid
  for pid in "${ETCD_PIDS[@]}"; do kill -9 "$pid" 2>/dev/null || true; done
  for pid in "${ETCD_PIDS[@]}"; do wait "$pid" 2>/dev/null || true; done
  ETCD_PIDS=()
  rm -rf "$DIR/etcd"
}

# Waits, for at most 40 s, until the machine is nearly idle.
until_idle() {
  local try before after
  for try in {1..40}; do
    before=$(busy_and_all)
    sleep 1
    after=$(busy_and_all)
    awk -v b="$before" -v a="$after" 'BEGIN { split(b, x); split(a, y)
      exit !(y[1] - x[1] < 0.1 * (y[2] - x[2])) }' && return
  done
  echo "the machine is not idle; measuring anyway" >&2
}

busy_and_all() {
  awk '/^cpu / { print $2 + $3 + $4 + $7 + $8, $2 + $3 + $4 + $5 + $6 + $7 + $8 }' /proc/stat
}

# The table as Markdown, markers included.
table() {
  local row c k beside name first
  echo "<!-- bench:begin -->"
  echo "Made by \`tools/compare_etcd.sh --rounds $ROUNDS --secs $SECS\` on $(date -u +%F), commit $(commit), with"
  echo "$(version). $(machine). Three nodes on loopback, 128-byte values, everything synced to the disk;"
  echo "C proposals outstanding over K connections to the leader. Medians (min to max) of $ROUNDS round(s)$(disturbed)$(errors)."
  echo
  echo "| C, K | ops/s: Paxos | Raft | etcd | Raft / Paxos | Paxos / etcd | p50, p99, p99.9 ms: Paxos | Raft | etcd | servers' CPU µs/op: Paxos, Raft, etcd |"
  echo "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
  for row in "${ETCDS[@]}"; do
    read -r c k beside <<<"$row"
    name="C=$c, K=$beside"
    [[ $k == "$beside" ]] || name+=" (etcd: K=$k)"
    echo "| $name | $(range paxos "$c" "$beside") | $(range raft "$c" "$beside") | $(range etcd "$c" "$k") |" \
      "$(ratio "$(median raft "$c" "$beside" ops_s)" "$(median paxos "$c" "$beside" ops_s)") |" \
      "$(ratio "$(median paxos "$c" "$beside" ops_s)" "$(median etcd "$c" "$k" ops_s)") |" \
      "$(latencies paxos "$c" "$beside") | $(latencies raft "$c" "$beside") | $(latencies etcd "$c" "$k") |" \
      "$(median paxos "$c" "$beside" srv_cpu_us_op), $(median raft "$c" "$beside" srv_cpu_us_op)," \
      "$(median etcd "$c" "$k" srv_cpu_us_op) |"
  done
  echo "<!-- bench:end -->"
}

commit() {
  local dirty=""
  [[ -z $(git status --porcelain -- src Cargo.toml Cargo.lock 2>/dev/null) ]] || dirty=" with changes"
  echo "$(git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)$dirty"
}

version() { etcd --version | awk '/^etcd Version/ { print "etcd " $3 }'; }

machine() {
  local model
  model=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1)
  echo "Machine: $(nproc) × ${model:-$(uname -m)}, $(awk '/MemTotal/ { printf "%.0f GiB", $2 / 1048576 }' /proc/meminfo)," \
    "$(df --output=fstype "$DIR" | tail -1), Linux $(uname -r | cut -d. -f1,2)"
}

disturbed() {
  local count
  count=$(field foreign_cpu_s <"$LINES_FILE" | awk -v s="$SECS" '$1 > 0.15 * s' | wc -l)
  [[ $count == 0 ]] || echo "; others disturbed $count of $(wc -l <"$LINES_FILE") measurements"
}

errors() {
  local count
  count=$(field errors <"$LINES_FILE" | awk '{ sum += $1 } END { print sum + 0 }')
  [[ $count == 0 ]] || echo "; $count requests were answered with an error"
}

# All values of field $4 of system $1 at C=$2 K=$3, ascending.
values() {
  grep -E "\"label\":\"(spaxos-)?$1-" "$LINES_FILE" | grep "\"c\":$2,\"conns\":$3," | field "$4" | sort -g
}

median() {
  values "$@" | awk '{ v[NR] = $1 } END { print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'
}

range() {
  printf "%.0f (%.0f to %.0f)" "$(median "$@" ops_s)" "$(values "$@" ops_s | head -1)" "$(values "$@" ops_s | tail -1)"
}

ratio() {
  awk -v a="$1" -v b="$2" 'BEGIN { if (b > 0) printf "%.2f", a / b; else printf "-" }'
}

latencies() {
  awk -v a="$(median "$@" p50_us)" -v b="$(median "$@" p99_us)" -v c="$(median "$@" p999_us)" \
    'BEGIN { printf "%.2f, %.2f, %.2f", a / 1000, b / 1000, c / 1000 }'
}

# A number out of each JSON line.
field() { sed -n "s/.*\"$1\":\([0-9.eE+-]*\).*/\1/p"; }

into_readme() {
  if ! grep -q '<!-- bench:begin -->' README.md 2>/dev/null || ! grep -q '<!-- bench:end -->' README.md; then
    echo "README.md has no markers bench:begin and bench:end; the table is in $DIR/table.md" >&2
    return
  fi
  awk -v table="$DIR/table.md" '
    /<!-- bench:begin -->/ { while ((getline line < table) > 0) print line; skip = 1 }
    !skip
    /<!-- bench:end -->/ { skip = 0 }' README.md >"$DIR/README.md"
  cat "$DIR/README.md" >README.md
  rm "$DIR/README.md"
  echo "the table of README.md is new; the measurements are in $LINES_FILE" >&2
}

fail() {
  echo "compare_etcd.sh: $1" >&2
  exit 1
}

main "$@"
