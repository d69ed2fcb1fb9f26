# container.sh: what the Dockerfile does, without Docker: the RUN commands of its stages in clean roots.

stage() { # NUMBER: the RUN commands of a stage, a line each
    awk -v wanted="$1" '/^FROM/ { stage++ } stage == wanted' "$packaging/container/Dockerfile" |
        sed -e ':a' -e '/\\$/N; s/\\\n//; ta' | sed -n 's/^RUN //p'
}

check_container() {
    local command file=$packaging/container/Dockerfile
    for command in 'FROM ${BASE}' 'USER 10001:10001' 'ENTRYPOINT ["/usr/bin/towline"]'; do
        grep -qF "$command" "$file" || die "the Dockerfile lacks $command"
    done
    in_root build true && in_root image true
    mkdir -p "$work/build/src"
    tar -C "$root" --exclude='./build*' --exclude=./.git -c . | tar -C "$work/build/src" -x
    for place in build image; do install "$packaging/container/mirror" "$work/$place/usr/local/bin/"; done
    while read -r command; do in_root build sh -ec "MIRROR=; $command" </dev/null; done < <(stage 1)
    while read -r command; do in_root image sh -ec "MIRROR=; $command" </dev/null; done < <(stage 2)
    cp "$work/build/stage/usr/bin/towline" "$work/image/usr/bin/"
    # As user 10001 on a root that cannot be written, without capabilities.
    install -d -o 10001 -g 10001 -m 700 "$work/state"
    printf 'mongodb://127.0.0.1:9/?serverSelectionTimeoutMS=500\n' >"$work/image/uri"
    chown 0:10001 "$work/image/uri" && chmod 0440 "$work/image/uri" # as Kubernetes and systemd give secrets
    unshare --mount --pid --fork sh -ec '
        mount --bind "$1/image" "$1/image" && mount --bind "$1/state" "$1/image/var/lib/towline"
        mount -o remount,bind,ro "$1/image" && mount -t proc proc "$1/image/proc"
        exec chroot "$1/image" setpriv --reuid=10001 --regid=10001 --clear-groups --no-new-privs \
            --bounding-set=-all --inh-caps=-all \
            env -i XDG_STATE_HOME=/var/lib/towline sh -c "touch /tmp/x 2>/dev/null && exit 99
                towline --version
                towline run --source-file /uri --destination-file /uri --retry-window 1 --log-path /var/lib/towline
                echo status \$?"' sh "$work" >"$work/container.out" 2>&1 || die "$(cat "$work/container.out")"
    grep -qx "towline $version" "$work/container.out" || die "$(cat "$work/container.out")"
    # 3: unreachable. The secret was read, and the token made.
    grep -qx "status 3" "$work/container.out" || die "$(cat "$work/container.out")"
}
