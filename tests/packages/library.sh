# library.sh: what programs that embed the library rely on: its binary interface, its pages, its header.

# The interface of a library that was built with debug information, as abidiff compares it.
abi_of() { # LIBRARY OUT
    mkdir -p "$work/header"
    cp "$root/engine/towline.h" "$work/header"
    abidw --headers-dir "$work/header" --drop-private-types --exported-interfaces-only --no-show-locs --no-corpus-path \
        --no-comp-dir-path --no-parameter-names --no-elf-needed --out-file "$2" "$1"
}

# Any change fails, so that each is looked at once: `tests/packages/run --write-abi` keeps one that is right.
check_abi() {
    local member="<data-member[^>]*> *<var-decl name='FIELD'[^>]*> *<\/data-member>" field
    abi_of "$root/$build/engine/cmd/libtowline.so" "$work/new.abi"
    abidiff "$packaging/libtowline.abi" "$work/new.abi" ||
        die "the binary interface has changed: see engine/packaging/README.md, \"The library's interface\""
    # The check sees what it is for: functions and fields.
    sed 's/tow_job_remains/tow_job_remained/g' "$work/new.abi" >"$work/other.abi"
    if abidiff "$work/new.abi" "$work/other.abi" >/dev/null; then die "a function may go unseen"; fi
    for field in lag_ms server_code environment report; do
        tr -d '\n' <"$work/new.abi" | sed "s/${member/FIELD/$field}//" >"$work/other.abi"
        if abidiff "$work/new.abi" "$work/other.abi" >/dev/null; then die "the field $field may go unseen"; fi
    done
}

check_doxygen() {
    export TOWLINE_VERSION=$version TOWLINE_DOXYGEN=$work/doxygen
    mkdir -p "$work/doxygen"
    cd "$root"
    must doxygen engine/Doxyfile
    grep -q 'tow_job_cutover' "$work/doxygen/html/towline_8h.html" || die "the page of towline.h has no functions"
}

# Each function has its page, and towline.yaml(5) each option and each key of mongosync's.
check_library_manual() {
    local page name said
    page=$(installed libtowline.3)
    while read -r name; do
        grep -qF "$name" "$page" || die "libtowline(3) lacks $name"
        [ "$name" = tow_event_fn ] || [ "$(cat "$(dirname "$page")/$name.3")" = ".so man3/libtowline.3" ] ||
            die "there is no page $name(3)"
    done < <(grep -oE '\btow_[a-z_]+\(' <(grep -A1 -E '^(TOW_API|static inline)' "$root/engine/towline.h" | grep -v '/\*') |
        tr -d '(' | sort -u)
    while read -r name; do
        grep -qE "^\.BI? \"?${name//-/\\\\-}:?\"?( |$)" "$(installed towline.yaml.5)" || die "towline.yaml(5) lacks $name"
    done < <("$root/$build/engine/cmd/towline" help --markdown | sed -nE 's/^\| `--([a-z-]+).*/\1/p' | grep -vx config
        echo disableVerification)
    command -v man >/dev/null || return 0
    for name in libtowline.3 towline.yaml.5; do
        said=$(LC_ALL=C.UTF-8 MANROFFSEQ= man --warnings -E UTF-8 -l -Tutf8 -Z "$(installed $name)" 2>&1 >/dev/null)
        [ -z "$said" ] || die "$name: $said"
    done
}

# As C99 and as C++17, with the warnings that others build with.
check_header() {
    printf '#include <towline.h>\nint main(void) { tow_progress_t p; (void)p; return !TOW_VERSION_AT_LEAST(1, 0, 0); }\n' \
        >"$work/header.c"
    cp "$work/header.c" "$work/header.cc"
    must cc -std=c99 -pedantic -Wall -Wextra -Werror -I"$root/engine" -fsyntax-only "$work/header.c"
    must c++ -std=c++17 -pedantic -Wall -Wextra -Werror -I"$root/engine" -fsyntax-only "$work/header.cc"
    must python3 "$root/engine/python/declarations"
}
