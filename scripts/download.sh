#!/usr/bin/env bash
# Get a published checkpoint with bash, curl and tar alone, for a machine on which nothing is installed yet.
# It reads the table of mistral-download, and keeps a part of an archive in the same place and form: each can go on
# where the other stopped.  Exit codes: 1 failed, 2 usage, 3 archive, 5 network, 6 checksum, 130 Ctrl-C.
set -euo pipefail
export LC_ALL=C
umask 022

TABLE="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)/src/mistral_local/hub/models.tsv"
BASE="${MISTRAL_DOWNLOAD_BASE:-https://models.mistralcdn.com}"
MANIFEST=SHA256SUMS
LONGEST_WAIT_S=60

usage() {
  cat << 'END'
Usage: scripts/download.sh NAME [DIR]     fetch, check and unpack an archive; DIR is $MISTRAL_MODEL/NAME unless given
       scripts/download.sh --list         the names

  --verify_only      check the files of a folder that was downloaded before; nothing is fetched
  --dry_run          say what would be fetched, how large it is and whether there is room; nothing is fetched
  --offline          use what is here already, and do not touch the network
  --accept_license   accept the licence of a model whose use is restricted
  --retries N        failures in a row, without a new byte between them, after the first (default 6)
  --quiet            write errors only

MISTRAL_DOWNLOAD_BASE is the base address of the archives (default https://models.mistralcdn.com).
END
}

die() { # exit code, message
  printf 'Error: %s\n' "$2" >&2
  exit "$1"
}

note() { [ -n "$quiet" ] || printf '%s\n' "$1" >&2; }

human() { # bytes
  awk -v n="$1" 'BEGIN {
    if (n >= 1e9) printf "%.1f GB", n / 1e9; else if (n >= 1e6) printf "%.1f MB", n / 1e6
    else if (n >= 1e3) printf "%.1f kB", n / 1e3; else printf "%d bytes", n }'
}

size_of() { if [ -f "$1" ]; then wc -c < "$1" | tr -d ' '; else echo 0; fi; }

md5_of() { if command -v md5sum > /dev/null; then md5sum < "$1" | cut -d ' ' -f 1; else md5 -q "$1"; fi; }

sha256() { if command -v sha256sum > /dev/null; then sha256sum "$@"; else shasum -a 256 "$@"; fi; }

list() {
  awk -F '\t' '
    function gigabytes(n) { return sprintf("%.1f GB", n / 1e9) }
    BEGIN { n = 1; split("name\tsize\tmemory\tlicence\ttokenizer\truns", head, "\t"); for (c = 1; c <= 6; c++) cell[1, c] = head[c] }
    /^#/ { next }
    { n++; cell[n, 1] = $1; cell[n, 2] = gigabytes(2 * $7); cell[n, 3] = gigabytes(2 * $7 + 4096 * $8)
      cell[n, 4] = $5; cell[n, 5] = $6; cell[n, 6] = $10 }
    END {
      for (r = 1; r <= n; r++) for (c = 1; c < 6; c++) if (length(cell[r, c]) > width[c]) width[c] = length(cell[r, c])
      for (r = 1; r <= n; r++) { for (c = 1; c < 6; c++) printf "%-" width[c] "s  ", cell[r, c]; print cell[r, 6] }
    }' "$TABLE"
  printf '\n%s\n%s\n%s\n' \
    "size: the weights in bf16, counted from the published shape; --dry_run asks the server for the archive's own size" \
    "memory: the weights, and the keys and values of 4096 tokens, in bf16" \
    "MNPL and MRL restrict the use: these need --accept_license"
}

find_row() { # name, in any case; sets the columns of its row
  local wanted row
  wanted="$(printf '%s' "$1" | tr '[:upper:]' '[:lower:]')"
  row="$(awk -F '\t' -v wanted="$wanted" '!/^#/ && tolower($1) == wanted' "$TABLE")"
  [ -n "$row" ] || die 2 "unknown name $1 (--list shows the names)"
  IFS=$'\t' read -r name path md5s sha256s licence _ _ _ kind runs <<< "$row"
}

check_licence() {
  local terms
  case "$licence" in
    MNPL*) terms="the Mistral AI Non-Production License: no commercial use; https://mistral.ai/licenses/MNPL-0.1.md" ;;
    MRL*) terms="the Mistral AI Research License: research and individual use only; https://mistral.ai/licenses/MRL-0.1.md" ;;
    *) return 0 ;;
  esac
  [ -n "$accept" ] || die 2 "$name comes under $terms; read it, then say --accept_license"
  note "$name comes under $terms"
}

