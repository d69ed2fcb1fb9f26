# SPDX-License-Identifier: Apache-2.0
"""strict_rules.py: where real servers of 4.2 to 8.x differ from the test server; strict.py applies it.

Each line says for which commands, when, what happens, and for which versions. R is shared/recordings (real
4.4.6), S the servers' sources.

    REFUSED     a whole command is refused
    STATEMENTS  one statement of an insert, update or delete is refused, the others are done
    SENT        the command is sent to the test server in other words
    ANSWERED    the answer is changed
"""
import math
import time

import bson
from bson import Regex, Timestamp
from bson.son import SON

from roles import ROLES
from wire import ORDERED, RAW, failure

WIRE_VERSIONS = {(4, 2): 8, (4, 4): 9, (5, 0): 13, (6, 0): 17, (7, 0): 21, (8, 0): 25}


class Rule:
    """One line of a table. `when(strict, request)`, for statements `when(strict, request, statement)`, is
    true where it holds; what it returns is also put into the error's text. since ≤ version < before;
    on: only there, "mongod" or "mongos"."""

    def __init__(self, commands, when, does, since=(0,), before=(99,), on=None):
        self.commands, self.when, self.does = commands.split(), when, does
        self.since, self.before, self.on = since, before, on

    def fits(self, strict, request, *statement):
        if request.name not in self.commands or not self.since <= strict.version < self.before:
            return None
        if self.on not in (None, "mongos" if strict.mongos else "mongod"):
            return None
        return self.when(strict, request, *statement)


def error(code, name, text):
    """Refuses; `text` may hold one %s for what `when` found."""
    def make(found):
        message = text % found if "%s" in text else text
        return failure(code, name or "Location%d" % code, message)
    return make


def no_code(text, **more):
    """Some errors have none."""
    return lambda found: SON([("ok", 0.0), ("errmsg", text), *more.items()])


def no_such(found):
    return failure(59, "CommandNotFound", "no such cmd: %s" % found)


def unknown(found):
    return failure(59, "CommandNotFound", "no such command: '%s'" % found)


# What the rules look at ---------------------------------------------------------------------------

def named(strict, request):
    return request.name


def has(*fields):
    """One of these fields is in the command."""
    return lambda strict, request: next((name for name in fields if name in request.body), None)


def ns_of(request):
    if request.name == "dataSize":
        return request.body["dataSize"]
    return "%s.%s" % (request.database, request.collection)


def is_view(strict, request, *_):
    ns = ns_of(request)
    return ns if strict.known.kind(ns) == "view" else None


def is_capped(strict, request, *_):
    ns = ns_of(request)
    return ns if strict.known.kind(ns) == "capped" else None


def on_view(*fields):
    return lambda strict, request: (next((name for name in fields if name in request.body), None)
                                    if is_view(strict, request) else None)


def view_stage(strict, request):
    return is_view(strict, request) if request.first_stage in ("$changeStream", "$collStats") else None


def is_missing(strict, request):
    ns = ns_of(request)
    return ns if strict.known.kind(ns) is None else None


def specifications(request):
    return [bson.decode(raw, ORDERED) for raw in request.list_of("indexes")]


def ttl_before_1970(strict, request):
    for specification in specifications(request):
        if beyond_1970(specification.get("expireAfterSeconds")):
            return dict(specification)
    return None


def beyond_1970(seconds):
    """NaN overflows and passes."""
    return (isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
            and not math.isnan(seconds) and seconds > time.time())


def collated_text(strict, request):
    """A text or 2d index that would inherit the collection's collation."""
    for specification in specifications(request):
        kinds = [kind for kind in specification.get("key", {}).values() if kind in ("text", "2d")]
        collation = specification.get("collation") or strict.known.collation(ns_of(request))
        if kinds and collation and collation.get("locale") != "simple":
            return "%s' does not support collation: %s" % (kinds[0], dict(collation))
    return None


INDEX_OPTIONS = {
    "key", "name", "ns", "v", "background", "unique", "hidden", "partialFilterExpression", "sparse",
    "expireAfterSeconds", "storageEngine", "weights", "default_language", "language_override",
    "textIndexVersion", "2dsphereIndexVersion", "bits", "min", "max", "bucketSize", "collation",
    "wildcardProjection", "coarsestIndexedLevel", "finestIndexedLevel", "dropDups", "clustered",
    "prepareUnique"}


