# Runs a cell by its command in a job: `sh .bacalhau/bootstrap.sh OUTPUTS`; the rest stands in request.sh beside it.
# POSIX sh (dash, busybox, bash). It owns the real stdout: the cell writes into a fifo, `tee` copies it as it comes and
# keeps it; the packets follow when the cell is over. Where a tool is missing that packets need, the cell runs without, and
# one packet says where its text ends: a log may lose its last line, that without a newline above all.
# Exit code: the cell's own; 124 at the time limit.

bm_here=$(cd "${0%/*}" && pwd) || exit 70
. "$bm_here/request.sh"

bm_has() { command -v "$1" >/dev/null 2>&1; }

bm_work=
bm_make_work() { # fresh, writable
  for bm_parent in "${TMPDIR:-/tmp}" /tmp /var/tmp .; do
    bm_work=$bm_parent/work-$BM_NONCE-$$
    (umask 077 && mkdir "$bm_work" "$bm_work/.bacalhau") 2>/dev/null && bm_work=$(cd "$bm_work" && pwd) && return
  done
  echo "bacalhau: no writable folder for the cell (tried TMPDIR, /tmp, /var/tmp and the current one)" >&2
  exit 70
}
bm_make_work
bm_own=$bm_work/.bacalhau
bm_given=${1:-outputs}
mkdir -p "$bm_given" 2>/dev/null
if [ -d "$bm_given" ]; then
  ln -s "$(cd "$bm_given" && pwd)" "$bm_work/outputs"
else
  mkdir -p "$bm_work/outputs"
fi
ln -s "${bm_here%/*}" "$bm_work/inputs"

bm_packets=yes
for bm_tool in base64 sha256sum mkfifo tee awk wc head tail tr; do
  bm_has "$bm_tool" || bm_packets=
done
[ -n "$bm_packets" ] && { mkfifo "$bm_own/1" "$bm_own/2" 2>/dev/null || bm_packets=; }

# Secrets are taken out of what the cell writes, by lines; where that can't be done the cell does not run.
BM_SECRETS=${BM_SECRETS-}
bm_redacted() { # the rules stand in no file and in no list of processes
  LC_ALL=C sed -u -f /dev/fd/5 5<<EOF
$bm_rules
EOF
}
if [ -n "$BM_SECRETS" ]; then
  bm_rules=$(BM_SECRETS=$BM_SECRETS LC_ALL=C awk -f "$bm_here/redaction.awk" </dev/null)
  if [ -z "$bm_packets" ] || [ -z "$bm_rules" ] || [ "$(printf 'a\000\377' | bm_redacted 2>/dev/null | wc -c | tr -d ' ')" != 3 ]; then
    echo "bacalhau: the secrets can't be kept out of the log here: that needs awk, GNU sed, mkfifo, base64 and sha256sum." >&2
    cd / && rm -rf "$bm_work"
    exit 70
  fi
fi

bm_pid=
bm_kill() { # the cell's whole group, where it has one
  if [ -n "$bm_group" ]; then kill -9 "-$bm_pid" 2>/dev/null; else kill -9 "$bm_pid" 2>/dev/null; fi
}
bm_clean() { cd / && rm -rf "$bm_work"; }
trap 'bm_kill; bm_clean; exit 143' TERM HUP INT

bm_encode() { printf '%s' "$1" | base64 | tr -d '\n'; }

bm_seq=0
if [ -n "$bm_packets" ]; then
  printf '@bacalhau %s 0 s - - %s\n' "$BM_NONCE" "$(bm_encode '{"language":"sh","version":""}')"
  bm_seq=1
  if [ -n "$BM_SECRETS" ]; then
    bm_redacted <"$bm_own/1" | tee "$bm_own/stdout" &
    bm_tee1=$!
    bm_redacted <"$bm_own/2" | tee "$bm_own/stderr" >&2 &
    bm_tee2=$!
  else
    tee "$bm_own/stdout" <"$bm_own/1" &
    bm_tee1=$!
    tee "$bm_own/stderr" <"$bm_own/2" >&2 &
    bm_tee2=$!
  fi
  exec 8>"$bm_own/1" 9>"$bm_own/2"
else
  exec 8>&1 9>&2
fi

bm_group=
bm_has setsid && bm_group=setsid
# The variables are the cell's alone: a PATH among them must not change the wrapper's.
(
  trap - TERM HUP INT
  exec >&8 2>&9 </dev/null
  exec 8>&- 9>&-
  cd "$bm_work" || exit 70
  [ -f "$bm_here/vars.sh" ] && . "$bm_here/vars.sh"
  bm_file=$bm_here/$BM_FILE
  eval "set -- $BM_COMMAND \"\$bm_file\" $BM_ARGS"
  # Bash notes where a command failed: an ERR trap, which `set -E` takes into functions, and nobody else inherits.
  case $1:${BASH_ENV-}:$bm_own in
    bash::*[!A-Za-z0-9_./-]*) ;;
    bash::*)
      printf 'unset BASH_ENV\nset -E\ntrap '\''printf "%%s %%s\\n" "$?" "$LINENO" >%s/failed'\'' ERR\n' "$bm_own" >"$bm_own/env.sh"
      export BASH_ENV="$bm_own/env.sh"
      ;;
  esac
  unset BM_NONCE BM_FILE BM_MAX_RESULT BM_TIMEOUT BM_COMMAND BM_ARGS BM_SECRETS
  exec $bm_group "$@"
) &
bm_pid=$!
exec 8>&- 9>&-

