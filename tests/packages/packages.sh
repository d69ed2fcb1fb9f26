# packages.sh: the tarball and the Debian packages, built and then run where nothing of this tree is.

check_tarball() {
    local program missing loaded library
    "$packaging/tarball" --build "$root/$build" "$work" >"$work/tarball" 2>&1 || die "$(tail -n 5 "$work/tarball")"
    mkdir -p "$work/moved here"
    tar -C "$work/moved here" -xzf "$work/towline-$version-linux-$(uname -m).tar.gz"
    program=$(echo "$work/moved here"/towline-*/bin/towline)
    [ "$(env -i "$program" --version)" = "towline $version" ] || die "the program does not start"
    # All but the C library and its loader comes from the tarball.
    loaded=$(env -i ldd "$program")
    missing=$(sed -nE 's/.* => (\/[^(]*) .*/\1/p' <<<"$loaded" | grep -v '/moved here/' |
        grep -vE '/(libc|libm|libdl|libpthread|librt|libresolv)\.so\.[0-9]+$' || true)
    [ -z "$missing" ] || die "from this machine: $missing"
    for library in "$work/moved here"/towline-*/lib/towline/*.so*; do
        grep -qF "/${library##*/} " <<<"$loaded" || die "nothing needs ${library##*/}"
    done
    [ "$(find "$work/moved here" -path '*/licenses/*' | wc -l)" -gt 20 ] || die "licences are missing"
    ln -s "$work/moved here" "$work/moved" # pkg-config writes a space as two characters
    export PKG_CONFIG_PATH
    PKG_CONFIG_PATH=$(echo "$work"/moved/towline-*/lib/pkgconfig)
    [ -f "$(pkg-config --variable=libdir towline)/libtowline.so" ] || die "towline.pc points elsewhere"
    [ -f "$(pkg-config --variable=includedir towline)/towline.h" ] || die "towline.pc points elsewhere"
}

# Built once for all checks, since it takes minutes; in the same place each time, for the compiler's cache.
debs=$cache/packages/deb
made_debs() {
    [ ! -f "$work/debs-made" ] || return 0
    rm -rf "$debs"
    "$packaging/deb/build" "$debs" >"$work/deb.log" 2>&1 || { tail -n 15 "$work/deb.log" | cut -c 1-200; return 1; }
    touch "$work/debs-made"
}

check_deb() {
    local name
    made_debs
    for name in towline libtowline0 libtowline-dev; do
        [ "$(dpkg-deb -f "$debs/${name}"_*.deb Version)" = "${version/-/\~}-1" ] || die "$name has another version"
    done
    # Debian's own archive wants a request for each new package; this is none of it.
    lintian --allow-root --fail-on error,warning --suppress-tags initial-upload-closes-no-bugs \
        "$debs"/*.changes || die "lintian complains"
}

# What a fresh machine has: Debian's smallest system, made once and kept.
base() {
    local place=$cache/packages/base
    [ -f "$place.complete" ] && { echo "$place"; return 0; }
    rm -rf "$place"
    debootstrap --variant=minbase bookworm "$place" >"$work/debootstrap" 2>&1 || { tail -n 5 "$work/debootstrap" >&2; return 1; }
    touch "$place.complete"
    echo "$place"
}
# Runs a command in a copy of it, which is thrown away.
in_root() { # NAME COMMAND…
    local name=$1 place; shift
    place=$(base)
    [ -d "$work/$name" ] || cp -a "$place" "$work/$name"
    cp /etc/resolv.conf "$work/$name/etc/"
    unshare --mount --pid --fork --mount-proc="$work/$name/proc" chroot "$work/$name" \
        env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive "$@"
}

check_deb_root() {
    made_debs
    in_root clean true
    cp "$debs"/*.deb "$work/clean/tmp/"
    in_root clean sh -c 'apt-get update -qq && apt-get install -y -qq --no-install-recommends /tmp/towline_*.deb'
    [ "$(in_root clean towline --version)" = "towline $version" ] || die "the program does not start"
    [ "$(in_root clean sh -c 'towline run; echo $?' 2>/dev/null)" = 2 ] || die "run without options does not end with 2"
    in_root clean sh -c 'test -d /etc/towline && test -f /lib/systemd/system/towline@.service' || die "units are missing"
    in_root clean apt-get remove -y -qq towline || die "it cannot be removed"
}