def unknown_option(strict, request):
    if request.body.get("ignoreUnknownIndexOptions"):
        return None
    known = INDEX_OPTIONS - ({"prepareUnique"} if strict.version < (6,) else set())
    known -= {"hidden"} if strict.version < (4, 4) else set()
    return next((name for specification in specifications(request) for name in specification
                 if name not in known), None)


CREATE_FIELDS = {
    "create", "capped", "autoIndexId", "idIndex", "size", "max", "storageEngine", "validator",
    "validationLevel", "validationAction", "indexOptionDefaults", "viewOn", "pipeline", "collation",
    "writeConcern", "flags", "temp", "comment", "lsid", "txnNumber", "readConcern", "maxTimeMS",
    "$db", "$clusterTime", "$readPreference", "apiVersion"}
CREATE_SINCE = {  # field: (since, before)
    "recordPreImages": ((4, 4), (6,)), "timeseries": ((5,), (99,)),
    "expireAfterSeconds": ((5,), (99,)), "clusteredIndex": ((5, 3), (99,)),
    "changeStreamPreAndPostImages": ((6,), (99,)), "encryptedFields": ((6,), (99,))}


def unknown_create_field(strict, request):
    for name in request.body:
        since, before = CREATE_SINCE.get(name, ((0,), (99,)))
        if name not in CREATE_FIELDS and name not in CREATE_SINCE:
            return name
        if not since <= strict.version < before:
            return name
    return None


def exists_already(strict, request):
    kind = strict.known.kind(ns_of(request))
    return ns_of(request) if kind and kind != "view" and "viewOn" not in request.body else None


def create_over(kind_wanted):
    def when(strict, request):
        kind = strict.known.kind(ns_of(request))
        if kind_wanted == "view":
            return ns_of(request) if kind == "view" else None
        return ns_of(request) if kind and kind != "view" and "viewOn" in request.body else None
    return when


def system_collection(strict, request):
    """No way to drop it alone."""
    ns = ns_of(request)
    return ns if ns.endswith(".system.js") and strict.known.kind(ns) else None


def renames_functions(strict, request):
    return any(request.body[side].split(".", 1)[1] == "system.js" for side in ("renameCollection", "to")) or None


def renamed_view(strict, request):
    ns = request.body["renameCollection"]
    return ns if strict.known.kind(ns) == "view" else None


def rename_onto_view(strict, request):
    ns = request.body["to"]
    return ns if strict.known.kind(ns) == "view" else None


def expanded(strict, request):
    stage = (request.body.get("pipeline") or [{}])[0].get("$changeStream")
    return isinstance(stage, dict) and "showExpandedEvents" in stage


def internal_stream(strict, request):
    return (request.first_stage == "$changeStream" and request.database in ("config", "local") or
            request.first_stage == "$changeStream" and request.database == "admin" and
            not request.body["pipeline"][0]["$changeStream"].get("allChangesForCluster")) or None


def snapshot(strict, request):
    concern = request.body.get("readConcern")
    return isinstance(concern, dict) and concern.get("level") == "snapshot" and (
        "autocommit" not in request.body)


def missing_stats(wanted):
    def when(strict, request):
        stage = (request.body.get("pipeline") or [{}])[0].get("$collStats")
        return is_missing(strict, request) if isinstance(stage, dict) and wanted in stage else None
    return when


def internal_database(strict, request):
    return request.database if request.database in ("admin", "local") else None


def after_unknown_time(strict, request):
    """afterClusterTime later than any time that the server has heard of: it does not wait."""
    concern = request.body.get("readConcern")
    after = concern.get("afterClusterTime") if isinstance(concern, dict) else None
    if not isinstance(after, Timestamp):
        return None
    if after > strict.known.time:
        strict.known.heard(strict.known.ask("admin", SON(ping=1)))
    return (after, strict.known.time) if after > strict.known.time else None


def after_error(found):
    return failure(72, "InvalidOptions", "readConcern afterClusterTime value must not be greater than the "
                   "current clusterTime. Requested clusterTime: { ts: %s }; current clusterTime: { ts: %s }"
                   % found)


def building(strict, request):
    """An index of the collection (of either name) is being built."""
    names = ([request.body["renameCollection"], request.body["to"]]
             if request.name == "renameCollection" else [ns_of(request)])
    return next((ns for ns in names if strict.known.building.get(ns)), None)