check_space() { # bytes, purpose
  local folder free_kb
  folder="$target"
  while [ ! -d "$folder" ]; do folder="$(dirname "$folder")"; done
  free_kb="$(df -Pk "$folder" | awk 'NR == 2 { print $4 }')"
  [ $(($1 / 1024)) -le "$free_kb" ] || die 1 "$2 needs $(human "$1"), but $folder has $(human $((free_kb * 1024))) free"
}

header() { # name; of the last answer in $headers
  tr -d '\r' < "$headers" | awk -v name="$1" '
    /^HTTP\// { value = "" }
    { colon = index($0, ":"); if (tolower(substr($0, 1, colon - 1)) == name) { value = substr($0, colon + 1); sub(/^ +/, "", value) } }
    END { print value }'
}

# Run curl with our manners.  Sets `status`, `curl_code` and the file $headers.
request() {
  local redirects="=http,https"
  case "$url" in https:*) redirects="=https" ;; esac
  : > "$headers"
  curl_code=0
  status="$(curl --fail --location --max-redirs 10 --proto '=http,https' --proto-redir "$redirects" \
    --connect-timeout 30 --speed-limit 1 --speed-time 30 --user-agent mistral_local \
    --dump-header "$headers" --write-out '%{http_code}' "$@" "$url")" || curl_code=$?
}

