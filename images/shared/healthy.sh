# The story of `healthy [--wait SECONDS] [SERVICE]`, for images without Python. Read by a script that defines `check`: it sets
# `state` (healthy, waiting or down) and `detail`, as fedparty.deploy.health does.

line() {
    local text=${detail//\\/\\\\}
    text=${text//\"/\\\"}
    printf '{"service": "%s", "state": "%s", "detail": "%s", "pid": 0, "started": 0}\n' "$service" "$state" "${text//[[:cntrl:]]/ }"
}

healthy() {
    local wait_s=0 known=
    if [ "${1:-}" = --wait ]; then
        wait_s=${2:?seconds are missing}
        shift 2
    fi
    service=${1:-${FEDPARTY_SERVICE:?which service is meant}}
    local deadline=$((SECONDS + ${wait_s%.*}))
    while true; do
        check
        if [ "$state $detail" != "$known" ]; then
            known="$state $detail"
            line
        fi
        [ "$state" = healthy ] && return 0
        [ "$SECONDS" -ge "$deadline" ] && return 1
        sleep 0.1
    done
}