def index_while_building(strict, request):
    ns = ns_of(request)
    names = request.body.get("index")
    built = strict.known.building.get(ns) or []
    names = set([names] if isinstance(names, str) else names if isinstance(names, list) else [])
    return ns if built and names and not set(built) <= names and "*" not in names else None


# Statements.

def dollar_below(document, path="", top=True):
    """The first field whose name begins with a dollar: not of a DBRef, and with top=False not at the top."""
    items = (document.items() if isinstance(document, dict) else
             ((str(place), item) for place, item in enumerate(document)))
    for name, value in items:
        here = path + "." + name if path else name
        if name.startswith("$") and (path or top) and name not in ("$ref", "$id", "$db"):
            return (name, here)
        if isinstance(value, (dict, list)):
            found = dollar_below(value, here, top)
            if found:
                return found
    return None


def is_operators(update):
    return isinstance(update, dict) and next(iter(update), "").startswith("$")


def top_dollar(strict, request, raw):
    """R "insert: top-level $field"; a nested one passes."""
    if b"$" not in raw:
        return None
    return next((name for name in bson.decode(raw, RAW) if name.startswith("$")), None)


def update_dollar(strict, request, raw):
    """R "replacement with a nested $field", "$set of a nested $field by value", "pipeline with …"."""
    statement = bson.decode(raw, ORDERED)
    update = statement["u"]
    if isinstance(update, list):
        literals = [part for stage in update for part in literals_of(stage)]
        found = next(filter(None, (dollar_below(part) for part in literals
                                   if isinstance(part, (dict, list)))), None)
        if not found:
            there = strict.known.find(ns_of(request), statement["q"])
            found = dollar_below(there) if there else None
        return found
    if b"$" not in bson.encode(update):
        return None
    if not is_operators(update):
        return dollar_below(update)
    for operator, fields in update.items():
        if operator in ("$set", "$setOnInsert") and isinstance(fields, dict):
            for path, value in fields.items():
                if isinstance(value, (dict, list)):
                    found = dollar_below(value, path)
                    if found:
                        return found
    return None


def literals_of(value):
    if isinstance(value, dict):
        for name, part in value.items():
            if name == "$literal":
                yield part
            else:
                yield from literals_of(part)
    elif isinstance(value, list):
        for part in value:
            yield from literals_of(part)


def other_size(strict, request, raw):
    """An update of a capped collection that changes a document's size."""
    ns = is_capped(strict, request)
    if not ns:
        return None
    statement = bson.decode(raw, ORDERED)
    before = strict.known.find_raw(ns, statement["q"])
    if before is None:
        return None
    update = bson.decode(raw, RAW)["u"]
    if isinstance(update, list) or is_operators(statement["u"]):
        after = strict.known.updated(before, statement["u"])
    else:
        after = len(update.raw)
        if "_id" not in statement["u"]:
            after += len(bson.encode(SON(_id=bson.decode(before, RAW)["_id"]))) - 5
    return (len(before), after) if after is not None and after != len(before) else None


def in_transaction(strict, request, raw):
    return is_capped(strict, request) if request.body.get("autocommit") is False else None


# What is sent in other words ----------------------------------------------------------------------

def pre_images_there(strict, request):
    """The test server has them under the name of 6.0."""
    images = SON(enabled=bool(request.body["recordPreImages"]))
    return request.changed(drop=("recordPreImages",), changeStreamPreAndPostImages=images)


def without(*fields):
    return lambda strict, request: request.changed(drop=fields)


def nan_is_zero(strict, request):
    index = SON(request.body["index"])
    index["expireAfterSeconds"] = 0
    return request.changed(index=index)


def has_nan(strict, request):
    index = request.body.get("index")
    return isinstance(index, dict) and is_nan(index.get("expireAfterSeconds"))


def is_nan(value):
    return isinstance(value, float) and math.isnan(value)


def stream_of_data(strict, request):
    """No change of a system collection, but the rename of one to a plain name; none of `admin`."""
    system = Regex("^system\\.")
    stage = SON([("$match", SON([("ns.db", SON([("$nin", ["admin", "config", "local"])])), ("$or", [
        SON([("ns.coll", SON([("$not", system)]))]),
        SON([("operationType", "rename"), ("to.coll", SON([("$not", system)]))])])]))])
    stages = bson.decode(request.raw, RAW)["pipeline"]
    return request.changed(pipeline=[stages[0], stage, *stages[1:]])


def opens_stream(strict, request):
    return request.first_stage == "$changeStream"


