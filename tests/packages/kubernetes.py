#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""kubernetes.py JOB.yaml UNIT: the pod has no privileges and writes only into its volumes; the exit statuses that end
the job are those that end the systemd unit."""
import re
import sys

import yaml

job = yaml.safe_load(open(sys.argv[1], encoding="utf-8"))
unit = open(sys.argv[2], encoding="utf-8").read()
pod = job["spec"]["template"]["spec"]
(container,) = pod["containers"]
own = container["securityContext"]
assert pod["securityContext"]["runAsNonRoot"] is True and pod["securityContext"]["runAsUser"] > 0
assert pod["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"
assert pod["automountServiceAccountToken"] is False
assert own["readOnlyRootFilesystem"] is True and own["allowPrivilegeEscalation"] is False
assert own["capabilities"]["drop"] == ["ALL"]
mounts = {mount["name"] for mount in container["volumeMounts"]}
assert mounts == {volume["name"] for volume in pod["volumes"]}, "a volume is not mounted, or not declared"
for volume in pod["volumes"]:
    if "secret" in volume:
        assert volume["secret"]["defaultMode"] & 0o337 == 0, "%s is open to others" % volume["name"]
for name in ("startupProbe", "livenessProbe", "readinessProbe"):
    assert container[name]["httpGet"]["port"] in {port["name"] for port in container["ports"]}, name
(ends,) = [rule["onExitCodes"]["values"] for rule in job["spec"]["podFailurePolicy"]["rules"]
           if rule["action"] == "FailJob"]
stops = [int(word) for word in re.search(r"^RestartPreventExitStatus=(.*)$", unit, re.M).group(1).split()]
assert ends == stops, "the Job ends with %s, the unit with %s" % (ends, stops)
