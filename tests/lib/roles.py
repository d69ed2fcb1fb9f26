# SPDX-License-Identifier: Apache-2.0
"""roles.py: what the users of the README may send to a server with authorization.

The table is that of eight users of a real 4.4.6, recordings/authorization.md. `row_of` names the line that
decides about a request, `allowed` looks it up.
"""
import pathlib

ROLES = {"reader": ("readAnyDatabase", "clusterMonitor"),
         "writer": ("readWriteAnyDatabase", "dbAdminAnyDatabase"),
         "writer of a mongos": ("readWriteAnyDatabase", "dbAdminAnyDatabase", "enableSharding"),
         "reader+backup": ("readAnyDatabase", "clusterMonitor", "backup")}


def read_table():
    """{row: {user: cell}}; "–" is Unauthorized."""
    path = pathlib.Path(__file__).resolve().parent / "recordings" / "authorization.md"
    rows, users = {}, None
    for line in path.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("|") or set(cells[0]) == {"-"}:
            continue
        if users is None:
            users = cells[1:]
        else:
            rows[cells[0]] = dict(zip(users, cells[1:]))
    return rows


TABLE = read_table()
SHARDING = "enableSharding, shardCollection"
OF_EVERYBODY = {"hello", "isMaster", "ismaster", "buildInfo", "buildinfo", "connectionStatus", "ping",
                "endSessions", "startSession", "refreshSessions", "getMore", "saslStart", "saslContinue",
                "logout", "getnonce", "whatsmyuri", "commitTransaction", "abortTransaction"}
ADMIN_SYSTEM = ("system.version", "system.users", "system.roles")


def place_of(request, verb):
    """The row of a command on a collection."""
    database, name = request.database, request.collection
    exact = "%s %s.%s" % (verb, database, name)
    for row in (exact, "%s %s" % (verb, name) if name.startswith("system.") else None,
                "%s %s.x" % (verb, database) if database in ("admin", "config", "local") else None):
        if row in TABLE:
            return row
    return verb


def row_of(request):
    """The line of the table that decides; "" where everybody may, None where there is none."""
    name, body = request.name, request.body
    if name in OF_EVERYBODY:
        return ""
    if name in ("insert", "update", "delete", "findAndModify"):
        if body.get("bypassDocumentValidation"):
            return "insert with bypassDocumentValidation"
        place = place_of(request, "insert")
        return ("update" if name == "findAndModify" else name) if place == "insert" else place
    if name == "aggregate":
        return row_of_aggregate(request)
    special = {
        "getParameter": "getParameter featureCompatibilityVersion",
        "killCursors": "killCursors of an unknown cursor",
        "killSessions": "killSessions of one's own",
        "renameCollection": ("renameCollection in the database" if
                             str(body.get("renameCollection")).split(".")[0] ==
                             str(body.get("to")).split(".")[0] else "renameCollection across databases"),
        "create": "create view" if "viewOn" in body else "create",
        "collMod": "collMod validator",
        "drop": "drop system.views" if request.collection == "system.views" else "drop",
        # 4.4 db/auth/role_graph_builtin_roles.cpp: in clusterMonitor, listShards in clusterManager as well
        "listShards": "replSetGetStatus", "shardingState": "serverStatus",
        "dropDatabase": "dropDatabase", "distinct": "find", "dropUser": "createUser",
        "usersInfo": "usersInfo of the user reader"}
    if name == "collStats" and request.database == "local":
        return "collStats local.oplog.rs"
    if name == "listCollections" and request.database in ("admin", "config", "local"):
        return "listCollections " + request.database
    if name in ("find", "createIndexes"):
        return place_of(request, name)
    if name in ("enableSharding", "shardCollection"):
        return SHARDING
    row = special.get(name, name)
    return row if row in TABLE else None


def row_of_aggregate(request):
    stage, last = request.first_stage, next(iter((request.body.get("pipeline") or [{}])[-1]), "")
    if stage == "$changeStream":
        cluster = request.body["pipeline"][0]["$changeStream"].get("allChangesForCluster")
        return "$changeStream of " + ("the cluster" if cluster else "a collection"
                                      if isinstance(request.body["aggregate"], str) else "a database")
    if last in ("$out", "$merge"):
        return last
    if stage == "$collStats" and request.database == "local":
        return "$collStats local.oplog.rs"
    if stage == "$currentOp":
        return "$currentOp allUsers"
    if stage in ("$collStats", "$indexStats", "$sample"):
        return stage
    return place_of(request, "find")


def allowed(row, roles):
    """The role enableSharding was not recorded: what it adds is in the manual."""
    if row == SHARDING:
        return roles.endswith(" of a mongos")
    return row == "" or TABLE[row][roles.removesuffix(" of a mongos")] != "–"