# What is answered in other words ------------------------------------------------------------------

def version_of(strict, request, reply):
    reply["version"] = strict.text
    reply["versionArray"] = [*strict.version[:3], 0]


def hello_of(strict, request, reply):
    reply["maxWireVersion"] = strict.wire_version
    if strict.version < (4, 4):
        reply.pop("topologyVersion", None)


def hello_of_mongos(strict, request, reply):
    for name in ("topologyVersion", "hosts", "setName", "setVersion", "secondary", "primary", "me",
                 "electionId", "lastWrite", "readOnly"):
        reply.pop(name, None)
    reply["msg"] = "isdbgrid"


def written_through_mongos(strict, request, reply):
    """R cluster.jsonl: a mongos sends no times of its shards, and says less of a duplicate."""
    for name in ("opTime", "electionId"):
        reply.pop(name, None)
    for entry in reply.get("writeErrors", ()):
        if entry["code"] == 11000:
            entry.pop("keyPattern", None)
            entry.pop("keyValue", None)
            entry["codeName"] = "DuplicateKey"


def raw_of_shards(strict, request, reply):
    inner = SON((name, reply.pop(name)) for name in list(reply) if name not in ("$clusterTime", "operationTime"))
    reply["raw"] = {"cls0/127.0.0.1:27021": inner}
    reply["ok"] = 1.0


def refused_by_shard(reply):
    """The same of an error, which stands at the top as well."""
    reply["raw"] = {"cls0/127.0.0.1:27021": SON(reply)}


def databases_of_cluster(strict, request, reply):
    reply["databases"] = [entry for entry in reply["databases"] if entry["name"] != "local"]


def asks_for_cluster(strict, request):
    return request.database == "config" and request.collection == "version"


def cluster_of(strict, request, reply):
    reply["cursor"]["firstBatch"] = [SON([("_id", 1), ("clusterId", strict.known.cluster)])]


def collections_as_listed(strict, request, reply):
    for entry in batch_of(reply):
        options = entry.get("options")
        if options is not None and entry["name"].startswith("tmp.agg_out."):
            options["temp"] = True
        images = options.pop("changeStreamPreAndPostImages", None) if (
            options is not None and strict.version < (6,)) else None
        if images and images.get("enabled"):
            options["recordPreImages"] = True
        if strict.version < (4, 4) and "idIndex" in entry:
            entry["idIndex"]["ns"] = "%s.%s" % (request.database, entry["name"])


def batch_of(reply):
    cursor = reply.get("cursor", {})
    return cursor.get("firstBatch", cursor.get("nextBatch", []))


def nothing_built(strict, request, reply):
    if reply["numIndexesBefore"] == reply["numIndexesAfter"]:
        reply.pop("commitQuorum", None)
        reply.pop("createdCollectionAutomatically", None)
        reply["note"] = "all indexes already exist"


def roles_of(strict, request, reply):
    roles = [SON([("role", role), ("db", "admin")]) for role in ROLES[strict.roles]]
    info = reply["authInfo"]
    info["authenticatedUsers"] = [SON([("user", strict.roles), ("db", "admin")])]
    info["authenticatedUserRoles"] = roles
    info.pop("authenticatedUserPrivileges", None)


def by_roles(strict, request):
    return strict.roles


def always(strict, request):
    return True


# The tables ---------------------------------------------------------------------------------------

STATS = "Unable to retrieve %s in $collStats stage: Collection [%%s] not found."
VIEW = error(166, "CommandNotSupportedOnView", "Namespace %s is a view, not a collection")
UNKNOWN_FIELD = "BSON field '%s' is an unknown field."
TTL = ("TTL index 'expireAfterSeconds' option must be within an acceptable range, try a lower number. "
       "Index spec: %s")

