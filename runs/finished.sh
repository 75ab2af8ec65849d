# Sourced by the scripts that train: finished FOLDER STEPS tells whether a run has come so far, and says so.

finished() {
    local newest
    newest="$(find "$1" -maxdepth 1 -name 'step_*' 2>/dev/null | sort | tail -n 1 | sed 's/.*step_0*//' || true)"
    if [[ "${newest:-0}" -lt "$2" ]]; then
        return 1
    fi
    echo "$(basename "$0"): $(basename "$1") is at step $newest already" >&2
}
