#!/bin/bash
# Runs five ranks (`spaxos rank`) for 5 seconds at low pressure (-l 100: a quiet 100 values a second, a new leader
# each second) and at high pressure (-l 10000: as many as the cluster takes), and checks what they logged
# (`spaxos check`).
#
#   tools/run_and_check.sh [--kill] [--rounds 1]
#
# With --kill the leader, and later the leader and another rank, are killed with -9 and started again during each run.
# Exit code: 0 if all passed, 1 if something did not pass or a rank failed; then the folder of that run is kept.
# SPAXOS=PROGRAM runs that program; without it a release build is made. Ends only what it started.
set -euo pipefail
shopt -s inherit_errexit
cd "$(dirname "$(readlink -f "$0")")/.."

RANKS=5 SECS=5 ROUNDS=1 KILL=no
PIDS=() # by rank; empty while it is down
DIR=

main() {
  arguments "$@"
  program
  trap clean_up EXIT
  trap 'exit 1' INT TERM
  local round passed=yes
  for ((round = 1; round <= ROUNDS; round++)); do
    run "Check on low pressure" 100 || passed=no
    run "Check on high pressure" 10000 || passed=no
  done
  [[ $passed == yes ]]
}

arguments() {
  while (($#)); do
    case $1 in
      --kill) KILL=yes; shift ;;
      --rounds)
        [[ ${2:-} =~ ^[1-9][0-9]{0,3}$ ]] || fail "$1 needs a whole number from 1 to 9999"
        ROUNDS=$2; shift 2 ;;
      -h | --help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"; exit 0 ;;
      *) fail "unknown argument $1; see --help" ;;
    esac
  done
}

program() {
  if [[ -z ${SPAXOS:-} ]]; then
    cargo build --release --locked --quiet --bin spaxos
    SPAXOS=${CARGO_TARGET_DIR:-target}/release/spaxos
  fi
}

# One run: its title, and the values after which a leader hands over.
run() {
  local title=$1 interval=$2 rank failed=no code=0
  echo "$title"
  DIR=$(mktemp -d "${TMPDIR:-/tmp}/run_and_check.XXXXXX")
  configure
  local began_ms; began_ms=$(now_ms)
  for ((rank = 0; rank < RANKS; rank++)); do start "$rank" "$interval" "$began_ms"; done
  if [[ $KILL == yes ]]; then kill_some "$interval" "$began_ms"; fi
  for ((rank = 0; rank < RANKS; rank++)); do
    wait "${PIDS[rank]}" || { echo "rank $rank ended with exit code $?: $(tail -n 3 "$DIR/rank$rank.out")"; failed=yes; }
    PIDS[rank]=
  done
  "$SPAXOS" check "$DIR"/log/instancelog*.log || code=$?
  if [[ $failed == yes || $code != 0 ]]; then
    echo "kept for you: $DIR"
    DIR=
    return 1
  fi
  rm -rf "$DIR"
  DIR=
}

# Writes nodeI.toml of all ranks, with peer ports that nobody listens on (below those of outgoing connections).
configure() {
  local rank peer port=$((10000 + RANDOM % 20000)) peers=
  for ((rank = 0; rank < RANKS; rank++)); do
    port=$((port + 1))
    while (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do port=$((port + 1)); done
    peers+=$'\n'"[[peers]]"$'\n'"node = $((rank + 1))"$'\n'"address = \"127.0.0.1:$port\""$'\n'
  done
  for ((rank = 0; rank < RANKS; rank++)); do
    cat >"$DIR/node$rank.toml" <<END
cluster = "run-and-check"
node = $((rank + 1))
protocol = "paxos"
data = "$DIR/node$rank"
$peers
[log]
terminal = "off"
END
  done
}

# Starts a rank for what is left of the run.
start() {
  local rank=$1 interval=$2 began_ms=$3 left_ms
  left_ms=$((began_ms + 1000 * SECS - $(now_ms)))
  ((left_ms > 10)) || left_ms=10
  "$SPAXOS" rank -i "$rank" -o 1 -l "$interval" -t "$((left_ms / 1000)).$(printf %03d $((left_ms % 1000)))" \
    --dir "$DIR" </dev/null >>"$DIR/rank$rank.out" 2>&1 &
  PIDS[rank]=$!
}

# Kills the leader, and later the leader and another one together; each comes back half a second later.
kill_some() {
  local interval=$1 began_ms=$2 victims
  sleep 1.5
  victims=("$(leader)")
  crash_and_restart 0.5 "${victims[@]}"
  sleep 0.8
  victims=("$(leader)")
  victims+=($(((victims[0] + 1 + RANDOM % (RANKS - 1)) % RANKS)))
  crash_and_restart 0.5 "${victims[@]}"
}

crash_and_restart() {
  local pause_s=$1 victim
  shift
  for victim in "$@"; do
    echo "rank $victim is killed"
    kill -KILL "${PIDS[victim]}"
  done
  for victim in "$@"; do wait "${PIDS[victim]}" 2>/dev/null || true; PIDS[victim]=; done
  sleep "$pause_s"
  for victim in "$@"; do start "$victim" "$interval" "$began_ms"; done
}

# The rank that made the latest value.
leader() {
  local rank at best=0 leader=0
  for ((rank = 0; rank < RANKS; rank++)); do
    at=$(tail -n 5000 "$DIR/log/instancelog$rank.log" | grep -a ^generate | tail -n 1 | sed 's/.* at //' || true)
    if [[ $at =~ ^[0-9]+$ ]] && ((at > best)); then best=$at leader=$rank; fi
  done
  echo "$leader"
}

now_ms() { date +%s%3N; }

clean_up() {
  local pid
  for pid in "${PIDS[@]}"; do
    if [[ -n $pid ]]; then kill -KILL "$pid" 2>/dev/null || true; fi
  done
  if [[ -n $DIR ]]; then rm -rf "$DIR"; fi
}

fail() {
  echo "run_and_check.sh: $1" >&2
  exit 1
}

main "$@"