REFUSED = (
    # Commands and fields of later versions.                                              R, S
    Rule("bulkWrite", named, unknown, before=(8,)),
    Rule("setUserWriteBlockMode getUserWriteBlockMode", named, unknown, before=(6,)),
    Rule("find", has("let"), error(9, "FailedToParse", "Unrecognized field '%s'."), before=(5,)),
    Rule("insert update", has("bypassEmptyTsReplacement"),
         error(40415, "", "BSON field 'bypassEmptyTsReplacement' is an unknown field."), before=(8,)),
    Rule("aggregate", expanded,
         error(40415, "", UNKNOWN_FIELD % "$changeStream.showExpandedEvents"), before=(6,)),
    Rule("aggregate", internal_stream,
         error(73, "InvalidNamespace", "$changeStream may not be opened on the internal database")),
    Rule("find aggregate", after_unknown_time, after_error),
    Rule("find aggregate", snapshot, error(
        72, "InvalidOptions", "read concern level snapshot is only valid in a transaction"), before=(5,)),
    Rule("aggregate", missing_stats("storageStats"), error(40280, "", STATS % "storageStats"), before=(5,)),
    Rule("aggregate", missing_stats("count"), error(40481, "", STATS % "count"), before=(5,)),
    # create                                                            R "create: …"; S create.idl
    Rule("create", has("temp"), error(72, "InvalidOptions", "the 'temp' field is an invalid option")),
    Rule("create", lambda strict, request: request.body.get("autoIndexId") is False and ns_of(request), error(
        50001, "", "autoIndexId:false is not allowed for collection %s because it can be replicated")),
    Rule("create", unknown_create_field, error(40415, "", "BSON field 'create.%s' is an unknown field.")),
    Rule("create", create_over("view"), error(48, "NamespaceExists", "A view already exists. NS: %s")),
    Rule("create", create_over("collection"),
         error(17399, "", "Cannot create collection %s - collection already exists.")),
    Rule("create", exists_already, error(48, "NamespaceExists", "Collection already exists. NS: %s"),
         before=(7,), on="mongod"),
    Rule("create collMod", has("recordPreImages"), error(
        72, "InvalidOptions", "recordPreImages collection option is not supported on shards or config "
        "servers"), since=(4, 4), before=(6,), on="mongos"),
    # What a mongos lacks                                                             R handshake.jsonl
    Rule("replSetGetConfig", named, no_such, on="mongos"),
    Rule("appendOplogNote", named, no_such, before=(8,), on="mongos"),
    Rule("replSetGetStatus", named, no_code(
        "replSetGetStatus is not supported through mongos", info="mongos"), on="mongos"),
    Rule("getParameter", has("featureCompatibilityVersion"), no_code("no option found to get"), on="mongos"),
    Rule("find aggregate listCollections", lambda strict, request: request.database == "local" or None,
         error(20, "IllegalOperation", "Cannot access local database through mongos"), on="mongos"),
    Rule("collMod", has("recordPreImages"),
         error(40415, "", "BSON field 'collMod.%s' is an unknown field."), since=(6,)),
    Rule("collMod", has("changeStreamPreAndPostImages"),
         error(72, "InvalidOptions", "unknown option to collMod: %s"), before=(6,)),
    # drop, rename                                                          R "drop …", "rename …"
    Rule("drop", system_collection, error(20, "IllegalOperation", "can't drop system collection %s")),
    Rule("dropDatabase", internal_database,
         error(20, "IllegalOperation", "Dropping the '%s' database is prohibited.")),
    Rule("drop", is_missing, error(26, "NamespaceNotFound", "ns not found"), before=(7,)),
    Rule("renameCollection", renamed_view, error(166, "CommandNotSupportedOnView", "cannot rename view: %s")),
    Rule("renameCollection", renames_functions, error(
        20, "IllegalOperation", "renaming system.js collection or renaming to system.js is not allowed"), since=(6, 1)),
    Rule("renameCollection", rename_onto_view,
         error(48, "NamespaceExists", "a view already exists with that name: %s")),
    # views                                                                               R "view: …"
    Rule("createIndexes listIndexes dropIndexes convertToCapped dataSize collStats", is_view, VIEW),
    Rule("aggregate", view_stage, VIEW),
    Rule("find", on_view("min", "max"),
         error(168, "InvalidPipelineOperator", "Option %s not supported in aggregation.")),
    Rule("collMod", on_view("validator", "validationLevel", "validationAction"),
         error(72, "InvalidOptions", "option not supported on a view: %s")),
    # indexes                                                   R "createIndexes: …"; S create_indexes.cpp
    Rule("createIndexes", ttl_before_1970, error(67, "CannotCreateIndex", TTL), before=(6,)),
    Rule("createIndexes", collated_text, error(67, "CannotCreateIndex", "Index type '%s")),
    Rule("createIndexes", unknown_option, error(
        197, "InvalidIndexSpecificationOption", "The field '%s' is not valid for an index specification.")),
    # an index is being built                                                          R builds.jsonl
    Rule("collMod renameCollection convertToCapped", building, error(
        12587, "BackgroundOperationInProgressForNamespace",
        "cannot perform operation: an index build is currently running for collection '%s'")),
    Rule("dropIndexes", index_while_building, error(
        12587, "BackgroundOperationInProgressForNamespace",
        "cannot perform operation: an index build is currently running for collection '%s'")),
    # capped                                                                            R "capped: …"
    Rule("findAndModify", lambda strict, request: request.body.get("remove") and
         is_capped(strict, request),
         error(20, "IllegalOperation", "cannot remove from a capped collection: %s"), before=(5,)),
)

