# monitoring.sh: alert rules, dashboard and units.

check_metric_names() { must python3 "$root/tests/packages/metrics.py" names; }

check_rules() {
    local dashboard=$work/dashboard.rules.yml
    cd "$packaging/prometheus"
    must promtool check rules towline.rules.yml
    must promtool test rules towline.rules.test.yml
    { echo "scrape_configs:"; sed 's/^/  /' scrape.yml; } >"$work/prometheus.yml"
    must promtool check config --syntax-only "$work/prometheus.yml"
    python3 "$root/tests/packages/metrics.py" rules >"$dashboard"
    must promtool check rules "$dashboard"
}

check_units() {
    local unit name exposure
    mkdir -p "$work/units"
    for unit in "$packaging"/systemd/*.service; do
        name=$(basename "${unit/@./@job.}")
        cp "$unit" "$work/units/$name"
        # In tenths; systemd-analyze's threshold is in tenths too.
        systemd-analyze security --offline=true --no-pager --threshold=24 "$work/units/$name" >"$work/units/out" 2>&1 ||
            die "$(grep -F '✗' "$work/units/out") $(tail -n 2 "$work/units/out")"
        exposure=$(sed -n 's/.*Overall exposure level for .*: \([0-9.]*\) .*/\1/p' "$work/units/out")
        [ -n "$exposure" ] || die "no figure for $name: $(tail -n 2 "$work/units/out")"
        echo "$name: $exposure"
        # Settings that systemd does not know, it ignores; the program need not be on this machine.
        sed -i 's|^ExecStart=/usr/bin/towline |ExecStart=/bin/true |' "$work/units/$name"
        systemd-analyze verify --man=no --recursive-errors=no "$work/units/$name" || die "systemd does not take $name"
    done
    # Each variable that a unit or its example sets is an option's.
    while read -r name; do
        grep -q "\`$name\`" engine/docs/options.md || die "no option has the variable $name"
    done < <(grep -ohE 'TOWLINE_[A-Z_]+' "$packaging"/systemd/* "$packaging"/kubernetes/* "$packaging"/container/* | sort -u)
    # The statuses after which the service does not start again are the program's.
    for name in $(sed -n 's/^RestartPreventExitStatus=//p' "$packaging/systemd/towline@.service"); do
        grep -q "^| $name |" engine/docs/options.md || die "there is no exit status $name"
    done
}