# Ask what the server has, without the body.  Sets `length` and `validator`, empty when it does not say.
ask() {
  request --silent --head --output /dev/null
  length="" validator=""
  [ "$curl_code" = 0 ] || return 0
  length="$(header content-length)"
  case "$length" in *[!0-9]*) length="" ;; esac
  validator="$(header etag)"
  case "$validator" in "" | W/*) validator="$(header last-modified)" ;; esac
}

# Keep the part only if it is one of the very file that the server has now.
match_part() {
  local now
  now="$(printf 'url=%s\nvalidator=%s\nlength=%s' "$url" "$validator" "$length")"
  if [ -z "$validator" ] || [ -z "$length" ] || [ ! -f "$state" ] || [ "$(cat "$state")" != "$now" ]; then
    [ "$(size_of "$part")" = 0 ] || note "what has come cannot be told from another file, starting over"
    rm -f "$part"
    printf '%s\n' "$now" > "$state"
  fi
}

# One attempt.  Sets `problem` if it was cut short and another one may do better.
fetch_once() {
  local have meter=(--silent) resume=()
  problem="" wait_s=""
  ask
  if [ "$curl_code" != 0 ]; then
    case "$status" in
      000 | 408 | 425 | 429 | 5??) set_problem && return ;;
    esac # otherwise HEAD is refused; GET may not be
  fi
  match_part
  have="$(size_of "$part")"
  if [ -n "$length" ]; then
    [ "$have" != "$length" ] || return 0
    check_space $((2 * length - have)) "the rest of the archive and its content"
  fi
  if [ -z "$quiet" ] && [ -t 2 ]; then meter=(); fi
  [ "$have" = 0 ] || resume=(--continue-at "$have" --header "If-Range: $validator")
  request ${meter[@]+"${meter[@]}"} ${resume[@]+"${resume[@]}"} --output "$part"
  case "$curl_code" in
    0) [ -z "$length" ] || [ "$(size_of "$part")" = "$length" ] || problem="the connection ended early" ;;
    23) die 1 "the disk of $staging is full; what has come is kept, free some space and go on" ;;
    33) # the server answered with the whole of a file, or with another part than was asked for
      rm -f "$part" "$state"
      problem="the server does not go on with what has come, starting over"
      ;;
    *)
      case "$status" in
        416) rm -f "$part" "$state" ;;
        401) die 5 "$url: the server wants a login (HTTP 401)" ;;
        403) die 5 "$url: the server refuses it (HTTP 403)" ;;
        404) die 5 "$url: there is no such file (HTTP 404)" ;;
        408 | 425 | 429 | 5?? | 000 | 200 | 206) ;;
        *) die 5 "$url: the server answered HTTP $status" ;;
      esac
      set_problem
      ;;
  esac
}

set_problem() {
  case "$status" in
    000) problem="no answer from the server (curl: error $curl_code)" ;;
    200 | 206) problem="the connection broke (curl: error $curl_code)" ;;
    *) problem="the server answered $status" ;;
  esac
  wait_s="$(header retry-after)"
  case "$wait_s" in *[!0-9]*) wait_s="" ;; esac
}

fetch() {
  local failures=0 furthest size backoff=1
  furthest="$(size_of "$part")"
  while :; do
    fetch_once
    [ -n "$problem" ] || return 0
    size="$(size_of "$part")"
    if [ "$size" -gt "$furthest" ]; then furthest="$size" failures=0 backoff=1; fi
    failures=$((failures + 1))
    [ "$failures" -le "$retries" ] || die 5 "$problem; gave up after $retries retries, run it again to go on"
    [ -n "$wait_s" ] || wait_s="$backoff"
    [ "$wait_s" -le "$LONGEST_WAIT_S" ] || wait_s="$LONGEST_WAIT_S"
    backoff=$((2 * backoff))
    note "$problem; retry $failures of $retries in $wait_s s"
    sleep "$wait_s"
  done
}

# Whether one of the published sums (with commas between them) is that of the archive.
check_sum() { # algorithm, published sums, found sum
  local sums one which=0
  IFS=, read -r -a sums <<< "$2"
  for one in "${sums[@]}"; do
    which=$((which + 1))
    if [ "$one" = "$3" ]; then
      [ "${#sums[@]}" = 1 ] && found="$found $1 $3" || found="$found $1 $3 (publication $which of ${#sums[@]})"
      return 0
    fi
  done
  rm -f "$part" "$state"
  die 6 "$1 of $url: expected ${2//,/ or }, found $3; it was removed, run again to fetch it anew"
}

verify_archive() {
  found=""
  check_sum md5 "$md5s" "$(md5_of "$part")"
  [ "$sha256s" = - ] || check_sum sha256 "$sha256s" "$(sha256 < "$part" | cut -d ' ' -f 1)"
  note "${found# }"
}

# Nothing but files and folders, below the folder they are unpacked to, and no name twice.
judge_members() {
  local names bad
  names="$(tar -tf "$part" 2> /dev/null)" || die 3 "$part is no whole tar archive"
  bad="$(tar -tvf "$part" | grep -v '^[-d]' | head -n 1)" || true
  [ -z "$bad" ] || die 3 "the archive has a member that is no regular file or folder: $bad"
  bad="$(grep -E '^/|(^|/)\.\.(/|$)|\\|[[:cntrl:]]' <<< "$names" | head -n 1)" || true
  [ -z "$bad" ] || die 3 "the archive has a member that is not safe to unpack: $bad"
  bad="$(grep -v '/$' <<< "$names" | sed 's|^\(\./\)*||' | sort | uniq -d | head -n 1)" || true
  [ -z "$bad" ] || die 3 "the archive has two members $bad"
}

unpack() {
  local raw="$staging/raw" top log
  rm -rf "$raw" "$staging/unpacked"
  judge_members
  mkdir "$raw"
  if ! log="$(tar -xf "$part" -C "$raw" --no-same-owner --no-same-permissions 2>&1)"; then
    case "$log" in *"No space left"* | *"quota"*) die 1 "the disk of $staging is full; free some space and go on" ;; esac
    die 3 "the archive cannot be unpacked: $(head -n 1 <<< "$log")"
  fi
  top="$raw"
  if [ ! -f "$raw/params.json" ] && [ "$(find "$raw" -mindepth 1 -maxdepth 1 | wc -l)" -eq 1 ]; then
    top="$(find "$raw" -mindepth 1 -maxdepth 1 -type d)"
  fi
  if [ ! -f "$top/params.json" ] || ! compgen -G "$top/consolidated*" > /dev/null ||
    ! { compgen -G "$top/tokenizer.model*" || compgen -G "$top/*tekken.json"; } > /dev/null; then
    die 3 "the archive is not one checkpoint: expected params.json, consolidated weights and a tokenizer"
  fi
  find "$top" -type d -exec chmod 755 {} +
  find "$top" -type f -exec chmod 644 {} +
  (
    cd "$top"
    find . -type f | sed 's|^\./||' | sort | while IFS= read -r file; do
      printf '%s  %s\n' "$(sha256 < "$file" | cut -d ' ' -f 1)" "$file"
    done
  ) > "$staging/sums"
  { printf '# %s%s\n' "$url" "$found" && cat "$staging/sums"; } > "$top/$MANIFEST"
  mv "$top" "$staging/unpacked"
}

# Hold the lock until this process ends; flock shares it with mistral-download.
lock() {
  mkdir -p "$staging"
  if command -v flock > /dev/null; then
    exec 9> "$staging/lock"
    flock -n 9 || die 1 "another process is downloading to $target"
    if [ "$staging/lock" -ef "/dev/fd/9" ]; then
      has_lock=1
    else # the process before has just finished, and removed the lock
      exec 9>&-
      lock
    fi
  else
    mkdir "$staging/lock.folder" 2> /dev/null ||
      die 1 "another process is downloading to $target; if none is, remove $staging/lock.folder"
    has_lock_folder=1
  fi
}

is_installed() {
  [ ! -f "$target/$MANIFEST" ] || return 0
  if [ -e "$target" ] && { [ ! -d "$target" ] || [ -n "$(ls -A "$target")" ]; }; then
    die 2 "$target exists and was not downloaded by this command; give another folder"
  fi
  return 1
}

verify_folder() {
  [ -f "$target/$MANIFEST" ] || die 3 "$target has no $MANIFEST to check it by"
  (cd "$target" && grep -v '^#' "$MANIFEST" | sha256 -c - > /dev/null 2>&1) ||
    die 6 "$target: files changed or are missing; delete the folder and download it again"
  note "$target: every file is as it came"
}

dry_run() {
  local size="unknown" room="unknown needed"
  length=""
  if [ -z "$offline" ]; then
    ask
    [ "$curl_code" = 0 ] || die 5 "$url: no answer from the server (curl: error $curl_code, HTTP $status)"
  fi
  [ -z "$length" ] || size="$(human "$length")" room="$(human $((2 * length))) needed"
  printf '%-10s%s\n' source "$url" folder "$target" size "$size" here "$(human "$(size_of "$part")")" room "$room" \
    licence "$licence" checksum "md5 ${md5s//,/ or }" runs "$runs"
  [ -z "$length" ] || check_space $((2 * length - $(size_of "$part"))) "the download, until it is unpacked,"
}

finish() { # how it is there
  note "$target $1"
  if [ "$runs" != yes ]; then
    note "mistral_local cannot run $name yet: ${runs#not yet: }"
  elif [ -z "$quiet" ]; then
    if [ "$kind" = instruct ]; then printf 'mistral-chat %q --instruct\n' "$target"; else printf 'mistral-demo %q\n' "$target"; fi
  fi
}

clean_up() {
  rm -f "$headers"
  if [ -n "$has_lock$has_lock_folder" ] && [ -d "$staging" ] && [ "$(size_of "$part")" = 0 ]; then rm -f "$part" "$state"; fi
  if [ -n "$has_lock_folder" ] && [ -d "$staging" ]; then
    rmdir "$staging/lock.folder"
    rmdir "$staging" 2> /dev/null || true # it may hold a part
  fi
  if [ -n "$has_lock" ] && [ "$(ls -A "$staging" 2> /dev/null)" = lock ]; then rm -rf "$staging"; fi
}

main() {
  local wanted="" folder="" mode=get
  quiet="" accept="" offline="" retries=6 has_lock="" has_lock_folder=""
  while [ $# -gt 0 ]; do
    case "$1" in
      --list) mode=list ;;
      --verify_only | --verify-only) mode=verify ;;
      --dry_run | --dry-run) mode=dry ;;
      --offline) offline=1 ;;
      --accept_license | --accept-license) accept=1 ;;
      --quiet) quiet=1 ;;
      --retries)
        shift
        retries="${1:-}"
        case "$retries" in "" | *[!0-9]*) die 2 "--retries needs a whole number" ;; esac
        ;;
      -h | --help)
        usage
        return
        ;;
      -*) die 2 "unknown flag $1 (--help lists the flags)" ;;
      *) if [ -z "$wanted" ]; then wanted="$1"; elif [ -z "$folder" ]; then folder="$1"; else die 2 "unexpected argument $1"; fi ;;
    esac
    shift
  done
  [ -f "$TABLE" ] || die 2 "no table $TABLE: run this script from a clone of mistral_local"
  if [ "$mode" = list ]; then
    list
    return
  fi
  [ -n "$wanted" ] || die 2 "expected a name; --list shows them, --help the flags"
  find_row "$wanted"
  if [ -z "$folder" ]; then
    [ -n "${MISTRAL_MODEL:-}" ] || die 2 "expected a folder after the name, or \$MISTRAL_MODEL set to the folder of models"
    folder="$MISTRAL_MODEL/$name"
  fi
  case "$folder" in /*) target="${folder%/}" ;; *) target="$PWD/${folder%/}" ;; esac
  staging="$(dirname "$target")/.$(basename "$target").download"
  part="$staging/archive.part" state="$staging/archive.state" url="${BASE%/}/$path"
  headers="$(mktemp)"
  trap clean_up EXIT
  trap 'note "stopped; the same command goes on from here"; exit 130' INT
  trap 'exit 143' TERM
  case "$mode" in
    verify) verify_folder ;;
    dry) dry_run ;;
    get) get ;;
  esac
}

get() {
  if is_installed; then
    rm -rf "$staging" # there if a process was ended between the rename and this
    finish "was here already; --verify_only checks its files"
    return
  fi
  check_licence
  lock
  if is_installed; then # the process that held the lock has just finished
    rm -rf "$staging"
    finish "is ready"
    return
  fi
  if [ -n "$offline" ]; then
    if ! grep -qxF "url=$url" "$state" 2> /dev/null || ! grep -qxF "length=$(size_of "$part")" "$state"; then
      die 5 "$target is not here, and nothing is fetched offline"
    fi
  else
    fetch
  fi
  verify_archive
  unpack
  sync
  [ ! -d "$target" ] || rmdir "$target"
  mv "$staging/unpacked" "$target"
  rm -rf "$staging"
  finish "is ready"
}

main "$@"
