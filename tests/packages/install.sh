# install.sh: what `meson install` puts where, and that it works there.

staged() { # the installation, moved away from where it was made; made once
    [ -d "$work/else where" ] && return 0
    DESTDIR=$work/stage meson install -C "$root/$build" --no-rebuild >"$work/install" || { cat "$work/install"; return 1; }
    mv "$work/stage" "$work/else where"
}
installed() { # NAME: the one file of that name
    staged && find "$work/else where" -name "$1" | grep . || die "nothing named $1 is installed"
}

check_install_program() {
    local program
    program=$(installed towline)
    [ "$(env -i "$program" --version)" = "towline $version" ] || die "it prints: $("$program" --version 2>&1)"
    # A path of the machine that built it would be looked into for libraries.
    if readelf -d "$program" "$(installed libtowline.so.0)" | grep -E 'R(UN)?PATH'; then die "a run path is left"; fi
}

check_install_library() {
    local pc libraries
    pc=$(dirname "$(installed towline.pc)") libraries=$(dirname "$(installed libtowline.so.0)")
    ln -sfn "$work/else where" "$work/sysroot" # pkg-config's output is split at spaces
    pc=$work/sysroot${pc#"$work/else where"} libraries=$work/sysroot${libraries#"$work/else where"}
    cat >"$work/hello.c" <<'C'
#include <stdio.h>
#include <towline.h>
int main(void) { return puts(tow_version()) < 0; }
C
    export PKG_CONFIG_PATH=$pc PKG_CONFIG_SYSROOT_DIR=$work/sysroot
    must cc -Wall -Werror -o "$work/hello" "$work/hello.c" $(pkg-config --cflags --libs towline)
    readelf -d "$work/hello" | grep -q 'NEEDED.*\[libtowline.so.0\]' || die "the soname is another"
    [ "$(LD_LIBRARY_PATH=$libraries "$work/hello")" = "$version" ] || die "the library has another version"
    [ "$(pkg-config --modversion towline)" = "$version" ] || die "towline.pc has another version"
}

check_version() {
    local program=$root/$build/engine/cmd/towline deb
    [ -n "$version" ] || die "meson.build has no version"
    [ "$("$program" --version)" = "towline $version" ] || die "the program says $("$program" --version)"
    grep -aq "Towline $version</footer>" "$program" || die "the page has another version"
    grep -qx "## $version" CHANGELOG.md || die "CHANGELOG.md has no section $version"
    grep -qx "#define TOW_VERSION_STRING \"$version\" .*" engine/towline.h || die "towline.h has another version"
    grep -qx "version = \"${version/-rc./rc}\"" engine/python/pyproject.toml || die "the Python package has another version"
    [ "$(sed -n 's/^## //p' CHANGELOG.md | head -n 1)" = "$version" ] || die "CHANGELOG.md begins with another version"
    deb=$(sed -n '1s/^towline (\(.*\)) .*/\1/p' "$packaging/deb/debian/changelog")
    [ "${deb%-*}" = "${version/-/\~}" ] || die "the Debian changelog says $deb"
    grep -q "newTag: \"*$version\"*$" "$packaging/kubernetes/kustomization.yaml" ||
        die "kustomization.yaml has another version"
}

check_manual() {
    local page text status
    page=$(installed towline.1)
    # As plain text in one line, without roff's marks.
    text=$(sed -e 's/\\-/-/g; s/\\e/\\/g; s/^\.[A-Z]* *//' "$page" | tr -s '\n ' '  ')
    while read -r status; do
        [[ $text == *"$status"* ]] || die "the manual page lacks the exit status '$status'"
    done < <(sed -n '/^<!-- statuses -->/,/^<!-- \/statuses -->/p' engine/docs/options.md | tr -d '`' |
        sed -nE 's/^\| ([0-9]+) \| ([^|]*[^| ]) \|.*/\1 \2/p')
    while read -r option; do
        [[ $text == *" $option"[\ .]* ]] || die "the manual page lacks $option"
    done < <("$root/$build/engine/cmd/towline" help --markdown | grep -oE '^\| `--[a-z-]+' | tr -d '|` ')
    [[ $text == *" EXIT STATUS "*" FILES "*" EXAMPLES "* ]] || die "the manual page lacks a section"
    if command -v man >/dev/null; then
        status=$(LC_ALL=C.UTF-8 MANROFFSEQ= man --warnings -E UTF-8 -l -Tutf8 -Z "$page" 2>&1 >/dev/null)
        [ -z "$status" ] || die "$status"
    fi
}

check_completion_bash() {
    . "$(installed towline.bash)"
    COMP_WORDS=(towline exten) COMP_CWORD=1
    _towline
    [ "${COMPREPLY[*]}" = extend ] || die "exten<TAB> gives ${COMPREPLY[*]}"
    COMP_WORDS=(towline run --cutover m) COMP_CWORD=3
    _towline
    [ "${COMPREPLY[*]}" = manual ] || die "run --cutover m<TAB> gives ${COMPREPLY[*]}"
}

check_completion_zsh() {
    local folder
    folder=$(dirname "$(installed _towline)")
    timeout 60 zsh -f "$root/tests/packages/completion.zsh" "$folder"
}
