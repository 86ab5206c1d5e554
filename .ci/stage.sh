# Sourced by what runs stages. Each is announced and timed. At the end of the
# outermost script come the times of all stages, those within stages too, and last of
# all what failed, so that a log of which only the end is kept tells why. Go tests
# write into $CI_FAILURES what failed (.ci/gotest.go); of any other stage that fails
# the last lines are taken.
if [ -z "${CI_FAILURES:-}" ]; then
  ci_dir=$(mktemp -d "${TMPDIR:-/var/tmp}/cinder-csi-ci.XXXXXX") ci_outermost=1
  export CI_FAILURES=$ci_dir/failures CI_SUMMARY=$ci_dir/summary
  : >"$CI_FAILURES"
  : >"$CI_SUMMARY"
fi

# stage NAME COMMAND... runs a command.
stage() {
  local name=$1 start=$SECONDS verdict='passed in   ' status=0 log before
  shift
  printf '\n== %s\n' "$name"
  log=$(mktemp "${TMPDIR:-/var/tmp}/cinder-csi-stage.XXXXXX") before=$(wc -c <"$CI_FAILURES")
  CI_DEPTH=$((${CI_DEPTH:-0} + 1)) "$@" 2>&1 | tee "$log" || status=1
  if [ "$status" != 0 ]; then
    verdict='failed after'
    [ "$(wc -c <"$CI_FAILURES")" != "$before" ] || { printf '\n== FAILED %s: its last lines\n' "$name"; tail -n 60 "$log"; } >>"$CI_FAILURES"
  fi
  rm -f "$log"
  printf '%*s%-*s %s %4d s\n' $((2 * ${CI_DEPTH:-0})) '' $((28 - 2 * ${CI_DEPTH:-0})) "$name" "$verdict" $((SECONDS - start)) >>"$CI_SUMMARY"
  return "$status"
}

# conclude STATUS [REMARK] tells how it went, when a script ends.
conclude() {
  [ -n "${ci_outermost:-}" ] || return 0
  printf '\n'
  cat "$CI_SUMMARY"
  if [ "$1" = 0 ]; then printf '\nPASSED in %d s%s\n' "$SECONDS" "${2:-}"; else
    cat "$CI_FAILURES"
    printf '\nFAILED after %d s%s\n' "$SECONDS" "${2:-}"
  fi
  rm -rf "$ci_dir"
}