STATEMENTS = (
    Rule("insert update delete", is_view, VIEW),
    Rule("insert update delete", in_transaction, error(
        263, "OperationNotSupportedInTransaction",
        "Collection '%s' is a capped collection. Writes in transactions are not allowed on capped "
        "collections.")),
    Rule("insert", top_dollar, error(2, "BadValue", "Document can't have $ prefixed field names: %s"),
         before=(5,)),
    Rule("update", update_dollar, lambda found: failure(
        52, "DollarPrefixedFieldName",
        "The dollar ($) prefixed field '%s' in '%s' is not valid for storage." % found), before=(5,)),
    Rule("delete", is_capped, error(20, "IllegalOperation", "cannot remove from a capped collection: %s"),
         before=(5,)),
    Rule("update", other_size, lambda found: failure(
        10003, "CannotGrowDocumentInCappedNamespace",
        "Cannot change the size of a document in a capped collection: %d != %d" % found)),
)

SENT = (
    Rule("create collMod", has("recordPreImages"), pre_images_there, since=(4, 4), before=(6,)),
    Rule("create", has("autoIndexId", "flags"), without("autoIndexId", "flags")),
    Rule("find", has("oplogReplay"), without("oplogReplay")),  # ignored from 4.4 on
    Rule("collMod", has_nan, nan_is_zero),  # a "safe int": finding 4 of reviews/real-servers.md
    Rule("aggregate", opens_stream, stream_of_data),
)

ANSWERED = (
    Rule("buildInfo buildinfo", always, version_of),
    Rule("hello isMaster ismaster", always, hello_of),
    Rule("hello isMaster ismaster", always, hello_of_mongos, on="mongos"),
    Rule("insert update delete", always, written_through_mongos, on="mongos"),
    Rule("listDatabases", always, databases_of_cluster, on="mongos"),
    Rule("find", asks_for_cluster, cluster_of, on="mongos"),
    Rule("listCollections", always, collections_as_listed),
    Rule("createIndexes", always, nothing_built),
    Rule("createIndexes", always, raw_of_shards, on="mongos"),
    Rule("connectionStatus", by_roles, roles_of),
)
STATEMENTS_OF = {"insert": "documents", "update": "updates", "delete": "deletes"}


# Index specifications ------------------------------------------------------------------------------

def alike(one, other):
    """NaN is no number that equals itself."""
    return repr(one) == repr(other)


def known_options(strict, specification):
    """What a server keeps of a specification where unknown options are to be ignored. A TTL of NaN is no NaN
    from 6.0 on."""
    return SON((name, 2147483647 if is_nan(value) and strict.version >= (6,) else value)
               for name, value in specification.items() if name in INDEX_OPTIONS)


def as_listed(specification, collation):
    """As listIndexes of a real server shows it: R "listIndexes of plain", "… of it"."""
    listed = SON([("v", specification.get("v", 2))])
    key = specification["key"]
    if "text" in key.values():
        texts = [name for name, kind in key.items() if kind == "text" and name != "_fts"]
        place = SON((name, kind) for name, kind in key.items()
                    if kind != "text" and name not in ("_fts", "_ftsx"))
        listed["key"] = SON([*place.items(), ("_fts", "text"), ("_ftsx", 1)])
        listed["name"] = specification["name"]
        weights = {**{name: 1 for name in texts}, **specification.get("weights", {})}
        listed["weights"] = SON(sorted(weights.items()))
        listed["default_language"] = specification.get("default_language", "english")
        listed["language_override"] = specification.get("language_override", "language")
        listed["textIndexVersion"] = 3
        collation = None
    for name, value in specification.items():
        if name in INDEX_OPTIONS and name not in listed and name not in ("ns", "collation"):
            listed[name] = value
    own = specification.get("collation", collation)
    if own and own.get("locale") != "simple":
        listed["collation"] = own
    return listed