# A watchdog, in a group of its own: after $1 seconds it makes the file $2 (where one is named) and kills the rest.
# No trap: a signal to a shell that is only starting can get lost.
bm_after() {
  $bm_group sh -c 'bm_t=$1 bm_m=$2; shift 2; sleep "$bm_t" || sleep "${bm_t%.*}"; [ -z "$bm_m" ] || : >"$bm_m"; kill -9 "$@"' sh "$@" \
    >/dev/null 2>&1 </dev/null &
  bm_watch=$!
}
bm_call_off() { { kill -9 "-$1"; kill -9 "$1"; wait "$1"; } 2>/dev/null; }

bm_target=${bm_group:+-}$bm_pid
bm_limit=
case $BM_TIMEOUT in '' | 0 | 0.0) ;; *) bm_after "$BM_TIMEOUT" "$bm_own/timed-out" "$bm_target"; bm_limit=$bm_watch ;; esac
wait "$bm_pid" 2>/dev/null
bm_code=$?
[ -n "$bm_limit" ] && bm_call_off "$bm_limit"
if [ -n "$bm_packets" ]; then
  bm_after 0.3 "" "$bm_target" # a process that outlives the cell keeps the fifo open
  bm_late=$bm_watch
  bm_after 1.3 "" "$bm_tee1" "$bm_tee2"
  wait "$bm_tee1" 2>/dev/null
  wait "$bm_tee2" 2>/dev/null
  bm_call_off "$bm_late"
  bm_call_off "$bm_watch"
fi
bm_kill 2>/dev/null

bm_outcome=exit
bm_error=null
[ "$bm_code" -eq 0 ] && bm_outcome=ok
if [ -f "$bm_own/timed-out" ]; then
  bm_outcome=timeout
  bm_code=124
  bm_error='{"ename":"TimeoutError","evalue":"The cell ran longer than its time limit of '$BM_TIMEOUT' seconds.","traceback":"","mro":[]}'
fi

bm_line=null
if [ -f "$bm_own/failed" ]; then
  read -r bm_status bm_at <"$bm_own/failed"
  [ "$bm_status" = "$bm_code" ] && case $bm_at in '' | *[!0-9]*) ;; *) bm_line=$bm_at ;; esac
fi

bm_size() { wc -c <"$1" | tr -d ' '; }
bm_byte() { printf "\\$(printf '%03o' "$1")"; }

if [ -n "$bm_packets" ]; then
  bm_flag=-
  bm_truncated=
  [ -s "$bm_own/stdout" ] && [ "$(tail -c 1 "$bm_own/stdout" | wc -l)" -eq 0 ] && bm_flag=n
  for bm_stream in stdout stderr; do
    if [ "$(bm_size "$bm_own/$bm_stream")" -gt "$BM_MAX_RESULT" ]; then
      head -c "$BM_MAX_RESULT" "$bm_own/$bm_stream" >"$bm_own/cut"
      mv "$bm_own/cut" "$bm_own/$bm_stream"
      bm_truncated="$bm_truncated,\"$bm_stream\""
    fi
  done
  bm_header='{"outcome":"'$bm_outcome'","exit_code":'$bm_code',"error":'$bm_error',"parts":[{"name":"stdout","size":'$(bm_size "$bm_own/stdout")
  bm_header=$bm_header'},{"name":"stderr","size":'$(bm_size "$bm_own/stderr")'}],"unsendable":{},"missing":[],"truncated":['${bm_truncated#,}
  bm_header=$bm_header'],"phases":{},"displays":[],"python":"","line":'$bm_line'}'
  bm_length=${#bm_header}
  {
    printf BMS1
    for bm_unit in 16777216 65536 256 1; do bm_byte $((bm_length / bm_unit % 256)); done
    printf '%s' "$bm_header"
    cat "$bm_own/stdout" "$bm_own/stderr"
  } >"$bm_own/blob"
  if bm_has gzip && gzip -1 <"$bm_own/blob" >"$bm_own/blob.gz" 2>/dev/null; then mv "$bm_own/blob.gz" "$bm_own/blob"; fi
  bm_whole=$(bm_size "$bm_own/blob")
  bm_pieces=$(((bm_whole + 11999) / 12000))
  bm_sum=$(sha256sum <"$bm_own/blob")
  if base64 -w 16000 </dev/null >/dev/null 2>&1; then
    bm_lines() { base64 -w 16000 <"$bm_own/blob"; }
  else
    bm_lines() { base64 <"$bm_own/blob" | awk '{ row = row $0; while (length(row) >= 16000) { print substr(row, 1, 16000); row = substr(row, 16001) } } END { if (row != "") print row }'; }
  fi
  [ "$bm_flag" = n ] && printf '\n'
  bm_lines | awk -v nonce="$BM_NONCE" -v flag="$bm_flag" '{ print "@bacalhau " nonce " " NR " d " (NR == 1 ? flag : "-") " - " $0 }'
  bm_end='{"size":'$bm_whole',"sha256":"'${bm_sum%% *}'","pieces":'$bm_pieces'}'
  printf '@bacalhau %s %s e - - %s\n' "$BM_NONCE" "$((bm_pieces + bm_seq))" "$(bm_encode "$bm_end")"
else
  printf '\n@bacalhau %s 0 t n - e30=\n' "$BM_NONCE"
fi
bm_clean
exit "$bm_code"
